"""A volume as 16 x 16 x 16 ranks, made so that copies of one scan have nearly the same."""

import base64

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8

_SIDE = 16
# Longer axes are sampled at this many places, shorter ones are used whole.
_MAX_SAMPLES = 128
# Values closer than this share of the range count as equal: noise in the air must not become
# ranks, which would make strangers of two copies of a scan with much air.
_N_LEVELS = 32
_RANGE_PERCENT = (1.0, 99.0)
# Means of equal voxels differ by less than this share.
_ROUNDING = 1e-9
# Keeps sums of values finite.
_MAX_VALUE = 1e30


def make_thumbnail(channel: Real[np.ndarray, "i j k"]) -> str:
    """Ranks of the block means of a volume, which survive resampling, noise and new units.

    Args:
        channel: One image channel, axes to R, A, S. Voxels that are not finite are left out.

    Returns:
        4096 bytes in base64, C order; empty if an axis is shorter than 16 voxels.
    """
    if min(channel.shape) < _SIDE:
        return ""
    places = [_places(n) for n in channel.shape]
    some = channel[np.ix_(*places)].astype(np.float64)
    is_finite = np.isfinite(some)
    values = np.where(is_finite, some.clip(-_MAX_VALUE, _MAX_VALUE), 0.0)
    means, is_known = _block_means(values, is_finite)
    levels = _levels(means, is_known)
    return base64.b64encode(_ranks(levels).tobytes()).decode("ascii")


def _places(n_voxels: int) -> Int[np.ndarray, " n"]:
    n = min(n_voxels, _MAX_SAMPLES)
    return np.floor((np.arange(n) + 0.5) * n_voxels / n).astype(np.int64)


def _block_means(
    values: Float[np.ndarray, "i j k"], is_finite: Bool[np.ndarray, "i j k"]
) -> tuple[Float[np.ndarray, "16 16 16"], Bool[np.ndarray, "16 16 16"]]:
    """Means over 16 equal parts per axis, and which parts hold a finite voxel."""
    sums = values
    for axis in range(3):
        sums = _part_means(sums, axis)
    if bool(is_finite.all()):
        return sums, np.ones_like(sums, dtype=bool)
    weights = is_finite.astype(np.float64)
    for axis in range(3):
        weights = _part_means(weights, axis)
    is_known = weights > 0
    return sums / np.where(is_known, weights, 1.0), is_known


def _part_means(values: Float[np.ndarray, "i j k"], axis: int) -> Float[np.ndarray, "pi pj pk"]:
    """Means of 16 equal parts of one axis; a voxel on a border counts in both by its share.

    With whole voxels instead, a copy of another size would have other parts.
    """
    n_voxels = values.shape[axis]
    edges = np.arange(_SIDE + 1) * n_voxels / _SIDE
    starts = np.arange(n_voxels)[None, :]
    shares = (np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)).clip(
        min=0.0
    )
    parts = np.tensordot(shares * _SIDE / n_voxels, values, axes=(1, axis))
    return np.moveaxis(parts, 0, axis)


def _levels(
    means: Float[np.ndarray, "i j k"], is_known: Bool[np.ndarray, "i j k"]
) -> Float[np.ndarray, " n"]:
    """Means in coarse steps of their range; parts that are not known lie in the middle."""
    known = np.sort(means[is_known])
    if not known.size:
        return np.zeros(means.size)
    low, high = (float(p) for p in np.percentile(known, _RANGE_PERCENT))
    step = (high - low) / _N_LEVELS
    if step <= _ROUNDING * max(abs(low), abs(high)):
        return np.zeros(means.size)
    filled = np.where(is_known, means, np.median(known)).ravel()
    return np.rint((filled - _densest(known, step)) / step)


def _densest(rising: Float[np.ndarray, " n"], width: float) -> float:
    """Middle of the values that crowd most, mostly air: it must not lie between two levels."""
    stops = np.searchsorted(rising, rising + width, side="right")
    start = int(np.argmax(stops - np.arange(rising.size)))
    return float(np.median(rising[start : stops[start]]))


def _ranks(levels: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """Ranks from 0 to 255; equal values share their middle rank."""
    _, inverse, counts = np.unique(levels, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.rint(middle[inverse] * 255 / (levels.size - 1)).astype(np.uint8)
