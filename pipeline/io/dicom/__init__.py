"""DICOM: series of slices to volumes, DICOM-SEG and RTSTRUCT to label maps, label maps to SEG."""
