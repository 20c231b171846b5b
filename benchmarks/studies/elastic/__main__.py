"""``python -m benchmarks.studies.elastic``."""

from benchmarks.studies.elastic.study import main

if __name__ == "__main__":
    main()
