"""Families G06 and G09-G14: shape of the grid, place of the label on it."""

from pipeline.core.config import StrictModel


class GridLimits(StrictModel):
    """Families G06 and G09-G14: shape of the grid, place of the label on it."""
