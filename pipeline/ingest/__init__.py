"""Stage 1: from a dataset folder to checked, canonical cases on disk."""
