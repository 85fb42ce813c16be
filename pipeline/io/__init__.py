"""Reading and writing files: NIfTI bytes, other formats, the case store, dataset folders."""
