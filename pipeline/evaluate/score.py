"""Scoring one prediction against its reference: same place, same classes, then the numbers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt

from pipeline.core.errors import DataError, GeometryError
from pipeline.core.geometry import corner_displacement_voxels
from pipeline.core.task import Task, map_label_values
from pipeline.core.volume import Volume, to_ras
from pipeline.evaluate.annotation import EVERYTHING_DRAWN, Unannotated
from pipeline.metrics.calibration import calibration_bins
from pipeline.metrics.measure import Measures, with_measures
from pipeline.metrics.overlap import (
    confusion_matrix,
    mistaken_classes,
    overlap_scores,
    without_ignored,
)
from pipeline.metrics.scores import (
    MM3_PER_ML,
    CaseScores,
    score_missing_prediction,
    without_unannotated,
)

# Header rounding moves corners by less; more than this is worth a line in the report.
NOTABLE_OFFSET_VOXELS = 0.01
# How far from whole numbers a label may be, as in the audit (E03).
_INTEGER_TOLERANCE = 1e-3
OVERLAP_ONLY = Measures(has_surfaces=False)


def score_case(  # noqa: PLR0913  # the last four have defaults
    prediction: Volume,
    reference: Volume,
    task: Task,
    *,
    case_id: str,
    max_displacement_voxels: float = 0.5,
    measures: Measures = OVERLAP_ONLY,
    probabilities: Volume | None = None,
    unannotated: Unannotated = EVERYTHING_DRAWN,
) -> CaseScores:
    """Compare a prediction with its reference, both as read from their files.

    Voxels that the task ignores are left out of every number, and so are classes that nobody drew.

    Args:
        prediction: Label values as in the files of the data set, shape (i, j, k), any orientation.
        reference: Label values, any orientation.
        task: Says which value is which class.
        case_id: The case.
        max_displacement_voxels: Largest accepted distance of matching grid corners.
        measures: What to measure beyond overlap.
        probabilities: Shape (class, i, j, k), background first, on the grid of the prediction.
        unannotated: Classes that nobody drew in the reference.

    Returns:
        Scores of every annotated class; volumes in ml by the reference's affine.

    Raises:
        GeometryError: If the two do not lie on the same grid.
        DataError: If one holds values the task does not declare, or no whole numbers.
    """
    stored = prediction
    prediction, reference, offset_voxels = on_common_grid(
        prediction, reference, max_displacement_voxels=max_displacement_voxels
    )
    predicted, referred = without_ignored(
        prediction=class_indices(prediction, task, role="prediction"),
        reference=class_indices(reference, task, role="reference"),
        ignore_index=task.ignore_index,
    )
    confusion = confusion_matrix(
        prediction=predicted, reference=referred, n_classes=len(task.classes)
    )
    overlaps = overlap_scores(confusion, task.class_names, voxel_ml=voxel_ml(reference))
    case = CaseScores(
        case_id,
        overlaps,
        grid_offset_voxels=offset_voxels,
        mistaken=mistaken_classes(confusion, task.class_names),
    )
    present = {s.class_name for s in overlaps if s.n_reference}
    case = without_unannotated(case, unannotated.among(task.class_names, present=present))
    if probabilities is not None:
        values = _turned_like(prediction, stored, probabilities, predicted)
        matters = _foreground(predicted, referred, task, case.not_annotated)
        error = _calibration_error(values, matters, predicted, referred)
        case = replace(case, calibration_error=error)
    return with_measures(
        case,
        prediction=predicted,
        reference=referred,
        class_names=task.class_names,
        spacing_mm=reference.geometry.spacing_mm,
        measures=measures,
    )


def score_unpredicted(
    reference: Volume,
    task: Task,
    *,
    case_id: str,
    measures: Measures = OVERLAP_ONLY,
    unannotated: Unannotated = EVERYTHING_DRAWN,
) -> CaseScores:
    """Score a case without a prediction: every class of its reference is missed.

    Args:
        reference: Label values, any orientation.
        task: Says which value is which class.
        case_id: The case.
        measures: What to measure beyond overlap.
        unannotated: Classes that nobody drew in the reference.

    Returns:
        Scores of the classes the reference holds.

    Raises:
        DataError: If the reference holds values the task does not declare.
    """
    referred = class_indices(reference, task, role="reference")
    _, referred = without_ignored(
        prediction=referred, reference=referred, ignore_index=task.ignore_index
    )
    case = score_missing_prediction(
        case_id, reference=referred, class_names=task.class_names, voxel_ml=voxel_ml(reference)
    )
    present = {s.class_name for s in case.classes}
    case = without_unannotated(case, unannotated.among(task.class_names, present=present))
    return with_measures(
        case,
        prediction=None,
        reference=referred,
        class_names=task.class_names,
        spacing_mm=reference.geometry.spacing_mm,
        measures=measures,
    )


def _turned_like(
    prediction: Volume,
    stored: Volume,
    probabilities: Volume,
    predicted: Integer[np.ndarray, "i j k"],
) -> Shaped[np.ndarray, "class i j k"]:
    """Probabilities with the axes of the prediction, which may have been turned to RAS."""
    if probabilities.shape != stored.shape:
        raise GeometryError(
            f"the probabilities have {_times(probabilities)} voxels, the prediction "
            f"{_times(stored)}",
            fix="save the probabilities on the grid of the prediction",
        )
    is_turned = prediction is not stored
    values = (to_ras(probabilities) if is_turned else probabilities).array
    if values.shape[0] <= int(predicted.max(initial=0)):
        raise DataError(
            f"the probabilities have {values.shape[0]} classes, the prediction more",
            fix="save one volume per class, background first",
        )
    return values


def _foreground(
    predicted: Integer[np.ndarray, "i j k"],
    referred: Integer[np.ndarray, "i j k"],
    task: Task,
    not_annotated: Sequence[str],
) -> Bool[np.ndarray, "i j k"]:
    """Where a map has any foreground that the reference can judge."""
    matters = (predicted > 0) | (referred > 0)
    if not_annotated:
        unknown = [c.index for c in task.classes if c.name in not_annotated]
        matters &= ~np.isin(predicted, unknown) & ~np.isin(referred, unknown)
    return matters


def _calibration_error(
    values: Shaped[np.ndarray, "class i j k"],
    matters: Bool[np.ndarray, "i j k"],
    predicted: Integer[np.ndarray, "i j k"],
    referred: Integer[np.ndarray, "i j k"],
) -> float | None:
    """Error of the probability of the predicted class."""
    chosen = np.take_along_axis(
        values[:, matters], predicted[matters].astype(np.int64)[np.newaxis], axis=0
    )[0]
    bins = calibration_bins(
        probabilities=chosen.astype(np.float32), is_right=predicted[matters] == referred[matters]
    )
    return bins.error


def on_common_grid(
    prediction: Volume, reference: Volume, *, max_displacement_voxels: float
) -> tuple[Volume, Volume, float]:
    """Bring two label maps of one grid to the same axis order; nothing is ever resampled.

    Args:
        prediction: Any axis order and direction.
        reference: Any axis order and direction.
        max_displacement_voxels: Largest accepted distance of matching grid corners.

    Returns:
        Views of prediction and reference with matching voxels, and how far their corners lie
        apart, in voxels.

    Raises:
        GeometryError: If the grids differ by more.
    """
    # As stored first: it needs no decision about axes, which near 45 degrees hangs on rounding.
    stored_offset = _offset_voxels(prediction, reference)
    if stored_offset is not None and stored_offset <= max_displacement_voxels:
        return prediction, reference, stored_offset
    prediction, reference = to_ras(prediction), to_ras(reference)
    offset = _offset_voxels(prediction, reference)
    if offset is None:
        raise GeometryError(
            f"the prediction has {_times(prediction)} voxels, the reference {_times(reference)} "
            "(along R, A, S)",
            fix=_FIX_GRID,
        )
    if offset > max_displacement_voxels:
        offset_mm = offset * min(reference.geometry.spacing_mm)
        raise GeometryError(
            f"the prediction lies {offset_mm:.4g} mm ({offset:.3g} voxels) off the reference; "
            f"accepted are {max_displacement_voxels:g} voxels",
            fix=_FIX_GRID,
        )
    return prediction, reference, offset


def class_indices(volume: Volume, task: Task, *, role: str) -> UInt[np.ndarray, "i j k"]:
    """Turn label values into class indices, or say what kind of file this is instead.

    Args:
        volume: Label values as in the file, shape (i, j, k).
        task: Says which value is which class.
        role: "prediction" or "reference", for the message.

    Returns:
        Class indices, 0 for background.

    Raises:
        DataError: If there are values the task does not declare, or no whole numbers.
    """
    if volume.array.ndim != 3:
        raise DataError(
            f"the {role} has {volume.array.shape[0]} channels; a label map has one",
            fix="save one class value per voxel: the index of the highest channel",
        )
    try:
        return map_label_values(volume.array, task)
    except DataError as error:
        raise _explained(error, volume.array, task, role) from None


def voxel_ml(volume: Volume) -> float:
    """Volume of one voxel in ml, also right for sheared grids."""
    return abs(float(np.linalg.det(volume.affine[:3, :3]))) / MM3_PER_ML


_FIX_GRID = (
    "score predictions on the grid of the label files; check that the tool that wrote them kept "
    "shape, spacing, direction and origin"
)


def _offset_voxels(prediction: Volume, reference: Volume) -> float | None:
    """Largest corner distance in voxels of the reference, None if the shapes differ."""
    if prediction.shape != reference.shape:
        return None
    return corner_displacement_voxels(reference.geometry, prediction.geometry)


def _times(volume: Volume) -> str:
    return "x".join(str(n) for n in volume.shape)


def _explained(
    error: DataError, array: Shaped[np.ndarray, "i j k"], task: Task, role: str
) -> DataError:
    """The same refusal with what the values look like and what to do about it."""
    declared = ", ".join(str(v) for v in sorted(task.declared_values))
    if array.dtype.kind == "f":
        problem = _float_problem(array)
        if problem is not None:
            return DataError(f"the {role} {problem[0]}", fix=problem[1])
    values = np.unique(array)
    shown = ", ".join(f"{v:g}" for v in values[:8]) + (" ..." if values.size > 8 else "")
    message = f"the {role} holds the values {shown}; declared are {declared}"
    if values.size == 2 and values[0] == 0:
        foreground = [v for c in task.classes for v in c.source_values]
        if len(foreground) == 1:
            fix = f"write {foreground[0]} instead of {values[1]:g} for '{task.classes[0].name}'"
        else:
            fix = f"this looks like a mask saved as 0/{values[1]:g}; write the value of its class"
        return DataError(message, fix=fix)
    return DataError(
        message, fix=error.fix or "declare the values in task.classes, or mend the file"
    )


def _float_problem(array: Shaped[np.ndarray, "i j k"]) -> tuple[str, str] | None:
    """What is wrong with a map of fractions, and the fix; None if its values are whole."""
    if not np.all(np.isfinite(array)):
        return "holds NaN or infinite values", "write a label map of whole numbers"
    if not np.any(np.abs(array - np.rint(array)) > _INTEGER_TOLERANCE):
        return None
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= 1:
        return (
            "holds fractions between 0 and 1, as probabilities do",
            "save labels, not probabilities: the class with the highest probability per voxel",
        )
    return (
        f"holds values that are not whole numbers (range {low:.4g} to {high:.4g})",
        "save whole numbers; if it was resampled, use nearest neighbour or resample per class",
    )
