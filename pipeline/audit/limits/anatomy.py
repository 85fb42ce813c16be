"""Family S: sizes, pieces, places and neighbors of the structures."""

from pipeline.core.config import StrictModel


class AnatomyLimits(StrictModel):
    """Family S: sizes, pieces, places and neighbors of the structures."""
