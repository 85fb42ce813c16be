"""The tables with one row per class: overlap, surfaces, volumes, lesions.

Every mean stands beside the number of cases it is made of and the failures that are not in it.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.artifacts import ClassSummary, Interval
from pipeline.evaluate.bland_altman import volume_agreement
from pipeline.evaluate.cells import Cell, PageTable, column, format_value, mean_cell, value_cell
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases
from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.values import MetricName, metric_value
from pipeline.reporting.pictures import class_color

REGION_COLOR = "#8b98a5"
_NARROW = "\N{NO-BREAK SPACE}"
_CLASS = column("Class", is_number=False)
_COUNTS = (
    column("n", "cases with a value"),
    column("Undefined", "cases without a value, left out of the mean"),
    column("Missed", "in the reference, not predicted"),
    column("Halluc.", "hallucinated: predicted, not in the reference"),
)

ByClass = dict[str, ClassCases]


def row_color(evaluation: Evaluation, name: str) -> str:
    """Color of a class; gray for regions, which are unions of classes."""
    names = evaluation.class_names
    return class_color(names.index(name) + 1) if name in names else REGION_COLOR


def row_title(evaluation: Evaluation, name: str) -> str:
    """Name of a class; regions say what they unite."""
    if name not in evaluation.region_names:
        return name
    return f"{name} (union of {', '.join(evaluation.config.regions[name])})"


def overlap_table(evaluation: Evaluation, by_class: ByClass) -> PageTable:
    """Dice, IoU, precision and recall per class, with the worst case.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        One row per class and region.
    """
    columns = (
        _CLASS,
        column("Dice, mean [95 %]", "mean over cases, interval of the mean"),
        column("Median", "median Dice"),
        *_COUNTS,
        column("IoU", "mean over cases"),
        column("Precision", "mean over cases where something is predicted"),
        column("Recall", "mean over cases where the reference has something"),
        column("Worst case (Dice)", is_number=False),
    )
    open_column = column("Not annotated", "cases in which nobody drew the class; in no number")
    has_open = any(scores.n_not_annotated for scores in evaluation.summary.classes.values())
    rows: list[Sequence[Cell]] = []
    for name, scores in evaluation.summary.classes.items():
        n = scores.dice.n
        rows.append(
            [
                _name_cell(evaluation, name),
                mean_cell(scores.dice, n_beside=n),
                value_cell(scores.dice.median),
                *_counts(scores.dice, scores),
                mean_cell(_bare(scores.iou), n_beside=n),
                mean_cell(_bare(scores.precision), n_beside=n),
                mean_cell(_bare(scores.recall), n_beside=n),
                _worst(evaluation, by_class[name]),
                *([scores.n_not_annotated] if has_open else []),
            ]
        )
    return PageTable((*columns, open_column) if has_open else columns, tuple(rows))


def surface_table(evaluation: Evaluation, by_class: ByClass) -> PageTable | None:
    """Surface Dice and distances per class.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        One row per class and region; None if no surface was measured.
    """
    measured = {n: cases for n, cases in by_class.items() if cases.surfaces}
    if not measured:
        return None
    columns = (
        _CLASS,
        column("Tolerance, mm", "accepted surface distance of the surface Dice"),
        column("Surface Dice, mean [95 %]", "share of both surfaces within the tolerance"),
        column("HD95, mm, mean [95 %]", "larger of the two directed 95th percentiles"),
        *_COUNTS,
        column("HD95 with penalty, mm", "the image diagonal where missed or hallucinated"),
        column("ASSD, mm", "mean of all surface distances"),
        column("Tiny", "cases in which a surface has fewer than 20 voxels"),
    )
    rows: list[Sequence[Cell]] = []
    for name, cases in measured.items():
        scores = evaluation.summary.classes[name]
        distances = scores.hd95_mm
        n = distances.n if distances else 0
        empty = Interval(mean=None, median=None, ci95=None, n=0, n_undefined=len(cases.surfaces))
        rows.append(
            [
                _name_cell(evaluation, name),
                tolerance_text(cases),
                mean_cell(scores.nsd, n_beside=n),
                mean_cell(distances, "mm", n_beside=n),
                *_counts(distances or empty, scores),
                mean_cell(_bare(scores.hd95_penalized_mm), "mm", n_beside=n),
                mean_cell(_bare(scores.assd_mm), "mm", n_beside=n),
                sum(s.has_few_elements for s in cases.surfaces),
            ]
        )
    return PageTable(columns, tuple(rows))


def tolerance_text(cases: ClassCases) -> str:
    """The tolerance of a class, or its range where it follows the voxel size; in mm."""
    values = [s.tolerance_mm for s in cases.surfaces]
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def volume_table(evaluation: Evaluation, by_class: ByClass) -> PageTable:
    """Volume errors per class, with the limits of agreement.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        One row per class and region.
    """
    columns = (
        _CLASS,
        column("Reference, ml", "mean volume in the reference, over the same cases"),
        column("Error, ml, mean [95 %]", "predicted minus reference volume"),
        column("Limits of agreement, ml", "mean error -/+ 1.96 standard deviations"),
        *_COUNTS,
        column("Size of the error, ml", "mean of the error without its sign"),
        column("Error, %, mean [95 %]", "of the reference volume, where there is one"),
    )
    rows: list[Sequence[Cell]] = []
    for name, scores in evaluation.summary.classes.items():
        n = scores.volume_error_ml.n
        agreement = volume_agreement(by_class[name].overlaps)
        points = agreement.points
        limits = agreement.limits_ml
        text = None
        if limits is not None:
            largest = max(abs(x) for x in limits)
            text = " to ".join(format_value(x, "ml", is_signed=True, size=largest) for x in limits)
        rows.append(
            [
                _name_cell(evaluation, name),
                value_cell(_mean([p.reference_ml for p in points]), "ml"),
                mean_cell(scores.volume_error_ml, "ml", is_signed=True, n_beside=n),
                text,
                *_counts(scores.volume_error_ml, scores),
                value_cell(_mean([abs(p.error_ml) for p in points]), "ml"),
                mean_cell(scores.volume_error_percent, "%", is_signed=True, n_beside=n),
            ]
        )
    return PageTable(columns, tuple(rows))


def lesion_table(evaluation: Evaluation, by_class: ByClass) -> PageTable | None:
    """Lesion detection per class.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        One row per class whose lesions were counted; None if there is none.
    """
    counted = {n: cases.lesions for n, cases in by_class.items() if cases.lesions}
    if not counted:
        return None
    columns = (
        _CLASS,
        column("Lesion F1, mean [95 %]", "mean over cases"),
        *_COUNTS,
        column("Recall", "mean over cases of the detected share of the reference lesions"),
        column("Precision", "mean over cases of the share of predicted lesions that are real"),
        column("Lesion Dice", "mean over cases"),
        column("Found", "reference lesions of all cases together"),
        column("False alarms", "predicted lesions of all cases that meet no reference lesion"),
        column("Ignored", "reference lesions below the smallest volume"),
    )
    rows: list[Sequence[Cell]] = []
    for name, lesions in counted.items():
        scores = evaluation.summary.classes[name]
        empty = Interval(mean=None, median=None, ci95=None, n=0, n_undefined=len(lesions))
        f1 = scores.lesion_f1 or empty
        rows.append(
            [
                _name_cell(evaluation, name),
                mean_cell(f1, n_beside=f1.n),
                *_counts(f1, scores),
                *(
                    mean_cell(plain_mean(evaluation, name, metric), n_beside=f1.n)
                    for metric in LESION_METRICS
                ),
                _found(lesions),
                sum(s.n_false_alarms for s in lesions),
                sum(s.n_ignored for s in lesions),
            ]
        )
    return PageTable(columns, tuple(rows))


LESION_METRICS: tuple[MetricName, ...] = ("lesion_recall", "lesion_precision", "lesion_dice")


def plain_mean(evaluation: Evaluation, name: str, metric: MetricName) -> Interval:
    """Mean and median over cases of a metric that the summary does not hold; no interval.

    Args:
        evaluation: The result.
        name: A class or region.
        metric: Which number.
    """
    cases = [case for case in evaluation.cases if name not in case.not_annotated]
    found = [metric_value(case, name, metric, evaluation.policy) for case in cases]
    values = [value for value in found if value is not None]
    return Interval(
        mean=_mean(values),
        median=float(np.median(values)) if values else None,
        ci95=None,
        n=len(values),
        n_undefined=len(found) - len(values),
    )


def _name_cell(evaluation: Evaluation, name: str) -> Cell:
    return {"text": row_title(evaluation, name), "color": row_color(evaluation, name)}


def _counts(interval: Interval, scores: ClassSummary) -> tuple[Cell, ...]:
    return interval.n, interval.n_undefined, scores.n_missed, scores.n_hallucinated


def _bare(interval: Interval | None) -> Interval | None:
    """A mean in a narrow column; its interval stands in classes.csv."""
    return None if interval is None else interval.model_copy(update={"ci95": None, "t95": None})


def _worst(evaluation: Evaluation, cases: ClassCases) -> Cell:
    policy = evaluation.policy
    values = [(policy.value(overlap.dice), case_id) for case_id, overlap in cases.overlaps]
    known = [(dice, case_id) for dice, case_id in values if dice is not None]
    if not known:
        return None
    dice, case_id = min(known)
    return {"text": f"{case_id} ({dice:.3f})", "sort": dice}


def _found(lesions: Sequence[LesionScores]) -> Cell:
    n_found, n_all = sum(s.n_detected for s in lesions), sum(s.n_reference for s in lesions)
    return {"text": f"{n_found}{_NARROW}of{_NARROW}{n_all}", "sort": float(n_found)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
