"""The values of one image channel."""

from math import gcd

import numpy as np
from jaxtyping import Float, Integer, Real

from pipeline.audit.measure.thumbnail import make_thumbnail
from pipeline.audit.measures import LEVELS, ChannelMeasures

# Quantiles and the histogram are read off this many voxels at most.
_MAX_SAMPLE = 1 << 20
_N_BINS = 512
# The histogram spans these quantiles, so that a few metal or padding voxels do not coarsen it.
_RANGE_LEVELS = (0.005, 0.995)
# Values beyond this are no intensities; the bound keeps sums of squares finite.
_MAX_VALUE = 1e150

_Values = Real[np.ndarray, " n"]


def measure_channel(channel: Real[np.ndarray, "i j k"]) -> ChannelMeasures:
    """Describe the values of one image channel.

    Extremes and their shares are exact; everything else is read off an even sample of at most a
    million voxels. Voxels that are not finite are left out.

    Args:
        channel: Shape (i, j, k), any real number type.

    Returns:
        The measures, in the units of the image; all zero if no voxel is finite.

    Source:
        Threshold between air and body: Otsu 1979, largest variance between two classes.
    """
    flat = _finite(channel)
    if flat.size == 0:
        return _nothing()
    low, high = flat.min(), flat.max()
    sample = _bounded(flat[:: _even_step(flat.size, channel.shape[2])])
    quantiles = np.quantile(sample, LEVELS)
    quantiles[0], quantiles[-1] = _bounded(np.array([low, high]))
    mode, threshold = _mode_and_threshold(sample)
    return ChannelMeasures(
        quantiles=tuple(float(q) for q in quantiles),
        mean=float(sample.mean()),
        std=float(sample.std()),
        minimum_share=float(np.count_nonzero(flat == low) / flat.size),
        maximum_share=float(np.count_nonzero(flat == high) / flat.size),
        mode=mode,
        body_threshold=threshold,
        thumbnail=make_thumbnail(channel),
    )


def _nothing() -> ChannelMeasures:
    return ChannelMeasures(
        quantiles=(0.0,) * len(LEVELS),
        mean=0.0,
        std=0.0,
        minimum_share=0.0,
        maximum_share=0.0,
        mode=0.0,
        body_threshold=0.0,
        thumbnail="",
    )


def _finite(channel: Real[np.ndarray, "i j k"]) -> _Values:
    flat = channel.reshape(-1)
    # The smallest and largest value tell of NaN and infinity without a mask of the volume.
    if flat.size == 0 or (np.isfinite(flat.min()) and np.isfinite(flat.max())):
        return flat
    return flat[np.isfinite(flat)]


def _even_step(n_voxels: int, n_row: int) -> int:
    """Distance of sampled voxels; no common divisor with a row, so that all columns are met."""
    step = -(-n_voxels // _MAX_SAMPLE)
    while gcd(step, n_row) > 1:
        step += 1
    return step


def _bounded(values: Real[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.clip(values.astype(np.float64), -_MAX_VALUE, _MAX_VALUE)


def _mode_and_threshold(sample: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The most frequent value and the Otsu threshold, from one histogram."""
    low, high = (float(q) for q in np.quantile(sample, _RANGE_LEVELS))
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return low, low
    counts, edges = np.histogram(sample, bins=_N_BINS, range=(low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    fullest = int(counts.argmax())
    inside = sample[(sample >= edges[fullest]) & (sample <= edges[fullest + 1])]
    # The median of the bin is the value itself where integers share a bin with nothing else.
    return float(np.median(inside)), _otsu(counts, centers)


def _otsu(counts: Integer[np.ndarray, " n"], centers: Float[np.ndarray, " n"]) -> float:
    weights = counts / counts.sum()
    below = np.cumsum(weights)[:-1]
    moment = np.cumsum(weights * centers)
    spread = (moment[-1] * below - moment[:-1]) ** 2 / np.maximum(below * (1 - below), 1e-12)
    # Between two separate peaks every threshold is as good; the middle of them is the safest.
    best = np.flatnonzero(spread >= spread.max() * (1 - 1e-9))
    cut = int(best[best.size // 2])
    return float((centers[cut] + centers[cut + 1]) / 2)
