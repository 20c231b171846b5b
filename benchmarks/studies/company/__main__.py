"""``python -m benchmarks.studies.company``."""

from benchmarks.studies.company.study import main

if __name__ == "__main__":
    main()
