"""Which of several runs is best, and whether other patients would have said the same.

Two ways to rank are common and can disagree: average the scores and rank the means, or rank the
runs within every case and average the ranks. Resampling cases shows how firm a ranking is.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt16
from scipy import stats

from pipeline.core.errors import DataError
from pipeline.metrics.bootstrap import BATCH_VALUES, Resamples, group_sums

RankingMethod = Literal["aggregate_then_rank", "rank_then_aggregate"]


@dataclass(frozen=True)
class Ranking:
    """How runs rank, and how often over resamples of patients.

    Args:
        method: How case scores became ranks.
        values: What was ranked: the mean score, or the mean rank, of every run.
        ranks: Rank of every run, 1 is best; runs that tie share the lower number.
        frequencies: Share of resamples in which a run (row) took a rank (column), rank 1 first.
        kendall_tau: Mean rank correlation of the resampled rankings with this one, in [-1, 1].
        kendall_tau_low: Its 2.5 % quantile: how different the ranking can be.
    """

    method: RankingMethod
    values: tuple[float, ...]
    ranks: tuple[int, ...]
    frequencies: tuple[tuple[float, ...], ...]
    kendall_tau: float | None
    kendall_tau_low: float | None


def rank_runs(
    values: Float64[np.ndarray, "case run"],
    resamples: Resamples,
    *,
    method: RankingMethod,
    is_higher_better: bool,
) -> Ranking:
    """Rank runs by one metric and repeat it for every resample.

    Args:
        values: One row per case, one column per run; NaN counts as worse than any value.
        resamples: Draws of the patients of these cases.
        method: Average first or rank first.
        is_higher_better: Direction of the metric.

    Returns:
        The ranking.

    Raises:
        DataError: If no run has any value.

    Source:
        Wiesenfarth et al. 2021 (challengeR), rank stability by bootstrap; written anew.
    """
    if not np.isfinite(values).any():
        raise DataError("no run has any value to rank", fix="compare on a class that occurs")
    oriented = with_worst(values if is_higher_better else -values)
    scores = oriented if method == "aggregate_then_rank" else -_ranks(oriented)
    means = _drawn_means(scores, resamples, _every_patient_once(resamples))
    ranks = _ranks(means)[0]
    drawn = _ranks(_drawn_means(scores, resamples, resamples.counts))
    taus = _kendall_taus(ranks, drawn)
    sign = 1.0 if is_higher_better and method == "aggregate_then_rank" else -1.0
    return Ranking(
        method=method,
        values=tuple(float(sign * mean) for mean in means[0]),
        ranks=tuple(int(rank) for rank in ranks),
        frequencies=_frequencies(drawn),
        kendall_tau=float(taus.mean()) if taus.size else None,
        kendall_tau_low=float(np.quantile(taus, 0.025)) if taus.size else None,
    )


def with_worst(values: Float64[np.ndarray, "case run"]) -> Float64[np.ndarray, "case run"]:
    """Put the worst value of all where one run has none; a case without any value stays empty.

    Args:
        values: Higher is better; NaN is missing.

    Returns:
        The filled table.
    """
    is_there = np.isfinite(values)
    # Scores begin at 0: a run without a value is never better than one that scored nothing.
    worst = float(values[is_there].min(initial=0.0)) if is_there.any() else 0.0
    is_gap = ~is_there & is_there.any(axis=1, keepdims=True)
    return np.where(is_gap, worst, values)


def _ranks(values: Float64[np.ndarray, "row run"]) -> Float64[np.ndarray, "row run"]:
    """Rank 1 for the largest value of each row; ties share the lower rank; NaN stays NaN."""
    if not values.size:
        return values
    # Means of equal scores may differ in the last digit, which must not decide a rank.
    ranks = stats.rankdata(-np.round(values, 10), method="min", axis=1, nan_policy="propagate")
    return np.asarray(ranks, dtype=np.float64)


def _every_patient_once(resamples: Resamples) -> UInt16[np.ndarray, "1 group"]:
    return np.ones((1, resamples.n_groups), dtype=np.uint16)


def _drawn_means(
    scores: Float64[np.ndarray, "case run"],
    resamples: Resamples,
    drawn: UInt16[np.ndarray, "resample group"],
) -> Float64[np.ndarray, "resample run"]:
    """Mean score of every run in every resample; resamples without any value are left out."""
    sums, counts = group_sums(scores, resamples.group_of_case)
    step = max(1, BATCH_VALUES // max(1, resamples.n_groups))
    parts = [np.zeros((0, scores.shape[1]))]
    for start in range(0, len(drawn), step):
        weights = drawn[start : start + step].astype(np.float64)
        n_values = weights @ counts
        is_used = (n_values > 0).all(axis=1)
        parts.append((weights @ sums)[is_used] / n_values[is_used])
    return np.concatenate(parts)


def _frequencies(ranks: Float64[np.ndarray, "resample run"]) -> tuple[tuple[float, ...], ...]:
    places = range(1, ranks.shape[1] + 1) if len(ranks) else ()
    return tuple(tuple(float((run == place).mean()) for place in places) for run in ranks.T)


def _kendall_taus(
    ranks: Float64[np.ndarray, "run"], drawn: Float64[np.ndarray, "resample run"]
) -> Float64[np.ndarray, "tau"]:
    """Share of pairs of runs in the same order minus share in the opposite one.

    Pairs that tie in the full ranking have no order to keep; without others there is no tau.
    """
    first, second = np.triu_indices(len(ranks), k=1)
    is_ordered = ranks[first] != ranks[second]
    if not is_ordered.any():
        return np.zeros(0)
    first, second = first[is_ordered], second[is_ordered]
    order = np.sign(ranks[first] - ranks[second])
    return (np.sign(drawn[:, first] - drawn[:, second]) * order).mean(axis=1)
