"""``python -m pipeline`` is ``voxline``."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
