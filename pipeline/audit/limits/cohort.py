"""Family D and G11: what only shows over all cases."""

from pipeline.core.config import StrictModel


class CohortLimits(StrictModel):
    """Family D and G11: what only shows over all cases."""
