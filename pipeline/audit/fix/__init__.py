"""`voxline audit --fix`: a corrected copy of a dataset; the source is never touched."""
