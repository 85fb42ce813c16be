"""The scores of all runs as one array, and what a gap counts against runs that have a value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from pipeline.compare.agreement import Agreed
from pipeline.compare.inputs import RunScores
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.policy import EmptyPolicy
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.values import Metric, MetricName, metric_value

# Without a reference these say nothing, whatever was predicted.
_OF_REFERENCE_ONLY: tuple[MetricName, ...] = ("recall", "lesion_recall")


@dataclass(frozen=True)
class ValueTable:
    """One metric of all runs.

    Args:
        values: NaN where there is no value.
        filled: The same, so that no run gains from a gap: where another run has a value or failed,
            a structure that was missed, hallucinated or not predicted counts as the worst possible
            value, one that is rightly absent as the best.
    """

    values: Float64[np.ndarray, "run case class"]
    filled: Float64[np.ndarray, "run case class"]

    def only(self, columns: Sequence[int]) -> "ValueTable":
        """The table of some of the classes."""
        chosen = list(columns)
        return ValueTable(self.values[:, :, chosen], self.filled[:, :, chosen])


def tabulate(agreed: Agreed, metric: Metric, policy: EmptyPolicy) -> ValueTable:
    """Read one metric of all runs.

    Args:
        agreed: Runs with the same cases.
        metric: Which metric; one with a direction.
        policy: What empty masks count.

    Returns:
        The table, cases and classes in the order of `agreed`.
    """
    shape = (len(agreed.runs), len(agreed.case_ids), len(agreed.class_names))
    values, filled = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, cases in enumerate(zip(*(run.cases for run in agreed.runs), strict=True)):
        worst = _worst(cases, metric)
        for column, name in enumerate(agreed.class_names):
            found = [metric_value(case, name, metric.name, policy) for case in cases]
            own = np.array([math.nan if value is None else value for value in found])
            values[:, row, column] = own
            scores = [case.of_class(name) for case in cases]
            if not np.isfinite(own).all():
                own = _filled(own, scores, worst, metric, policy)
            filled[:, row, column] = own
    return ValueTable(values, filled)


def values_to_rank(table: ValueTable) -> Float64[np.ndarray, "case run"]:
    """One number per case and run for ranking: the mean over classes, gaps filled.

    Args:
        table: The values.

    Returns:
        The numbers; NaN where a run has none.
    """
    is_there = np.isfinite(table.filled)
    n_values = is_there.sum(axis=2)
    sums = np.where(is_there, table.filled, 0.0).sum(axis=2)
    means = np.divide(sums, n_values, out=np.full(sums.shape, np.nan), where=n_values > 0)
    return means.T


def count_status(run: RunScores, class_names: Sequence[str], status: str) -> int:
    """Number of structures of a run with a status such as "missed"."""
    wanted = set(class_names)
    return sum(
        c.status == status for case in run.cases for c in case.classes if c.class_name in wanted
    )


def _worst(cases: Sequence[CaseScores], metric: Metric) -> float:
    """The worst possible value in a case; NaN where a metric has none and needs none."""
    if metric.higher_is_better:
        return math.nan if metric.lower is None else metric.lower
    if metric.unit != "mm":
        return math.nan
    # What distances with a penalty count: the image diagonal.
    return max((s.diagonal_mm for case in cases for s in case.surfaces), default=math.nan)


def _filled(
    values: Float64[np.ndarray, "run"],
    scores: Sequence[OverlapScores | None],
    worst: float,
    metric: Metric,
    policy: EmptyPolicy,
) -> Float64[np.ndarray, "run"]:
    """Values of one case and class with what gaps count; all as they are if nobody has anything."""
    is_failure = np.array([s is not None and _has_failed(s, metric, policy) for s in scores])
    if not (np.isfinite(values).any() or is_failure.any()):
        return values
    is_empty = np.array([s is not None and s.status == "absent" for s in scores])
    is_unpredicted = np.array([s is None for s in scores])
    bound = metric.upper if metric.higher_is_better else metric.lower
    best = math.nan if bound is None else bound
    stand_in = np.where(is_failure | is_unpredicted, worst, np.where(is_empty, best, math.nan))
    return np.where(np.isfinite(values), values, stand_in)


def _has_failed(scores: OverlapScores, metric: Metric, policy: EmptyPolicy) -> bool:
    if scores.status == "hallucinated":
        # Some policies leave out on purpose what the reference does not have, for every run.
        return policy.hallucinated is not None and metric.name not in _OF_REFERENCE_ONLY
    return scores.status == "missed"
