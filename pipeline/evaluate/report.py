"""`report.html`: the numbers, every case behind them, and what went wrong."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.core.geometry import Spacing
from pipeline.evaluate import figures
from pipeline.evaluate.bland_altman import HEIGHT, WIDTH, bland_altman_plot, volume_agreement
from pipeline.evaluate.case_tables import case_table, confusion_table, subgroup_tables
from pipeline.evaluate.cells import format_value
from pipeline.evaluate.class_tables import (
    lesion_table,
    overlap_table,
    row_color,
    row_title,
    surface_table,
    volume_table,
)
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gallery import CasePicture
from pipeline.evaluate.latex import latex_table
from pipeline.evaluate.methods import definitions, distance_rule, methods_text
from pipeline.evaluate.notes import ByClass, cards, notes, verdict
from pipeline.evaluate.per_class import sort_by_class
from pipeline.evaluate.policy_table import policy_table
from pipeline.evaluate.ranking import case_dice, worst_class
from pipeline.metrics.policy import POLICIES
from pipeline.metrics.scores import CaseScores
from pipeline.reporting.page import render_page
from pipeline.reporting.viewer import library_text, license_text

# More drawings than this wait behind a click.
MAX_OPEN_PLOTS = 12
NO_SPACINGS: Mapping[str, Spacing] = {}


def render_report(
    evaluation: Evaluation,
    pictures: Sequence[CasePicture],
    spacings_mm: Mapping[str, Spacing] = NO_SPACINGS,
) -> str:
    """Render the report.

    Args:
        evaluation: The result.
        pictures: Worst cases, worst first; may be empty.
        spacings_mm: Case id to voxel spacing, for the warning about fine tolerances.

    Returns:
        A self-contained HTML page.
    """
    by_class = sort_by_class(evaluation.cases, tuple(evaluation.summary.classes))
    volumes = [picture.volume for picture in pictures if picture.volume is not None]
    return render_page(
        "evaluate.html.j2",
        {
            "title": f"Scores on {evaluation.dataset_name}",
            "subtitle": _subtitle(evaluation),
            "verdict": verdict(evaluation),
            "cards": cards(evaluation),
            "failures": evaluation.summary.failed_cases,
            "notes": notes(evaluation, by_class, spacings_mm),
            "n_cases": len(evaluation.cases),
            "overlap": overlap_table(evaluation, by_class),
            "surfaces": surface_table(evaluation, by_class),
            "distance_rule": distance_rule(evaluation),
            "volumes_table": volume_table(evaluation, by_class),
            "lesions": lesion_table(evaluation, by_class),
            "confusions": confusion_table(evaluation, by_class),
            "cases": case_table(evaluation),
            "subgroups": subgroup_tables(evaluation),
            "policies": policy_table(evaluation, by_class),
            "policy_texts": [(p.name, p.description) for p in POLICIES],
            "calibration": _calibration(evaluation),
            **_drawings(evaluation, by_class),
            "pictures": [_picture(picture, evaluation) for picture in pictures],
            "volumes": volumes,
            "library": library_text() if volumes else "",
            "license": license_text() if volumes else "",
            "definitions": definitions(evaluation),
            "methods": methods_text(evaluation, by_class),
            "latex": latex_table(evaluation, by_class),
        },
    )


def _subtitle(evaluation: Evaluation) -> str:
    n, n_classes = evaluation.n_references, len(evaluation.class_names)
    n_regions = len(evaluation.region_names)
    regions = f", {n_regions} {'region' if n_regions == 1 else 'regions'}" if n_regions else ""
    return (
        f"{n} {'case' if n == 1 else 'cases'}, "
        f"{n_classes} {'class' if n_classes == 1 else 'classes'}{regions}, "
        f"empty-mask policy '{evaluation.config.policy}'"
    )


def _drawings(evaluation: Evaluation, by_class: ByClass) -> dict[str, object]:
    summary, policy = evaluation.summary, evaluation.policy
    agreements = []
    for name, cases in by_class.items():
        plot = bland_altman_plot(volume_agreement(cases.overlaps))
        if plot is not None:
            color = row_color(evaluation, name)
            agreements.append({"name": row_title(evaluation, name), "color": color, "plot": plot})
    return {
        "dots": figures.dot_plot(evaluation.cases, summary, policy),
        "heat": figures.heat_map(evaluation.cases, _columns_of_heat_map(evaluation), policy),
        "heat_names": _columns_of_heat_map(evaluation),
        "bins": figures.DICE_BINS,
        "row_colors": [row_color(evaluation, name) for name in summary.classes],
        "agreements": agreements,
        "n_open_plots": MAX_OPEN_PLOTS,
        "sizes": {
            "label": figures.LABEL_WIDTH,
            "plot": figures.PLOT_WIDTH,
            "dot": figures.DOT_RADIUS,
            "agreement_width": WIDTH,
            "agreement_height": HEIGHT,
        },
    }


def _columns_of_heat_map(evaluation: Evaluation) -> tuple[str, ...]:
    """Classes in their order; too many for the window start with the worst."""
    names = evaluation.class_names
    if len(names) <= figures.MAX_CLASSES_WITH_NUMBERS:
        return names
    means = {name: evaluation.summary.classes[name].dice.mean for name in names}

    def key(name: str) -> float:
        mean = means[name]
        return np.inf if mean is None else mean

    return tuple(sorted(names, key=key))


def _calibration(evaluation: Evaluation) -> dict[str, str] | None:
    """Mean and worst calibration error over the cases with probabilities."""
    known: list[tuple[float, CaseScores]] = [
        (case.calibration_error, case)
        for case in evaluation.cases
        if case.calibration_error is not None
    ]
    if not known:
        return None
    values = [value for value, _ in known]
    worst, worst_case = max(known, key=lambda pair: pair[0])
    return {
        "mean": format_value(float(np.mean(values))),
        "median": format_value(float(np.median(values))),
        "worst": f"{worst:.3f} ({worst_case.case_id})",
        "n": f"{len(values)} of {len(evaluation.cases)} cases",
    }


def _picture(picture: CasePicture, evaluation: Evaluation) -> dict[str, str | None]:
    case = next(c for c in evaluation.cases if c.case_id == picture.case_id)
    names = evaluation.class_names
    worst = worst_class(case, evaluation.policy, names)
    text = f"Mean Dice {format_value(case_dice(case, evaluation.policy, names))}"
    if worst is not None:
        text += f"; worst class {worst[0]} {worst[1]:.3f}"
    for status in ("missed", "hallucinated"):
        found = [c.class_name for c in case.classes if c.status == status and c.class_name in names]
        text += f"; {status}: {', '.join(found)}" if found else ""
    text += f"; {picture.n_disagreeing_voxels:,} voxels differ"
    return {
        "case_id": picture.case_id,
        "errors_uri": picture.errors_uri,
        "outlines_uri": picture.outlines_uri,
        "text": text,
        "viewer_key": None if picture.volume is None else picture.volume.key,
    }
