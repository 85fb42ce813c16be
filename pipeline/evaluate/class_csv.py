"""`classes.csv`: every number about every class, one per row, in full precision."""

import csv
import io

from pipeline.artifacts import ClassSummary, Interval
from pipeline.evaluate.cells import clip
from pipeline.evaluate.class_tables import LESION_METRICS, plain_mean
from pipeline.evaluate.evaluation import Evaluation
from pipeline.metrics.policy import POLICIES
from pipeline.metrics.values import METRICS, Metric, MetricName

COLUMNS = (
    *("class_name", "kind", "metric", "unit", "policy", "mean", "median", "ci95_low", "ci95_high"),
    *("t95_low", "t95_high", "n", "n_undefined", "n_patients"),
    *("n_missed", "n_hallucinated", "n_absent", "n_not_annotated"),
)
# Means the summary does not hold; they stand without an interval.
_ADDED: tuple[MetricName, ...] = ("absolute_volume_error_ml", "assd_penalized_mm", *LESION_METRICS)


def classes_csv(evaluation: Evaluation) -> str:
    """Write all means as a tidy table.

    Args:
        evaluation: The result.

    Returns:
        CSV with one row per class (or region) and metric, and the foreground mean under every
        policy; what is undefined is an empty cell.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, scores in evaluation.summary.classes.items():
        kind = "region" if name in evaluation.region_names else "class"
        for metric in METRICS:
            interval = _interval(evaluation, name, scores, metric)
            if interval is not None:
                key = (name, kind, metric.name, metric.unit, evaluation.config.policy)
                rows.writerow([*key, *_numbers(interval, metric.unit), *_counts(scores)])
    for policy in POLICIES:
        mean = evaluation.summary.mean_foreground_dice_policies.get(policy.name)
        row = ["", "foreground", "dice", "", policy.name, mean]
        rows.writerow([*row, *[""] * (len(COLUMNS) - len(row))])
    return text.getvalue()


def _interval(
    evaluation: Evaluation, name: str, scores: ClassSummary, metric: Metric
) -> Interval | None:
    if metric.name not in _ADDED:
        found = getattr(scores, metric.name)
        return found if isinstance(found, Interval) else None
    interval = plain_mean(evaluation, name, metric.name)
    return interval if interval.n else None


def _numbers(interval: Interval, unit: str) -> list[float | int | None]:
    ci95, t95 = (
        (None, None) if bounds is None else tuple(clip(bound, unit) for bound in bounds)
        for bounds in (interval.ci95, interval.t95)
    )
    counts = (interval.n, interval.n_undefined, interval.n_patients)
    return [interval.mean, interval.median, *ci95, *t95, *counts]


def _counts(scores: ClassSummary) -> tuple[int, int, int, int]:
    failures = (scores.n_missed, scores.n_hallucinated)
    return *failures, scores.n_absent, scores.n_not_annotated
