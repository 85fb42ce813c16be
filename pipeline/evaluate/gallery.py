"""Pictures of the cases that went worst: what is right, too much, missing, or another class."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt, UInt8

from pipeline.core.errors import GeometryError, VoxlineError
from pipeline.core.geometry import Shape3, Spacing, corner_displacement_voxels
from pipeline.core.task import Task
from pipeline.core.volume import Volume, to_ras
from pipeline.evaluate.annotation import EVERYTHING_DRAWN
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.pairs import CasePair
from pipeline.evaluate.score import class_indices, on_common_grid
from pipeline.io.load import load_volume
from pipeline.metrics.overlap import without_ignored
from pipeline.reporting.pictures import as_small_data_uri, class_color, overlay_figure
from pipeline.reporting.viewer import Overlay, ViewerCase, viewer_case

# The page stays below 25 MB with this, its pictures and its tables.
MAX_VOLUME_BYTES = 10_000_000
MAX_VOLUMES = 12

# Values of the error map: their colors are those of classes 1 to 4.
FALSE_POSITIVE, CONFUSED, FALSE_NEGATIVE, TRUE_POSITIVE = 1, 2, 3, 4
ERROR_NAMES = ("predicted only (FP)", "another class", "reference only (FN)", "both (TP)")

_log = logging.getLogger(__name__)

IndexMap = UInt[np.ndarray, "i j k"]


@dataclass(frozen=True)
class CasePicture:
    """One case as pictures.

    Args:
        case_id: The case.
        errors_uri: Where the maps agree and how they differ, as a data address.
        outlines_uri: Outlines of prediction and reference by class, as a data address.
        n_disagreeing_voxels: Voxels where prediction and reference differ.
        volume: The case for the interactive viewer; None if the page has no room for it.
    """

    case_id: str
    errors_uri: str
    outlines_uri: str
    n_disagreeing_voxels: int
    volume: ViewerCase | None


def picture_cases(
    pairs: Sequence[CasePair], images: Mapping[str, Path], task: Task, config: EvaluateConfig
) -> tuple[CasePicture, ...]:
    """Draw cases; one that cannot be drawn is left out and named in the log.

    Args:
        pairs: Cases to draw, most important first.
        images: Case id to image file; the first channel is shown.
        task: Says which value is which class.
        config: How many to draw at most.

    Returns:
        The pictures, in the order of the pairs.
    """
    pictures: list[CasePicture] = []
    n_bytes_left = MAX_VOLUME_BYTES
    for pair in pairs:
        if len(pictures) == config.n_worst_pictures:
            break
        image = images.get(pair.case_id)
        if image is None or pair.prediction is None:
            continue
        try:
            scene = _open(pair, pair.prediction, image, task, config)
        except VoxlineError as error:
            _log.warning("no picture of case %s: %s", pair.case_id, error.what)
            continue
        volume = _volume(scene, task) if len(pictures) < MAX_VOLUMES else None
        if volume is not None and volume.n_bytes > n_bytes_left:
            volume = None
        n_bytes_left -= 0 if volume is None else volume.n_bytes
        pictures.append(_picture(scene, task, volume))
    return tuple(pictures)


def error_map(prediction: IndexMap, reference: IndexMap) -> UInt8[np.ndarray, "i j k"]:
    """What became of every voxel.

    Args:
        prediction: Class indices, shape (i, j, k), 0 is background.
        reference: Class indices on the same grid.

    Returns:
        0 where both are background, else one of the four values of this module.
    """
    errors = np.zeros(reference.shape, dtype=np.uint8)
    errors[(prediction > 0) & (reference == 0)] = FALSE_POSITIVE
    errors[(prediction == 0) & (reference > 0)] = FALSE_NEGATIVE
    is_both = (prediction > 0) & (reference > 0)
    errors[is_both & (prediction != reference)] = CONFUSED
    errors[is_both & (prediction == reference)] = TRUE_POSITIVE
    return errors


def pair_map(prediction: IndexMap, reference: IndexMap, class_names: Sequence[str]) -> Overlay:
    """The error map with the names of the classes, as a layer of the viewer.

    Args:
        prediction: Class indices, shape (i, j, k), 0 is background.
        reference: Class indices on the same grid.
        class_names: Names of classes 1..N.

    Returns:
        One value per pair of classes that occurs, in the color of its kind of error.
    """
    matters = (prediction > 0) | (reference > 0)
    n = len(class_names) + 1
    codes = reference[matters].astype(np.int64) * n + prediction[matters]
    found, places = np.unique(codes, return_inverse=True)
    values = np.zeros(reference.shape, dtype=np.uint16)
    values[matters] = places + 1
    pairs = [(int(code) // n, int(code) % n) for code in found]
    names = tuple(_pair_name(*pair, class_names) for pair in pairs)
    return Overlay("agreement", values, names, tuple(_pair_color(*pair) for pair in pairs))


@dataclass(frozen=True)
class _Scene:
    """One case ready to be drawn: image and class indices on one grid, axes to R, A, S."""

    case_id: str
    image: Volume
    prediction: IndexMap
    reference: IndexMap

    @property
    def spacing_mm(self) -> Spacing:
        return self.image.geometry.spacing_mm

    @property
    def point(self) -> Shape3 | None:
        return _worst_point(self.prediction != self.reference)


def _open(
    pair: CasePair, prediction_file: Path, image_file: Path, task: Task, config: EvaluateConfig
) -> _Scene:
    _, stored_reference = load_volume(pair.reference, root=pair.reference.parent, role="label")
    _, stored_prediction = load_volume(prediction_file, root=prediction_file.parent, role="label")
    prediction, reference, _ = on_common_grid(
        stored_prediction,
        stored_reference,
        max_displacement_voxels=config.max_corner_displacement_voxels,
    )
    predicted, referred = without_ignored(
        prediction=class_indices(prediction, task, role="prediction"),
        reference=class_indices(reference, task, role="reference"),
        ignore_index=task.ignore_index,
    )
    predicted = _without_unannotated(predicted, referred, pair, task)
    # Placed on one grid: the two match to a fraction of a voxel.
    reference_ras = to_ras(Volume(referred, reference.affine))
    prediction_ras = to_ras(Volume(predicted, reference.affine))
    _, stored_image = load_volume(image_file, root=image_file.parent, role="image")
    image_ras = to_ras(Volume(stored_image.array[0], stored_image.affine))
    _check_same_grid(image_ras, reference_ras, config)
    return _Scene(pair.case_id, image_ras, prediction_ras.array, reference_ras.array)


def _picture(scene: _Scene, task: Task, volume: ViewerCase | None) -> CasePicture:
    errors = overlay_figure(
        scene.image.array,
        label=error_map(scene.prediction, scene.reference),
        reference=None,
        spacing_mm=scene.spacing_mm,
        class_names=ERROR_NAMES,
        point=scene.point,
    )
    outlines = overlay_figure(
        scene.image.array,
        label=scene.prediction,
        reference=scene.reference,
        spacing_mm=scene.spacing_mm,
        class_names=task.class_names,
        point=scene.point,
    )
    return CasePicture(
        scene.case_id,
        errors_uri=as_small_data_uri(errors),
        outlines_uri=as_small_data_uri(outlines),
        n_disagreeing_voxels=int(np.count_nonzero(scene.prediction != scene.reference)),
        volume=volume,
    )


def _volume(scene: _Scene, task: Task) -> ViewerCase:
    i, j, k = (n // 2 for n in scene.reference.shape)
    return viewer_case(
        scene.case_id,
        scene.image.array,
        [pair_map(scene.prediction, scene.reference, task.class_names)],
        spacing_mm=scene.spacing_mm,
        point=scene.point or (i, j, k),
        note="Opens where prediction and reference differ most. Green: both; orange: predicted "
        "only; pink: reference only; blue: another class.",
    )


def _without_unannotated(
    prediction: IndexMap, reference: IndexMap, pair: CasePair, task: Task
) -> IndexMap:
    """A class that nobody drew is no error where the reference shows nothing else."""
    if pair.unannotated == EVERYTHING_DRAWN:
        return prediction
    shown = set(np.unique(reference).tolist())
    present = {c.name for c in task.classes if c.index in shown}
    unknown = pair.unannotated.among(task.class_names, present=present)
    indices = [c.index for c in task.classes if c.name in unknown]
    is_open = np.isin(prediction, indices) & (reference == 0)
    return np.where(is_open, np.zeros((), prediction.dtype), prediction)


def _check_same_grid(image: Volume, reference: Volume, config: EvaluateConfig) -> None:
    if image.shape != reference.shape:
        raise GeometryError("the image and its reference differ in shape")
    offset = corner_displacement_voxels(reference.geometry, image.geometry)
    if offset > config.max_corner_displacement_voxels:
        raise GeometryError(f"the image lies {offset:.3g} voxels off its reference")


def _worst_point(differs: np.ndarray) -> Shape3 | None:
    """A voxel that differs, on the axial cut with most of them; None if there is none."""
    per_cut = np.count_nonzero(differs, axis=(0, 1))
    if not per_cut.any():
        return None
    k = int(np.argmax(per_cut))
    i = int(np.argmax(np.count_nonzero(differs[:, :, k], axis=1)))
    row = np.flatnonzero(differs[i, :, k])
    return i, int(row[row.size // 2]), k


def _pair_name(reference: int, prediction: int, class_names: Sequence[str]) -> str:
    if reference == prediction:
        return f"{class_names[reference - 1]}: both"
    if not prediction:
        return f"{class_names[reference - 1]}: reference only"
    if not reference:
        return f"{class_names[prediction - 1]}: predicted only"
    return f"{class_names[reference - 1]} predicted as {class_names[prediction - 1]}"


def _pair_color(reference: int, prediction: int) -> str:
    if reference == prediction:
        return class_color(TRUE_POSITIVE)
    if not prediction:
        return class_color(FALSE_NEGATIVE)
    return class_color(CONFUSED if reference else FALSE_POSITIVE)
