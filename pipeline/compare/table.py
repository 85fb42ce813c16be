"""The scores of all runs as one array, with every gap explained by its status."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from pipeline.compare.agreement import Agreed
from pipeline.compare.inputs import RunScores
from pipeline.metrics.policy import EmptyPolicy
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.values import Metric, metric_value


@dataclass(frozen=True)
class ValueTable:
    """One metric of all runs.

    Args:
        values: NaN where there is no value.
        is_failure: The class is in the reference but not in the prediction, or the other way round.
    """

    values: Float64[np.ndarray, "run case class"]
    is_failure: Bool[np.ndarray, "run case class"]

    def only(self, columns: Sequence[int]) -> "ValueTable":
        """The table of some of the classes."""
        chosen = list(columns)
        return ValueTable(self.values[:, :, chosen], self.is_failure[:, :, chosen])


def tabulate(agreed: Agreed, metric: Metric, policy: EmptyPolicy) -> ValueTable:
    """Read one metric of all runs.

    Args:
        agreed: Runs with the same cases.
        metric: Which metric.
        policy: What empty masks count.

    Returns:
        The table, cases and classes in the order of `agreed`.
    """
    shape = (len(agreed.runs), len(agreed.case_ids), len(agreed.class_names))
    values, is_failure = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    for place, run in enumerate(agreed.runs):
        for row, case in enumerate(run.cases):
            for column, name in enumerate(agreed.class_names):
                value = metric_value(case, name, metric.name, policy)
                values[place, row, column] = np.nan if value is None else value
                is_failure[place, row, column] = _has_failed(case, name)
    return ValueTable(values, is_failure)


def values_to_rank(table: ValueTable, *, is_higher_better: bool) -> Float64[np.ndarray, "case run"]:
    """One number per case and run for ranking: the mean over classes, failures filled.

    A failure without a value, such as the distance to a structure that was missed, counts as the
    worst value any run has in that class. A case in which a run rightly found nothing, while
    another hallucinated, counts as the best.

    Args:
        table: The values.
        is_higher_better: Direction of the metric.

    Returns:
        The numbers; NaN only where no run has a value.
    """
    filled = (1.0 if is_higher_better else -1.0) * table.values
    is_there = np.isfinite(filled)
    for column in range(filled.shape[2]):
        present = filled[:, :, column][is_there[:, :, column]]
        if present.size:
            is_gap = ~is_there[:, :, column] & table.is_failure[:, :, column]
            filled[:, :, column][is_gap] = present.min()
    n_values = np.isfinite(filled).sum(axis=2)
    sums = np.where(np.isfinite(filled), filled, 0.0).sum(axis=2)
    means = np.divide(sums, n_values, out=np.full(sums.shape, np.nan), where=n_values > 0)
    is_known = np.isfinite(means)
    if is_known.any():
        is_rightly_empty = ~is_known & is_known.any(axis=0, keepdims=True)
        means[is_rightly_empty] = means[is_known].max()
    return means.T if is_higher_better else -means.T


def count_status(run: RunScores, class_names: Sequence[str], status: str) -> int:
    """Number of structures of a run with a status such as "missed"."""
    return sum(
        c.status == status
        for case in run.cases
        for c in case.classes
        if c.class_name in class_names
    )


def _has_failed(case: CaseScores, class_name: str) -> bool:
    scores = case.of_class(class_name)
    return scores is not None and scores.status in ("missed", "hallucinated")
