"""``python -m benchmarks.studies.ensemble``."""

from benchmarks.studies.ensemble.study import main

if __name__ == "__main__":
    main()
