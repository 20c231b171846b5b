"""``python -m benchmarks.studies.convert_images``."""

from benchmarks.studies.convert_images.study import main

if __name__ == "__main__":
    main()
