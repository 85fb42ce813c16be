"""What a reader must know before believing the numbers: the verdict, the cards, the notes."""

from collections.abc import Mapping

from pipeline.core.geometry import Spacing
from pipeline.core.text import some_of
from pipeline.evaluate.cells import format_value
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases
from pipeline.evaluate.score import NOTABLE_OFFSET_VOXELS
from pipeline.metrics.surface import FEW_SURFACE_ELEMENTS, is_tolerance_too_small

# Names listed in a note before "and N more".
MAX_NAMES = 10
MIN_PATIENTS_FOR_INTERVALS = 10

ByClass = Mapping[str, ClassCases]


def verdict(evaluation: Evaluation) -> dict[str, str]:
    """The worst that happened, as a badge."""
    n_failed = len(evaluation.summary.failed_cases)
    if n_failed:
        return {"kind": "bad", "text": f"{n_failed} {plural(n_failed, 'case')} failed"}
    if evaluation.seen_in_training:
        n_seen = len(evaluation.seen_in_training)
        return {"kind": "warn", "text": f"{n_seen} {plural(n_seen, 'case')} seen in training"}
    n_missed, _ = n_failures(evaluation)
    if n_missed:
        return {"kind": "warn", "text": f"{n_missed} {plural(n_missed, 'structure')} missed"}
    return {"kind": "good", "text": "every case scored"}


def cards(evaluation: Evaluation) -> list[dict[str, str]]:
    """The numbers to see first."""
    summary = evaluation.summary
    n_missed, n_hallucinated = n_failures(evaluation)
    order = "over classes, then cases"
    if evaluation.policy.average_first == "classes":
        order = "mean of the class means"
    patients = evaluation.n_patients
    return [
        {
            "label": "Mean foreground Dice",
            "value": format_value(summary.mean_foreground_dice),
            "note": order,
        },
        {
            "label": "Cases in the averages",
            "value": f"{summary.n_cases} of {evaluation.n_references}",
            "note": "" if patients is None else f"of {patients} {plural(patients, 'patient')}",
        },
        {
            "label": "Failed cases",
            "value": str(len(summary.failed_cases)),
            "note": "without prediction, or not comparable",
        },
        {
            "label": "Missed structures",
            "value": str(n_missed),
            "note": "in the reference, not predicted",
        },
        {
            "label": "Hallucinated structures",
            "value": str(n_hallucinated),
            "note": "predicted, not in the reference",
        },
    ]


def n_failures(evaluation: Evaluation) -> tuple[int, int]:
    """Missed and hallucinated structures; regions unite what is counted already."""
    classes = [evaluation.summary.classes[name] for name in evaluation.class_names]
    return sum(c.n_missed for c in classes), sum(c.n_hallucinated for c in classes)


def notes(
    evaluation: Evaluation, by_class: ByClass, spacings_mm: Mapping[str, Spacing]
) -> list[str]:
    """Everything that limits what the numbers mean.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.
        spacings_mm: Case id to voxel spacing, where it is known.

    Returns:
        Sentences; none if there is nothing to say.
    """
    found = (
        _seen_in_training(evaluation),
        _extra_predictions(evaluation),
        _shifted_grids(evaluation),
        *annotation_notes(evaluation),
        _few_patients(evaluation),
        _tiny_surfaces(by_class),
        *_fine_tolerances(by_class, spacings_mm),
    )
    return [note for note in found if note]


def plural(n: int, word: str) -> str:
    """The word, with an s unless there is one of it."""
    return word if n == 1 else f"{word}s"


def _seen_in_training(evaluation: Evaluation) -> str:
    n_seen = len(evaluation.seen_in_training)
    if not n_seen:
        return ""
    return (
        f"The model was trained on {n_seen} of these {evaluation.n_references} cases "
        f"({some_of(evaluation.seen_in_training, MAX_NAMES)}): the scores are better than on new "
        "patients."
    )


def _extra_predictions(evaluation: Evaluation) -> str:
    if not evaluation.extra_predictions:
        return ""
    named = some_of(evaluation.extra_predictions, MAX_NAMES)
    return f"Predictions without a reference, not scored: {named}."


def _shifted_grids(evaluation: Evaluation) -> str:
    shifted = [c for c in evaluation.cases if c.grid_offset_voxels > NOTABLE_OFFSET_VOXELS]
    if not shifted:
        return ""
    largest = max(shifted, key=lambda c: c.grid_offset_voxels)
    return (
        f"In {len(shifted)} {plural(len(shifted), 'case')} the grid of the prediction lies "
        f"off that of the reference by more than {NOTABLE_OFFSET_VOXELS} voxels, at most by "
        f"{largest.grid_offset_voxels:.3g} ({largest.case_id}); they were scored as they are."
    )


def annotation_notes(evaluation: Evaluation) -> list[str]:
    """What the references leave open, and was therefore not scored.

    Args:
        evaluation: The result.

    Returns:
        Sentences on classes that nobody drew and on voxels to be ignored; none if there are none.
    """
    found = (_not_annotated(evaluation), _ignored_voxels(evaluation))
    return [note for note in found if note]


def _not_annotated(evaluation: Evaluation) -> str:
    counts = {
        name: scores.n_not_annotated
        for name, scores in evaluation.summary.classes.items()
        if scores.n_not_annotated
    }
    if not counts:
        return ""
    listed = [f"{name} in {n} {plural(n, 'case')}" for name, n in counts.items()]
    return (
        f"Not annotated, as configured: {some_of(listed, MAX_NAMES)}. There nothing was scored: "
        "these cases are neither right nor wrong, and in no mean and no count of the class."
    )


def _ignored_voxels(evaluation: Evaluation) -> str:
    if not evaluation.ignored_values:
        return ""
    values = ", ".join(map(str, evaluation.ignored_values))
    return f"Voxels that the reference marks to be ignored (value {values}) were not scored."


def _few_patients(evaluation: Evaluation) -> str:
    classes = evaluation.summary.classes
    small = [name for name, scores in classes.items() if scores.dice.n and scores.dice.is_small]
    if not small:
        return ""
    which = "" if len(small) == len(classes) else f" for {some_of(small, MAX_NAMES)}"
    return (
        f"Fewer than {MIN_PATIENTS_FOR_INTERVALS} patients{which}: points only. An interval of so "
        "few would only pretend to know something; look at the single cases."
    )


def _tiny_surfaces(by_class: ByClass) -> str:
    counts = {
        name: n
        for name, cases in by_class.items()
        if (n := sum(s.has_few_elements for s in cases.surfaces))
    }
    if not counts:
        return ""
    listed = some_of(
        [f"{name} in {n} {plural(n, 'case')}" for name, n in counts.items()], MAX_NAMES
    )
    return (
        f"Surfaces of fewer than {FEW_SURFACE_ELEMENTS} voxels: {listed}. There one or two voxels "
        "decide the 95th percentile; do not rest a claim on its HD95."
    )


def _fine_tolerances(by_class: ByClass, spacings_mm: Mapping[str, Spacing]) -> list[str]:
    """Classes whose tolerance is below half a voxel, so that the grid decides."""
    found = []
    for name, cases in by_class.items():
        if not cases.surfaces:
            continue
        tolerance_mm = min(s.tolerance_mm for s in cases.surfaces)
        coarse = {
            c: mm for c, mm in spacings_mm.items() if is_tolerance_too_small(tolerance_mm, mm)
        }
        if coarse:
            case_id, coarsest_mm = max(((c, max(mm)) for c, mm in coarse.items()), key=_second)
            found.append(
                f"The tolerance of {name}, {tolerance_mm:g} mm, is below half a voxel in "
                f"{len(coarse)} {plural(len(coarse), 'case')} (spacing up to {coarsest_mm:.3g} mm, "
                f"{case_id}): there the grid decides about the surface Dice, not the surface. "
                f"Choose at least {coarsest_mm / 2:.3g} mm."
            )
    return found


def _second(pair: tuple[str, float]) -> float:
    return pair[1]
