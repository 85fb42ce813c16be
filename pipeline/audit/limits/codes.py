"""Families E04, E10, E11, E13: what label values betray."""

from pipeline.core.config import StrictModel


class CodeLimits(StrictModel):
    """Families E04, E10, E11, E13: what label values betray."""
