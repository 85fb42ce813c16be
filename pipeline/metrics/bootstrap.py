"""How sure a mean is: resampling patients, the same draws for every metric and class.

Several scans of one patient are not several patients, so a resample takes patients with all their
scans. A mean over missing values is a ratio of two sums; both are linear in how often each patient
was drawn, which makes ten thousand resamples of all classes two matrix products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt16
from scipy import stats

CONFIDENCE = 0.95
# Bounds the memory of the resampling: 2**22 float64 are 32 MB.
BATCH_VALUES = 2**22
# Bootstrap intervals of fewer patients are too narrow; Student's t stands beside them.
MAX_PATIENTS_FOR_T = 19
# Two ways to sum the same numbers differ by less than this, relative to the sum.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Resamples:
    """Draws of patients with replacement.

    Args:
        group_of_case: Index of the patient of every case.
        counts: How often each patient was drawn, shape (resample, group).
    """

    group_of_case: Int64[np.ndarray, "case"]
    counts: UInt16[np.ndarray, "resample group"]

    @property
    def n_groups(self) -> int:
        """Number of patients."""
        return int(self.counts.shape[1])


def draw_resamples(
    groups: Sequence[str], *, n_resamples: int, rng: np.random.Generator
) -> Resamples:
    """Draw patients with replacement.

    Args:
        groups: Patient of every case; all different where every case is a patient.
        n_resamples: Number of draws; 0 for none.
        rng: Random numbers.

    Returns:
        The draws, to be used for every mean over these cases.
    """
    group_of_case = group_index(groups)
    n_groups = int(group_of_case.max()) + 1 if group_of_case.size else 0
    counts = np.zeros((n_resamples, n_groups), dtype=np.uint16)
    step = max(1, BATCH_VALUES // max(1, n_groups))
    for start in range(0, n_resamples if n_groups else 0, step):
        part = counts[start : start + step]
        drawn = rng.integers(0, n_groups, size=part.shape)
        drawn += n_groups * np.arange(len(part))[:, np.newaxis]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    return Resamples(group_of_case, counts)


def group_index(groups: Sequence[str]) -> Int64[np.ndarray, "case"]:
    """Number the patients in the order in which they first occur."""
    index: dict[str, int] = {}
    return np.array([index.setdefault(name, len(index)) for name in groups], dtype=np.int64)


def group_sums(
    values: Float64[np.ndarray, "case column"], group_of_case: Int64[np.ndarray, "case"]
) -> tuple[Float64[np.ndarray, "group column"], Float64[np.ndarray, "group column"]]:
    """Sum of the values, and number of values, of every patient.

    Args:
        values: One row per case; NaN is missing and adds nothing.
        group_of_case: Index of the patient of every case.

    Returns:
        Sums and counts.
    """
    n_groups = int(group_of_case.max()) + 1 if group_of_case.size else 0
    sums = np.zeros((n_groups, values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, group_of_case, np.nan_to_num(values, nan=0.0))
    np.add.at(counts, group_of_case, np.isfinite(values).astype(np.float64))
    return sums, counts


def column_mean(values: Float64[np.ndarray, "case column"]) -> float | None:
    """Mean over columns of the mean over cases; a column without any value is left out.

    Args:
        values: NaN is missing.

    Returns:
        The mean; None if there is no value at all.
    """
    n_values = np.isfinite(values).sum(axis=0)
    if not n_values.any():
        return None
    sums = np.nan_to_num(values, nan=0.0).sum(axis=0)
    return float((sums[n_values > 0] / n_values[n_values > 0]).mean())


def mean_interval(
    values: Float64[np.ndarray, "case column"], resamples: Resamples
) -> tuple[float, float] | None:
    """95 % interval of `column_mean`: BCa, percentile where BCa has no answer.

    Args:
        values: One row per case, one column per class; NaN is missing.
        resamples: Draws of the patients of these cases.

    Returns:
        Lower and upper bound; None without resamples or without values.

    Source:
        Efron 1987, bias-corrected and accelerated bootstrap; agrees with scipy.stats.bootstrap
        within the noise of resampling (tests/metrics/test_bootstrap.py).
    """
    estimate = column_mean(values)
    if estimate is None or not len(resamples.counts):
        return None
    sums, counts = group_sums(values, resamples.group_of_case)
    is_used = counts.sum(axis=0) > 0
    sums, counts = sums[:, is_used], counts[:, is_used]
    if _is_constant(sums, counts):
        return estimate, estimate
    return _interval(sums, counts, _resampled_means(sums, counts, resamples.counts), estimate)


def mean_intervals(
    values: Float64[np.ndarray, "case column"], resamples: Resamples
) -> tuple[tuple[float, float] | None, ...]:
    """`mean_interval` of every column on its own, faster than one after the other.

    Args:
        values: One row per case; NaN is missing.
        resamples: Draws of the patients of these cases.

    Returns:
        Bounds per column.
    """
    sums, counts = group_sums(values, resamples.group_of_case)
    drawn = _resampled_columns(sums, counts, resamples.counts)
    found: list[tuple[float, float] | None] = []
    for column in range(values.shape[1]):
        one = slice(column, column + 1)
        estimate = column_mean(values[:, one])
        if estimate is None or not len(resamples.counts):
            found.append(None)
        elif _is_constant(sums[:, one], counts[:, one]):
            found.append((estimate, estimate))
        else:
            found.append(_interval(sums[:, one], counts[:, one], drawn[:, column], estimate))
    return tuple(found)


def _interval(
    sums: Float64[np.ndarray, "group column"],
    counts: Float64[np.ndarray, "group column"],
    drawn: Float64[np.ndarray, "resample"],
    estimate: float,
) -> tuple[float, float] | None:
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return None
    jackknife = _means(sums.sum(axis=0) - sums, counts.sum(axis=0) - counts)
    low, high = np.quantile(drawn, _bca_levels(drawn, estimate, jackknife))
    return float(low), float(high)


def t_interval(
    values: Float64[np.ndarray, "case column"], resamples: Resamples
) -> tuple[float, float] | None:
    """95 % Student t interval of `column_mean`, for fewer than about 20 patients.

    It may reach beyond the range of the metric; that is a sign of too few values, not a defect.

    Args:
        values: One row per case, one column per class; NaN is missing.
        resamples: Says which cases are of one patient.

    Returns:
        Lower and upper bound; None below 2 patients with values.

    Source:
        Jackknife standard error, leaving out one patient at a time (Tukey 1958); for one value
        per patient this is the ordinary t interval of a mean.
    """
    estimate = column_mean(values)
    sums, counts = group_sums(values, resamples.group_of_case)
    is_known = counts.sum(axis=1) > 0
    sums, counts = sums[is_known], counts[is_known]
    n = len(sums)
    if estimate is None or n < 2:
        return None
    left_out = _means(sums.sum(axis=0) - sums, counts.sum(axis=0) - counts)
    error = float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    return estimate - half, estimate + half


def _resampled_means(
    sums: Float64[np.ndarray, "group column"],
    counts: Float64[np.ndarray, "group column"],
    drawn: UInt16[np.ndarray, "resample group"],
) -> Float64[np.ndarray, "resample"]:
    means = np.empty(len(drawn))
    step = max(1, BATCH_VALUES // drawn.shape[1])
    for start in range(0, len(drawn), step):
        weights = drawn[start : start + step].astype(np.float64)
        means[start : start + step] = _means(weights @ sums, weights @ counts)
    return means


def _resampled_columns(
    sums: Float64[np.ndarray, "group column"],
    counts: Float64[np.ndarray, "group column"],
    drawn: UInt16[np.ndarray, "resample group"],
) -> Float64[np.ndarray, "resample column"]:
    """Mean of every column in every resample; NaN where a resample has no value."""
    means = np.full((len(drawn), sums.shape[1]), np.nan)
    step = max(1, BATCH_VALUES // max(1, drawn.shape[1]))
    for start in range(0, len(drawn), step):
        weights = drawn[start : start + step].astype(np.float64)
        n_values = weights @ counts
        np.divide(weights @ sums, n_values, out=means[start : start + step], where=n_values > 0)
    return means


def _means(
    sums: Float64[np.ndarray, "row column"], counts: Float64[np.ndarray, "row column"]
) -> Float64[np.ndarray, "row"]:
    """Mean over the columns that have values, of every row; NaN where none has."""
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    n_columns = (counts > 0).sum(axis=1)
    total = means.sum(axis=1)
    return np.divide(total, n_columns, out=np.full(len(total), np.nan), where=n_columns > 0)


def _is_constant(
    sums: Float64[np.ndarray, "group column"], counts: Float64[np.ndarray, "group column"]
) -> bool:
    """Whether every patient has the same mean in each column: then no draw changes anything."""
    means = sums.sum(axis=0) / counts.sum(axis=0)
    return bool(np.allclose(sums, means * counts, rtol=ROUNDING, atol=ROUNDING))


def _bca_levels(
    drawn: Float64[np.ndarray, "resample"],
    estimate: float,
    jackknife: Float64[np.ndarray, "group"],
) -> tuple[float, float]:
    """Quantiles of the resampled means that bound the interval."""
    alpha = (1 - CONFIDENCE) / 2
    is_same = np.isclose(drawn, estimate, rtol=ROUNDING, atol=ROUNDING)
    below = float(((drawn < estimate) & ~is_same).mean() + is_same.mean() / 2)
    jackknife = jackknife[np.isfinite(jackknife)]
    deviations = jackknife.mean() - jackknife if jackknife.size else np.zeros(1)
    spread = float((deviations**2).sum())
    if not 0 < below < 1 or spread <= 0:
        return alpha, 1 - alpha
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    bias = float(stats.norm.ppf(below))
    levels = []
    for level in (alpha, 1 - alpha):
        shifted = bias + float(stats.norm.ppf(level))
        denominator = 1 - acceleration * shifted
        if denominator <= 0:
            return alpha, 1 - alpha
        levels.append(float(stats.norm.cdf(bias + shifted / denominator)))
    return levels[0], levels[1]
