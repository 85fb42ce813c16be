"""Where the patient is, in a prepared image whose air is known."""

import math

import numpy as np
from jaxtyping import Bool, Float

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.core.geometry import Shape3

Box = tuple[slice, slice, slice]

# Halfway between air (-1000 HU) and water: skin is above it, noise of air is not.
_AIR_HU = -500.0
# Where clipping starts above that, what is within 1 % of the range above the clip is still air.
_CLIP_SLACK_FRACTION = 0.01
# Resampling rings around the zeros of a masked image; a brain is far above this many SDs.
_ZERO_SLACK = 1e-3
# Air kept around the body, so that the skin is not seen at the very face of a window.
MARGIN_MM = 20.0


def body_box(image: Float[np.ndarray, "channel i j k"], preprocessing: Preprocessing) -> Box:
    """The box of the patient with a margin of air; everything outside is background.

    Air is known in CT (below -500 HU, or clipped away) and in masked images (exactly 0). With a
    channel of any other kind, and where nothing but air is found, the box is the whole image.

    Args:
        image: Prepared image, shape (channel, i, j, k).
        preprocessing: What was done to it.

    Returns:
        Voxels along i, j, k.
    """
    shape = image.shape[1], image.shape[2], image.shape[3]
    if any(n.kind == "zscore" for n in preprocessing.normalizations):
        return whole_box(shape)
    occupied = [np.zeros(n, dtype=bool) for n in shape]
    for values, normalization in zip(image, preprocessing.normalizations, strict=True):
        # Plane by plane: a mask of the whole volume is not needed.
        for i, plane in enumerate(values):
            is_body = _is_body(plane, normalization)
            occupied[0][i] |= is_body.any()
            occupied[1] |= is_body.any(axis=1)
            occupied[2] |= is_body.any(axis=0)
    if not occupied[0].any():
        return whole_box(shape)
    margins = [math.ceil(MARGIN_MM / mm) for mm in preprocessing.spacing_mm]
    box = [_range(axis, margin) for axis, margin in zip(occupied, margins, strict=True)]
    return box[0], box[1], box[2]


def whole_box(shape: Shape3) -> Box:
    """Every voxel."""
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def _is_body(
    plane: Float[np.ndarray, "j k"], normalization: Normalization
) -> Bool[np.ndarray, "j k"]:
    if normalization.kind == "zscore_nonzero":
        return np.abs(plane) > _ZERO_SLACK
    span = normalization.upper - normalization.lower
    limit_hu = max(_AIR_HU, normalization.lower + _CLIP_SLACK_FRACTION * span)
    return plane > (limit_hu - normalization.mean) / normalization.std


def _range(is_occupied: Bool[np.ndarray, " n"], margin: int) -> slice:
    places = np.flatnonzero(is_occupied)
    return slice(
        max(0, int(places[0]) - margin), min(len(is_occupied), int(places[-1]) + 1 + margin)
    )
