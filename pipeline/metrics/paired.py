"""Is run B better than run A on the same cases: differences, intervals and tests.

Everything works on arrays of one metric, one row per case and one column per class; NaN marks a
case without a value. The unit that is resampled and whose sign is flipped is the patient.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float64
from scipy import stats

from pipeline.metrics.bootstrap import (
    BATCH_VALUES,
    MAX_PATIENTS_FOR_T,
    ROUNDING,
    Resamples,
    column_mean,
    group_sums,
    mean_interval,
    t_interval,
)

# Below 6 patients even a perfect result has a two-sided p above .05 (2 / 2**5 = .0625).
MIN_PATIENTS_FOR_TEST = 6
# 2**14 sign patterns are enumerated; beyond that they are drawn.
MAX_PATIENTS_FOR_EXACT = 14
N_SIGN_FLIPS = 10_000
# Scores closer than this are a tie; a Dice of 8 printed digits carries no more.
TIE = 1e-7


@dataclass(frozen=True)
class PairedDifference:
    """What separates run B from run A; positive differences mean that B has the larger values.

    Args:
        n: Cases in which both runs have a value in at least one column.
        n_patients: Patients these cases come from.
        n_only_a: Values that A has and B lacks; they are in no difference.
        n_only_b: Values that B has and A lacks.
        mean: Mean difference B - A: over cases, then over columns; None without pairs.
        median: Median over cases of the difference, averaged over columns within a case.
        ci95: Bootstrap interval of the mean, resampling patients.
        t95: Student t interval of the patients' mean difference, for fewer than 20 patients.
        p_sign_flip: Two-sided p of the mean; None below `MIN_PATIENTS_FOR_TEST` patients.
        is_exact: All sign patterns were counted, not a sample of them.
        p_wilcoxon: Two-sided p of Wilcoxon's signed-rank test, as a second opinion.
        n_wins: Cases in which B is better.
        n_ties: Cases in which they are equal.
        n_losses: Cases in which A is better.
        rank_biserial: Effect size in [-1, 1]; 1 if B is better in every patient.
    """

    n: int
    n_patients: int
    n_only_a: int
    n_only_b: int
    mean: float | None
    median: float | None
    ci95: tuple[float, float] | None
    t95: tuple[float, float] | None
    p_sign_flip: float | None
    is_exact: bool
    p_wilcoxon: float | None
    n_wins: int
    n_ties: int
    n_losses: int
    rank_biserial: float | None

    @property
    def is_too_small(self) -> bool:
        """Whether there are too few patients for any test to show anything."""
        return self.n_patients < MIN_PATIENTS_FOR_TEST


def paired_difference(
    a: Float64[np.ndarray, "case column"],
    b: Float64[np.ndarray, "case column"],
    resamples: Resamples,
    *,
    is_higher_better: bool,
    rng: np.random.Generator,
) -> PairedDifference:
    """Compare two runs on the same cases.

    Several columns are compared as one number: the mean over columns of the mean over cases, as a
    foreground mean over classes is made.

    Args:
        a: Values of run A; NaN is missing.
        b: Values of run B, same cases and classes.
        resamples: Draws of the patients of these cases; also says which cases belong together.
        is_higher_better: Direction of the metric.
        rng: Random numbers for drawing sign patterns.

    Returns:
        The comparison.
    """
    difference = b - a
    differences = _case_means(difference)
    is_pair = np.isfinite(differences)
    # Patients count once in tests, whichever number of scans they have.
    patients = _patient_means(differences, resamples)
    n_patients = int(patients.size)
    direction = 1.0 if is_higher_better else -1.0
    signs = _signs(differences[is_pair]) * direction
    p_sign_flip, is_exact = _sign_flip(difference, resamples, rng)
    return PairedDifference(
        n=int(is_pair.sum()),
        n_patients=n_patients,
        n_only_a=int((np.isfinite(a) & ~np.isfinite(b)).sum()),
        n_only_b=int((np.isfinite(b) & ~np.isfinite(a)).sum()),
        mean=column_mean(difference),
        median=float(np.median(differences[is_pair])) if is_pair.any() else None,
        ci95=mean_interval(difference, resamples) if n_patients > 2 else None,
        t95=t_interval(difference, resamples) if 2 < n_patients <= MAX_PATIENTS_FOR_T else None,
        p_sign_flip=p_sign_flip if n_patients >= MIN_PATIENTS_FOR_TEST else None,
        is_exact=is_exact,
        p_wilcoxon=wilcoxon_p(patients) if n_patients >= MIN_PATIENTS_FOR_TEST else None,
        n_wins=int((signs > 0).sum()),
        n_ties=int((signs == 0).sum()),
        n_losses=int((signs < 0).sum()),
        rank_biserial=rank_biserial(direction * patients) if n_patients else None,
    )


def sign_flip_p(
    weights: Float64[np.ndarray, "patient"], rng: np.random.Generator
) -> tuple[float, bool]:
    """Two-sided p that the sum of these contributions is 0, if each could as well be negative.

    Args:
        weights: What each patient adds to the mean difference; patients without any add 0.
        rng: Random numbers, used beyond `MAX_PATIENTS_FOR_EXACT` contributions that are not 0.

    Returns:
        The p value, and whether every sign pattern was counted. A drawn p is never 0: the
        observed pattern is one of the draws.

    Source:
        Fisher's randomization test for pairs; the +1 after Phipson and Smyth 2010.
    """
    # A patient without a difference is the same under both signs.
    weights = weights[np.abs(weights) > ROUNDING * np.abs(weights).max(initial=0.0)]
    observed = abs(float(weights.sum())) * (1 - 1e-9)
    n = weights.size
    if n <= MAX_PATIENTS_FOR_EXACT:
        patterns = np.array(list(product((-1.0, 1.0), repeat=n))).reshape(2**n, n)
        return float((np.abs(patterns @ weights) >= observed).mean()), True
    n_extreme, step = 0, max(1, BATCH_VALUES // n)
    for start in range(0, N_SIGN_FLIPS, step):
        shape = (min(step, N_SIGN_FLIPS - start), n)
        is_positive = rng.integers(0, 2, size=shape, dtype=np.uint8).astype(np.float64)
        sums = 2 * (is_positive @ weights) - weights.sum()
        n_extreme += int((np.abs(sums) >= observed).sum())
    return (n_extreme + 1) / (N_SIGN_FLIPS + 1), False


def wilcoxon_p(differences: Float64[np.ndarray, "patient"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; ties of the two runs split evenly.

    Args:
        differences: One per patient, without NaN.

    Returns:
        The p value; 1 if nothing differs.
    """
    differences = np.where(_signs(differences) == 0, 0.0, differences)
    if not differences.any():
        return 1.0
    # Equal up to rounding must rank equal.
    return float(stats.wilcoxon(np.round(differences, 12), zero_method="zsplit").pvalue)


def rank_biserial(differences: Float64[np.ndarray, "patient"]) -> float:
    """Matched-pairs rank-biserial correlation: rank sums for and against, as a share of all.

    Args:
        differences: One per patient, without NaN; positive speaks for B.

    Returns:
        A value in [-1, 1]; 0 if nothing differs.

    Source:
        Kerby 2014, the simple difference formula; pairs without a difference are left out.
    """
    signs = _signs(differences)
    differences, signs = differences[signs != 0], signs[signs != 0]
    if not differences.size:
        return 0.0
    ranks = stats.rankdata(np.round(np.abs(differences), 12))
    return float((ranks * signs).sum() / ranks.sum())


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Correct p values for having looked at several, after Holm 1979.

    Args:
        p_values: One per class; None was not tested and does not count.

    Returns:
        Corrected values in the same order, at most 1.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = largest
    return tuple(corrected)


def _sign_flip(
    difference: Float64[np.ndarray, "case column"],
    resamples: Resamples,
    rng: np.random.Generator,
) -> tuple[float | None, bool]:
    sums, counts = group_sums(difference, resamples.group_of_case)
    n_values = counts.sum(axis=0)
    is_used = n_values > 0
    if not is_used.any():
        return None, True
    # The mean over columns of column means is a sum over patients of these contributions.
    weights = (sums[:, is_used] / n_values[is_used]).mean(axis=1)
    return sign_flip_p(weights, rng)


def _case_means(difference: Float64[np.ndarray, "case column"]) -> Float64[np.ndarray, "case"]:
    """Mean over the columns with a value of every case; NaN where there is none."""
    is_there = np.isfinite(difference)
    n_values = is_there.sum(axis=1)
    sums = np.where(is_there, difference, 0.0).sum(axis=1)
    return np.divide(sums, n_values, out=np.full(len(sums), math.nan), where=n_values > 0)


def _patient_means(
    differences: Float64[np.ndarray, "case"], resamples: Resamples
) -> Float64[np.ndarray, "patient"]:
    """Mean difference of every patient who has one."""
    sums, counts = group_sums(differences[:, np.newaxis], resamples.group_of_case)
    is_there = counts[:, 0] > 0
    return sums[is_there, 0] / counts[is_there, 0]


def _signs(differences: Float64[np.ndarray, "value"]) -> Float64[np.ndarray, "value"]:
    """-1, 0 or 1; 0 for a tie."""
    return np.where(np.abs(differences) <= TIE, 0.0, np.sign(differences))
