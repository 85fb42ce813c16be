"""How well the label border follows the image edges."""

import numpy as np
from jaxtyping import Integer, Real

from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measures import AlignmentProfile


def measure_alignment(
    image: Real[np.ndarray, "i j k"], label: Integer[np.ndarray, "i j k"], limits: GridLimits
) -> AlignmentProfile | None:
    """To be written."""
    return None
