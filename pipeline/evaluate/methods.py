"""The paragraph a paper needs: what was measured, how, on how many cases, with which software."""

from importlib import metadata

from pipeline.evaluate.class_tables import tolerance_text
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.notes import annotation_notes, plural
from pipeline.evaluate.per_class import ClassCases
from pipeline.metrics.bootstrap import MAX_PATIENTS_FOR_T
from pipeline.metrics.calibration import N_BINS
from pipeline.metrics.lesion import CONNECTIVITY
from pipeline.metrics.surface import MIN_DEFAULT_TOLERANCE_MM, PERCENTILE
from pipeline.metrics.values import METRICS, MetricName

_OF_OVERLAP: tuple[MetricName, ...] = (
    *("dice", "iou", "precision", "recall"),
    *("volume_error_ml", "absolute_volume_error_ml", "volume_error_percent"),
)
_OF_SURFACES: tuple[MetricName, ...] = ("nsd", "hd95_mm", "hd95_penalized_mm", "assd_mm")
_OF_LESIONS: tuple[MetricName, ...] = (
    *("lesion_f1", "lesion_recall", "lesion_precision", "lesion_dice"),
)
_AFTER = (
    ("Missed", "The reference holds the class, the prediction has no voxel of it."),
    ("Hallucinated", "The prediction holds the class, the reference has no voxel of it."),
    ("Absent", "Neither holds the class; Dice and IoU are undefined."),
    (
        "Undefined",
        "Cases without a value of this metric under the policy: in no mean, but counted beside it.",
    ),
    (
        "95 % interval",
        "Of the mean, from resampling patients with all their cases (BCa bootstrap, percentile "
        "where BCa has no answer); a case that names no patient is one. It cannot know failures "
        "that these cases do not contain: read it beside the counts and the worst cases. For "
        "ceiling-like scores with rare failures it is too narrow, even with 50 cases.",
    ),
    (
        "t",
        f"Student's t interval, beside the bootstrap for up to {MAX_PATIENTS_FOR_T} patients, "
        "where the bootstrap is too narrow; cut at the ends of the metric. Below 10 patients "
        "neither is shown.",
    ),
    (
        "Foreground mean",
        "Mean over classes of the mean over cases, classes without any value left out, unless the "
        "policy says otherwise. Regions are unions of classes and not part of it.",
    ),
    (
        "Limits of agreement",
        "Mean volume error -/+ 1.96 standard deviations (Bland and Altman): where 95 % of new "
        "errors lie if they are normally distributed and do not grow with the volume.",
    ),
)


def definitions(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Every term of the report with its meaning; metrics that were not computed are left out.

    Args:
        evaluation: The result.
    """
    names = list(_OF_OVERLAP)
    has_surfaces, has_lesions = _has_surfaces(evaluation), _has_lesions(evaluation)
    names += _OF_SURFACES if has_surfaces else ()
    names += _OF_LESIONS if has_lesions else ()
    found = []
    for metric in METRICS:
        if metric.name in names:
            title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
            found.append((title, metric.definition))
    if has_surfaces:
        found.append(
            (
                "Surface conventions",
                "Border of the distances: voxels with a face neighbor outside the class, closed at "
                f"the image edge; percentile: {PERCENTILE:g}, per direction, linear between "
                "voxels, larger of the two; weights: each border voxel counts once. The surface "
                "Dice uses area-weighted surface elements instead. Spacing: of the reference.",
            )
        )
        found.append(("Tolerance", _tolerance_rule(evaluation)))
    if has_lesions:
        rule = _lesion_rule(evaluation)
        found.append(("Lesion rule", rule[0].upper() + rule[1:]))
    if _has_calibration(evaluation):
        found.append(("Calibration error (ECE)", _CALIBRATION))
    return [*found, *_AFTER]


def methods_text(evaluation: Evaluation, by_class: dict[str, ClassCases]) -> str:
    """Describe the evaluation in sentences that can be pasted into a methods section.

    Args:
        evaluation: What was done.
        by_class: Scores of its cases by class.

    Returns:
        One paragraph, ending in a line break.
    """
    sentences = [
        *_what_was_compared(evaluation),
        "Per class and case we computed the Dice coefficient, 2TP/(2TP+FP+FN), the intersection "
        "over union, TP/(TP+FP+FN), precision, recall, and the signed volume difference in ml and "
        "percent.",
        *_surface_sentences(evaluation, by_class),
        *_lesion_sentences(evaluation),
        *_calibration_sentences(evaluation),
        *_region_sentences(evaluation),
        *annotation_notes(evaluation),
        f"Classes that are empty in one or both maps followed the policy "
        f"'{evaluation.config.policy}': {evaluation.policy.description}",
        *_failure_sentences(evaluation),
        *_interval_sentences(evaluation),
        _software(evaluation),
    ]
    return " ".join(sentences) + "\n"


_CALIBRATION = (
    f"Expected calibration error of the probability of the predicted class, {N_BINS} bins of equal "
    "width, over voxels that are foreground in either map; 0 is best."
)


def _what_was_compared(evaluation: Evaluation) -> list[str]:
    n_patients = evaluation.n_patients
    patients = "" if n_patients is None else f" ({n_patients} patients)"
    return [
        f"Segmentations of {', '.join(evaluation.class_names)} were compared voxel by voxel with "
        f"the reference labels of {evaluation.n_references} cases{patients} of "
        f"{evaluation.dataset_name}, on the native grid of each reference; nothing was resampled."
    ]


def _surface_sentences(evaluation: Evaluation, by_class: dict[str, ClassCases]) -> list[str]:
    if not _has_surfaces(evaluation):
        return []
    measured = {name: tolerance_text(c) for name, c in by_class.items() if c.surfaces}
    different = set(measured.values())
    listed = ", ".join(f"{name} {text} mm" for name, text in measured.items())
    if len(different) == 1:
        listed = f"{different.pop()} mm"
    return [
        "Surface agreement was measured by the normalized surface Dice (area-weighted surface "
        f"elements, closed at the image edge; tolerance: {listed}), by the {PERCENTILE:g}th "
        "percentile Hausdorff distance (larger of the two directed percentiles between border "
        "voxels with a face neighbor outside, in mm) and by the average symmetric surface "
        "distance.",
        f"{distance_rule(evaluation)} With a penalty, they count the image diagonal.",
    ]


def distance_rule(evaluation: Evaluation) -> str:
    """What a distance counts where a class is in one map only, in a sentence.

    Args:
        evaluation: The result.
    """
    if evaluation.policy.distance_mm.missed is None:
        return "Distances of missed and hallucinated classes are undefined and counted."
    return "Distances of missed and hallucinated classes count what the policy says."


def _lesion_sentences(evaluation: Evaluation) -> list[str]:
    if not _has_lesions(evaluation):
        return []
    return [
        f"Lesions of {', '.join(evaluation.config.multi)} were counted one by one: "
        f"{_lesion_rule(evaluation)}"
    ]


def _calibration_sentences(evaluation: Evaluation) -> list[str]:
    return [_CALIBRATION] if _has_calibration(evaluation) else []


def _region_sentences(evaluation: Evaluation) -> list[str]:
    regions = evaluation.config.regions
    if not regions:
        return []
    listed = "; ".join(f"{name} ({', '.join(members)})" for name, members in regions.items())
    return [f"Unions of classes were scored as classes of their own: {listed}."]


def _failure_sentences(evaluation: Evaluation) -> list[str]:
    n_missing = len(evaluation.summary.failed_cases) - evaluation.n_unscored
    found = []
    if n_missing:
        found.append(
            f"No prediction was available for {n_missing} {plural(n_missing, 'case')}; the "
            "structures in the reference count as missed."
        )
    if evaluation.n_unscored:
        n = evaluation.n_unscored
        verb = "is" if n == 1 else "are"
        found.append(f"{n} {plural(n, 'case')} could not be compared and {verb} in no average.")
    if evaluation.seen_in_training:
        found.append(
            f"The model had been trained on {len(evaluation.seen_in_training)} of these cases; "
            "this is not a measurement on unseen data."
        )
    return found


def _interval_sentences(evaluation: Evaluation) -> list[str]:
    config, classes = evaluation.config, evaluation.summary.classes.values()
    shown = [s.dice for s in classes if s.dice.ci95 is not None and not s.dice.is_small]
    counts = "medians and the number of cases with a value, missed and hallucinated"
    if not config.n_bootstrap or not shown:
        return [f"We report means over cases, {counts}."]
    unit = "cases" if evaluation.n_patients is None else "patients"
    found = [
        "We report means over cases with 95 % confidence intervals from a BCa bootstrap over "
        f"{unit} ({config.n_bootstrap} resamples, seed {config.seed}), {counts}."
    ]
    if any(interval.t95 is not None for interval in shown):
        found.append(f"Below {MAX_PATIENTS_FOR_T + 1} {unit}, Student's t interval is given too.")
    return found


def _software(evaluation: Evaluation) -> str:
    packages = ["voxline", "numpy", "scipy"]
    packages += ["connected-components-3d"] if _has_lesions(evaluation) else []
    return f"Software: {', '.join(f'{name} {_version(name)}' for name in packages)}."


def _tolerance_rule(evaluation: Evaluation) -> str:
    given = evaluation.config.tolerances_mm
    listed = "; ".join(f"{name} {mm:g} mm" for name, mm in given.items())
    fallback = (
        f"the largest voxel spacing, at least {MIN_DEFAULT_TOLERANCE_MM:g} mm; give the "
        "disagreement of two readers in evaluate.tolerances_mm"
    )
    return f"Given: {listed}. All others: {fallback}." if given else f"For all: {fallback}."


def _lesion_rule(evaluation: Evaluation) -> str:
    config = evaluation.config
    parts = [f"a lesion is a {CONNECTIVITY}-connected piece of a class"]
    if config.lesion_dilation_voxels:
        parts.append(
            f"reference lesions whose masks touch after growing by {config.lesion_dilation_voxels} "
            "voxels are one"
        )
    if config.min_lesion_mm3:
        parts.append(f"reference lesions of {config.min_lesion_mm3:g} mm3 or less are ignored")
    parts.append(
        "a lesion is found if a predicted piece shares a voxel with it; predicted pieces that meet "
        "none are false alarms"
    )
    return "; ".join(parts) + "."


def _has_surfaces(evaluation: Evaluation) -> bool:
    return any(case.surfaces for case in evaluation.cases)


def _has_lesions(evaluation: Evaluation) -> bool:
    return any(case.lesions for case in evaluation.cases)


def _has_calibration(evaluation: Evaluation) -> bool:
    return any(case.calibration_error is not None for case in evaluation.cases)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed as a package)"
