"""Families F11-F14: image values and the second reader."""

from pipeline.core.config import StrictModel


class ImageLimits(StrictModel):
    """Families F11-F14: image values and the second reader."""
