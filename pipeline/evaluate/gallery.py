"""Pictures of the cases that went worst, where prediction and reference disagree most."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt

from pipeline.core.errors import GeometryError, VoxlineError
from pipeline.core.geometry import Shape3, corner_displacement_voxels
from pipeline.core.task import Task
from pipeline.core.volume import Volume, to_ras
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.pairs import CasePair
from pipeline.evaluate.score import class_indices, on_common_grid
from pipeline.io.load import load_volume
from pipeline.reporting.pictures import overlay_figure

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CasePicture:
    """One case as a picture.

    Args:
        case_id: The case.
        png: The picture.
        n_disagreeing_voxels: Voxels where prediction and reference differ.
    """

    case_id: str
    png: bytes
    n_disagreeing_voxels: int


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
    for pair in pairs:
        if len(pictures) == config.n_worst_pictures:
            break
        image = images.get(pair.case_id)
        if image is None or pair.prediction is None:
            continue
        try:
            pictures.append(_picture(pair, pair.prediction, image, task, config))
        except VoxlineError as error:
            _log.warning("no picture of case %s: %s", pair.case_id, error.what)
    return tuple(pictures)


def _picture(
    pair: CasePair, prediction_file: Path, image_file: Path, task: Task, config: EvaluateConfig
) -> CasePicture:
    _, stored_reference = load_volume(pair.reference, root=pair.reference.parent, role="label")
    _, stored_prediction = load_volume(prediction_file, root=prediction_file.parent, role="label")
    prediction, reference, _ = on_common_grid(
        stored_prediction,
        stored_reference,
        max_displacement_voxels=config.max_corner_displacement_voxels,
    )
    reference_ras = to_ras(_indices(reference, reference, task, "reference"))
    prediction_ras = to_ras(_indices(prediction, reference, task, "prediction"))
    _, stored_image = load_volume(image_file, root=image_file.parent, role="image")
    image_ras = to_ras(Volume(stored_image.array[0], stored_image.affine))
    _check_same_grid(image_ras, reference_ras, config)
    differs = prediction_ras.array != reference_ras.array
    png = overlay_figure(
        image_ras.array,
        label=prediction_ras.array,
        reference=reference_ras.array,
        spacing_mm=reference_ras.geometry.spacing_mm,
        class_names=task.class_names,
        point=_busiest_point(differs.astype(np.uint8)),
    )
    return CasePicture(pair.case_id, png, int(np.count_nonzero(differs)))


def _indices(volume: Volume, grid: Volume, task: Task, role: str) -> Volume:
    """Class indices of a map, placed on the grid of another (they match to a fraction)."""
    return Volume(class_indices(volume, task, role=role), grid.affine)


def _check_same_grid(image: Volume, reference: Volume, config: EvaluateConfig) -> None:
    offset = corner_displacement_voxels(reference.geometry, image.geometry)
    if offset > config.max_corner_displacement_voxels:
        raise GeometryError(f"the image lies {offset:.3g} voxels off its reference")


def _busiest_point(differs: UInt[np.ndarray, "i j k"]) -> Shape3 | None:
    """Per axis, the cut with most disagreement; None if there is none."""
    if not differs.any():
        return None
    sums = (differs.sum(axis=(1, 2)), differs.sum(axis=(0, 2)), differs.sum(axis=(0, 1)))
    i, j, k = (int(np.argmax(s)) for s in sums)
    return i, j, k
