"""How far a value stands out, measured so that the outliers themselves do not hide it."""

import numpy as np
from jaxtyping import Float, Int

# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL_MAD = 0.6745


def robust_center(values: Float[np.ndarray, " n"], floor: float) -> tuple[float, float]:
    """Median and robust standard deviation.

    Args:
        values: Finite values, at least one.
        floor: Smallest median absolute deviation that is believed; keeps a cohort of equal values
            from making an outlier of a rounding error.

    Returns:
        Median, and median absolute deviation / 0.6745, both in the unit of the values.

    Source:
        Iglewicz and Hoaglin 1993, modified z-score.
    """
    median = float(np.median(values))
    deviation = float(np.median(np.abs(values - median)))
    return median, max(deviation, floor) / _NORMAL_MAD


def robust_z(values: Float[np.ndarray, " n"], floor: float) -> Float[np.ndarray, " n"]:
    """Signed distance of each value from the median, in robust standard deviations.

    Args:
        values: Finite values, at least one.
        floor: As in `robust_center`.

    Returns:
        Robust z of each value, without unit.
    """
    median, spread = robust_center(values, floor)
    return (values - median) / spread


def gap_clusters(values: Float[np.ndarray, " n"], min_gap: float) -> Int[np.ndarray, " n"]:
    """Number the groups of values that a gap separates, in rising order from 0.

    Args:
        values: Finite values, at least one.
        min_gap: Neighbors that lie further apart than this belong to two groups.

    Returns:
        Group of each value.
    """
    order = np.argsort(values, kind="stable")
    is_new = np.diff(values[order], prepend=values[order[0]]) > min_gap
    clusters = np.empty(values.size, dtype=np.int64)
    clusters[order] = np.cumsum(is_new)
    return clusters
