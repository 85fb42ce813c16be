"""`report.html`: the numbers, every case behind them, and what went wrong."""

from collections.abc import Sequence

from pipeline.evaluate import figures
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gallery import CasePicture
from pipeline.evaluate.methods import DEFINITIONS, methods_text
from pipeline.evaluate.ranking import case_dice, worst_case, worst_class
from pipeline.evaluate.score import NOTABLE_OFFSET_VOXELS
from pipeline.metrics.policy import POLICIES
from pipeline.metrics.scores import CaseScores
from pipeline.reporting.page import render_page
from pipeline.reporting.pictures import as_data_uri, class_color
from pipeline.reporting.scores import format_mean

# Names listed in a note before "and N more".
MAX_NAMES = 10

# A cell of the table macro: text with a value to sort by, a badge kind or a color.
Cell = str | int | float | dict[str, str | float | None] | None


def render_report(evaluation: Evaluation, pictures: Sequence[CasePicture]) -> str:
    """Render the report.

    Args:
        evaluation: The result.
        pictures: Worst cases, worst first; may be empty.

    Returns:
        A self-contained HTML page.
    """
    summary = evaluation.summary
    return render_page(
        "evaluate.html.j2",
        {
            "title": f"Scores on {evaluation.dataset_name}",
            "subtitle": _subtitle(evaluation),
            "verdict": _verdict(evaluation),
            "cards": _cards(evaluation),
            "class_rows": _class_rows(evaluation),
            "dots": figures.dot_plot(evaluation.cases, summary, evaluation.policy),
            "heat": figures.heat_map(evaluation.cases, evaluation.class_names, evaluation.policy),
            "bins": figures.DICE_BINS,
            "sizes": {
                "label": figures.LABEL_WIDTH,
                "plot": figures.PLOT_WIDTH,
                "dot": figures.DOT_RADIUS,
            },
            "class_names": evaluation.class_names,
            "class_colors": [class_color(n) for n in range(1, len(evaluation.class_names) + 1)],
            "n_cases": len(evaluation.cases),
            "case_rows": [_case_row(case, evaluation) for case in evaluation.cases],
            "pictures": [_picture(picture, evaluation) for picture in pictures],
            "failures": summary.failed_cases,
            "notes": _notes(evaluation),
            "policy_rows": _policy_rows(evaluation),
            "definitions": DEFINITIONS,
            "methods": methods_text(evaluation),
        },
    )


def _subtitle(evaluation: Evaluation) -> str:
    n, n_classes = evaluation.n_references, len(evaluation.class_names)
    return (
        f"{n} {'case' if n == 1 else 'cases'}, "
        f"{n_classes} {'class' if n_classes == 1 else 'classes'}, "
        f"empty-mask policy '{evaluation.config.policy}'"
    )


def _verdict(evaluation: Evaluation) -> dict[str, str]:
    n_failed = len(evaluation.summary.failed_cases)
    if n_failed:
        return {"kind": "bad", "text": f"{n_failed} {_plural(n_failed, 'case')} failed"}
    if evaluation.seen_in_training:
        n_seen = len(evaluation.seen_in_training)
        return {"kind": "warn", "text": f"{n_seen} {_plural(n_seen, 'case')} seen in training"}
    n_missed = sum(c.n_missed for c in evaluation.summary.classes.values())
    if n_missed:
        return {"kind": "warn", "text": f"{n_missed} {_plural(n_missed, 'structure')} missed"}
    return {"kind": "good", "text": "every case scored"}


def _plural(n: int, word: str) -> str:
    return word if n == 1 else f"{word}s"


def _cards(evaluation: Evaluation) -> list[dict[str, str]]:
    summary = evaluation.summary
    classes = summary.classes.values()
    scored = f"{summary.n_cases} of {evaluation.n_references}"
    return [
        {
            "label": "Mean foreground Dice",
            "value": _fixed(summary.mean_foreground_dice),
            "note": "over classes, then cases"
            if evaluation.policy.average_first == "cases"
            else "mean of the class means",
        },
        {"label": "Cases in the averages", "value": scored, "note": ""},
        {
            "label": "Failed cases",
            "value": str(len(summary.failed_cases)),
            "note": "without prediction, or not comparable",
        },
        {
            "label": "Missed structures",
            "value": str(sum(c.n_missed for c in classes)),
            "note": "in the reference, not predicted",
        },
        {
            "label": "Hallucinated structures",
            "value": str(sum(c.n_hallucinated for c in classes)),
            "note": "predicted, not in the reference",
        },
    ]


def _class_rows(evaluation: Evaluation) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for index, (name, scores) in enumerate(evaluation.summary.classes.items(), start=1):
        worst = worst_case(evaluation.cases, name, evaluation.policy)
        rows.append(
            [
                {"text": name, "color": class_color(index)},
                {"text": format_mean(scores.dice), "sort": scores.dice.mean},
                _sortable(scores.dice.median),
                scores.dice.n,
                _sortable(scores.iou.mean),
                _signed_ml(scores.volume_error_ml.mean),
                scores.n_missed,
                scores.n_hallucinated,
                scores.n_absent,
                None if worst is None else {"text": f"{worst[0]} ({worst[1]:.3f})"},
            ]
        )
    return rows


def _case_row(case: CaseScores, evaluation: Evaluation) -> list[Cell]:
    worst = worst_class(case, evaluation.policy)
    statuses = [c.status for c in case.classes]
    return [
        case.case_id,
        _sortable(case_dice(case, evaluation.policy)),
        None if worst is None else worst[0],
        _sortable(None if worst is None else worst[1]),
        statuses.count("missed"),
        statuses.count("hallucinated"),
        _ml(sum(c.reference_ml for c in case.classes)),
        _signed_ml(sum(c.volume_error_ml for c in case.classes)),
    ]


def _picture(picture: CasePicture, evaluation: Evaluation) -> dict[str, str]:
    case = next(c for c in evaluation.cases if c.case_id == picture.case_id)
    worst = worst_class(case, evaluation.policy)
    text = f"Mean Dice {_fixed(case_dice(case, evaluation.policy))}"
    if worst is not None:
        text += f"; worst class {worst[0]} {worst[1]:.3f}"
    for status in ("missed", "hallucinated"):
        names = [c.class_name for c in case.classes if c.status == status]
        text += f"; {status}: {', '.join(names)}" if names else ""
    text += f"; {picture.n_disagreeing_voxels:,} voxels differ"
    return {
        "case_id": picture.case_id,
        "uri": as_data_uri(picture.png),
        "text": text,
        "description": f"Three cuts through case {picture.case_id} with prediction and reference "
        "outlines, where they disagree most",
    }


def _notes(evaluation: Evaluation) -> list[str]:
    notes = []
    n_seen = len(evaluation.seen_in_training)
    if n_seen:
        notes.append(
            f"The model was trained on {n_seen} of these {evaluation.n_references} cases "
            f"({_some(evaluation.seen_in_training)}): the scores are better than on new patients."
        )
    if evaluation.extra_predictions:
        notes.append(
            f"Predictions without a reference, not scored: {_some(evaluation.extra_predictions)}."
        )
    shifted = [c for c in evaluation.cases if c.grid_offset_voxels > NOTABLE_OFFSET_VOXELS]
    if shifted:
        largest = max(shifted, key=lambda c: c.grid_offset_voxels)
        notes.append(
            f"In {len(shifted)} {_plural(len(shifted), 'case')} the grid of the prediction lies "
            f"off that of the reference by more than {NOTABLE_OFFSET_VOXELS} voxels, at most by "
            f"{largest.grid_offset_voxels:.3g} ({largest.case_id}); they were scored as they are."
        )
    return notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _policy_rows(evaluation: Evaluation) -> list[list[Cell]]:
    means = evaluation.summary.mean_foreground_dice_policies
    rows: list[list[Cell]] = []
    for policy in POLICIES:
        is_chosen = policy.name == evaluation.config.policy
        rows.append(
            [
                f"{policy.name} (chosen)" if is_chosen else policy.name,
                _sortable(means.get(policy.name)),
                _counts(policy.absent),
                _counts(policy.missed),
                _counts(policy.hallucinated),
                policy.description,
            ]
        )
    return rows


def _counts(value: float | None) -> str:
    return "left out" if value is None else f"{value:g}"


def _sortable(value: float | None, form: str = ".3f") -> Cell:
    return None if value is None else {"text": f"{value:{form}}", "sort": value}


def _ml(value: float) -> Cell:
    return _sortable(value, ".2f" if abs(value) < 100 else ".0f")


def _signed_ml(value: float | None) -> Cell:
    if value is None or value == 0:
        return value
    return _sortable(value, "+.3f" if abs(value) < 10 else "+.1f")


def _fixed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
