"""The metrics by name: what each one means, and its number for a case and class under a policy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.overlap import OverlapScores, Score
from pipeline.metrics.policy import EmptyPolicy
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores

MetricName = Literal[
    "dice",
    "iou",
    "precision",
    "recall",
    "nsd",
    "hd95_mm",
    "hd95_penalized_mm",
    "assd_mm",
    "assd_penalized_mm",
    "volume_error_ml",
    "volume_error_percent",
    "absolute_volume_error_ml",
    "lesion_f1",
    "lesion_recall",
    "lesion_precision",
    "lesion_dice",
]


@dataclass(frozen=True)
class Metric:
    """What a report has to say about a metric.

    Args:
        name: Name in tables and configurations.
        title: Name for people.
        unit: Such as "mm"; empty without one.
        higher_is_better: None where zero is best (signed errors).
        lower: Smallest possible value; None if unbounded.
        upper: Largest possible value; None if unbounded.
        definition: How it is computed, in one or two sentences.
    """

    name: MetricName
    title: str
    unit: str
    higher_is_better: bool | None
    lower: float | None
    upper: float | None
    definition: str


def metric_named(name: str) -> Metric:
    """Find a metric by its name.

    Args:
        name: One of `MetricName`.

    Returns:
        Its description.

    Raises:
        ConfigError: If there is none of that name.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise ConfigError(
        f"unknown metric '{name}'", where="metric", fix=did_you_mean(name, get_args(MetricName))
    )


def metric_value(
    case: CaseScores, class_name: str, metric: MetricName, policy: EmptyPolicy
) -> float | None:
    """One number of a case and class, as it enters averages and tests.

    Args:
        case: The scored case.
        class_name: A class or region.
        metric: Which number; its unit and range stand in `METRICS`.
        policy: What empty masks count.

    Returns:
        The number; None if the class was not scored, the metric was not computed, it is
        undefined, or the policy leaves it out.
    """
    if metric in _OF_OVERLAP:
        overlap = case.of_class(class_name)
        return None if overlap is None else _OF_OVERLAP[metric](overlap, policy)
    if metric in _OF_SURFACE:
        surface = case.surface_of(class_name)
        return None if surface is None else _OF_SURFACE[metric](surface, policy)
    lesion = case.lesion_of(class_name)
    return None if lesion is None else _OF_LESION[metric](lesion, policy)


def _share(score: Score, policy: EmptyPolicy) -> float | None:
    """Precision and recall: no policy fills a gap, but one may leave the case out."""
    return None if policy.value(Score(0.0, score.status)) is None else score.value


def _volume_error_ml(scores: OverlapScores, policy: EmptyPolicy) -> float | None:
    # A volume error is a measurement under every policy; only true absence says nothing.
    del policy
    return None if scores.status == "absent" else scores.volume_error_ml


def _absolute(value: float | None) -> float | None:
    return None if value is None else abs(value)


_OF_OVERLAP: dict[MetricName, Callable[[OverlapScores, EmptyPolicy], float | None]] = {
    "dice": lambda s, policy: policy.value(s.dice),
    "iou": lambda s, policy: policy.value(s.iou),
    "precision": lambda s, policy: _share(s.precision, policy),
    "recall": lambda s, policy: _share(s.recall, policy),
    "volume_error_ml": _volume_error_ml,
    "volume_error_percent": lambda s, _: s.volume_error_percent,
    "absolute_volume_error_ml": lambda s, policy: _absolute(_volume_error_ml(s, policy)),
}
_OF_SURFACE: dict[MetricName, Callable[[SurfaceScores, EmptyPolicy], float | None]] = {
    "nsd": lambda s, policy: policy.surface_dice.value(s.nsd),
    "hd95_mm": lambda s, policy: policy.distance_mm.value(s.hd95_mm),
    "assd_mm": lambda s, policy: policy.distance_mm.value(s.assd_mm),
    "hd95_penalized_mm": lambda s, _: s.penalized(s.hd95_mm),
    "assd_penalized_mm": lambda s, _: s.penalized(s.assd_mm),
}
_OF_LESION: dict[MetricName, Callable[[LesionScores, EmptyPolicy], float | None]] = {
    "lesion_f1": lambda s, policy: policy.value(s.f1),
    "lesion_dice": lambda s, policy: policy.value(s.dice),
    "lesion_recall": lambda s, policy: _share(s.recall, policy),
    "lesion_precision": lambda s, policy: _share(s.precision, policy),
}

_VOXELS = "TP, FP, FN are voxels of the class in both maps, the prediction only, the reference only"
_SURFACE_VOXELS = (
    "surface voxels are voxels of the class with a face neighbour outside it or at the image edge; "
    "distances between voxel centers in mm"
)
_LESIONS = (
    "lesions are 26-connected pieces; a reference lesion is detected if a predicted one shares a "
    "voxel with it"
)
METRICS: tuple[Metric, ...] = (
    Metric(
        *("dice", "Dice", "", True, 0.0, 1.0),
        f"2 TP / (2 TP + FP + FN); {_VOXELS}.",
    ),
    Metric(
        *("iou", "IoU", "", True, 0.0, 1.0),
        f"TP / (TP + FP + FN); {_VOXELS}.",
    ),
    Metric(
        *("precision", "Precision", "", True, 0.0, 1.0),
        "TP / (TP + FP); undefined where nothing is predicted.",
    ),
    Metric(
        *("recall", "Recall", "", True, 0.0, 1.0),
        "TP / (TP + FN); undefined where the reference has nothing.",
    ),
    Metric(
        *("nsd", "Surface Dice", "", True, 0.0, 1.0),
        "Area of both surfaces that lies within the tolerance of the other surface, over the area "
        "of both (normalized surface Dice; surface elements of 2x2x2 voxels weighted by area, "
        "closed at the image edge).",
    ),
    Metric(
        *("hd95_mm", "HD95", "mm", False, 0.0, None),
        f"Larger of the two directed 95th percentiles of surface distances; {_SURFACE_VOXELS}.",
    ),
    Metric(
        *("hd95_penalized_mm", "HD95 with penalty", "mm", False, 0.0, None),
        "HD95; the image diagonal where the class is missed or hallucinated.",
    ),
    Metric(
        *("assd_mm", "ASSD", "mm", False, 0.0, None),
        f"Mean of all surface distances of both directions together; {_SURFACE_VOXELS}.",
    ),
    Metric(
        *("assd_penalized_mm", "ASSD with penalty", "mm", False, 0.0, None),
        "ASSD; the image diagonal where the class is missed or hallucinated.",
    ),
    Metric(
        *("volume_error_ml", "Volume error", "ml", None, None, None),
        "Predicted minus reference volume; positive means predicted too large.",
    ),
    Metric(
        *("volume_error_percent", "Volume error", "%", None, -100.0, None),
        "Predicted minus reference volume in percent of the reference; undefined without one.",
    ),
    Metric(
        *("absolute_volume_error_ml", "Absolute volume error", "ml", False, 0.0, None),
        "Size of the difference of predicted and reference volume.",
    ),
    Metric(
        *("lesion_f1", "Lesion F1", "", True, 0.0, 1.0),
        f"2 detected / (2 detected + missed + false alarms); {_LESIONS}.",
    ),
    Metric(
        *("lesion_recall", "Lesion recall", "", True, 0.0, 1.0),
        f"Detected share of the reference lesions; {_LESIONS}.",
    ),
    Metric(
        *("lesion_precision", "Lesion precision", "", True, 0.0, 1.0),
        f"Share of the predicted lesions that are no false alarms; {_LESIONS}.",
    ),
    Metric(
        *("lesion_dice", "Lesion Dice", "", True, 0.0, 1.0),
        "Mean over reference lesions and false alarms of the Dice of a lesion with all predicted "
        f"lesions it meets; false alarms count 0; {_LESIONS}.",
    ),
)
