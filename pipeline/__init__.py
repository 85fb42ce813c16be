"""Voxline: from a folder of labelled 3D volumes to a trained, measured segmentation model."""
