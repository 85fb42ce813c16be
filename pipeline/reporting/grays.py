"""Which intensities of an image become black and white."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Real, UInt8

# Below this a volume with air can only be CT; its tissue would drown in the gray range of air.
AIR_HU = -500.0
# A few hundred thousand voxels give the same percentiles and keep big volumes quick.
_N_SAMPLES = 300_000


@dataclass(frozen=True)
class Grays:
    """The gray range of one image.

    Args:
        low: Intensity drawn black.
        high: Intensity drawn white.
        empty_up_to: Intensity up to which there is nothing to see.
    """

    low: float
    high: float
    empty_up_to: float


def gray_range(image: Real[np.ndarray, "i j k"]) -> Grays:
    """Gray range: 1st to 99th percentile of the finite voxels, of tissue only if air abounds.

    Args:
        image: Intensities, shape (i, j, k).

    Returns:
        The range; high is always above low.
    """
    step = max(1, round((image.size / _N_SAMPLES) ** (1 / 3)))
    values = image[::step, ::step, ::step].astype(np.float64).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Grays(0.0, 1.0, 0.0)
    lowest = float(values.min())
    floor = AIR_HU if np.percentile(values, 1) < AIR_HU else lowest
    inside = values[values > floor]
    # One value filling a quarter of the volume is padding or air, not anatomy.
    has_air = values.size // 100 < inside.size < 0.75 * values.size
    low, high = (float(v) for v in np.percentile(inside if has_air else values, (1, 99)))
    if high <= low:
        # A constant needs a width that survives rounding, however large it is.
        half = max(0.5, 1e-3 * abs(low))
        low, high = low - half, low + half
    return Grays(low, high, floor if has_air else low + 0.1 * (high - low))


def as_bytes(image: Real[np.ndarray, "i j k"], grays: Grays) -> UInt8[np.ndarray, "i j k"]:
    """Map intensities to 0 (black) to 255 (white); what is not finite becomes black.

    Args:
        image: Intensities, shape (i, j, k).
        grays: The range.

    Returns:
        Array of the same shape.
    """
    finite = np.nan_to_num(
        image.astype(np.float64), nan=grays.low, posinf=grays.high, neginf=grays.low
    )
    scaled = (finite - grays.low) * (255.0 / (grays.high - grays.low))
    return np.rint(scaled.clip(0.0, 255.0)).astype(np.uint8)
