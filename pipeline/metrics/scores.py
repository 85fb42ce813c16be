"""Scores of one case."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Integer
from pydantic import TypeAdapter

from pipeline.core.geometry import Spacing
from pipeline.metrics.lesion import LesionScores
from pipeline.metrics.overlap import (
    Mistaken,
    OverlapScores,
    confusion_matrix,
    mistaken_classes,
    overlap_scores,
    without_ignored,
)
from pipeline.metrics.surface import SurfaceScores

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Args:
        case_id: The case.
        classes: One entry per scored class; a case without a prediction has only the classes its
            reference holds, so that no policy can reward what was never predicted.
        grid_offset_voxels: How far the grids of prediction and reference lie apart.
        surfaces: Surface scores per class and region; empty if they were not computed.
        lesions: Detection scores of the classes that come in several separate pieces.
        mistaken: Pairs of foreground classes that were confused.
        calibration_error: Expected calibration error of the predicted probabilities, range
            [0, 1]; None without probabilities.
        not_annotated: Classes and regions that nobody drew in this case: nothing can be said about
            them, so they have no scores and enter no count but their own.
    """

    case_id: str
    classes: tuple[OverlapScores, ...]
    grid_offset_voxels: float = 0.0
    surfaces: tuple[SurfaceScores, ...] = ()
    lesions: tuple[LesionScores, ...] = ()
    mistaken: tuple[Mistaken, ...] = ()
    calibration_error: float | None = None
    not_annotated: tuple[str, ...] = ()

    def of_class(self, class_name: str) -> OverlapScores | None:
        """The scores of one class, None if it was not scored in this case."""
        return self._overlaps.get(class_name)

    def surface_of(self, class_name: str) -> SurfaceScores | None:
        """The surface scores of one class, None if they were not computed."""
        return self._surfaces.get(class_name)

    def lesion_of(self, class_name: str) -> LesionScores | None:
        """The detection scores of one class, None if they were not computed."""
        return next((s for s in self.lesions if s.class_name == class_name), None)

    # Averages over many classes ask for each of them again and again.
    @cached_property
    def _overlaps(self) -> dict[str, OverlapScores]:
        return {scores.class_name: scores for scores in self.classes}

    @cached_property
    def _surfaces(self) -> dict[str, SurfaceScores]:
        return {scores.class_name: scores for scores in self.surfaces}


def score_label_maps(  # noqa: PLR0913  # the last two have defaults
    case_id: str,
    *,
    prediction: Integer[np.ndarray, "..."],
    reference: Integer[np.ndarray, "..."],
    class_names: Sequence[str],
    spacing_mm: Spacing,
    ignore_index: int | None = None,
    not_annotated: Sequence[str] = (),
) -> CaseScores:
    """Compare two maps of class indices voxel by voxel.

    Args:
        case_id: The case.
        prediction: Predicted class indices, shape (i, j, k), 0 is background.
        reference: Reference class indices on the same grid.
        class_names: Names of classes 1..N.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        ignore_index: Reference index of voxels that do not count; None if all do.
        not_annotated: Classes that nobody drew in this case.

    Returns:
        The scores of every class but those.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value that is no class index.
    """
    prediction, reference = without_ignored(
        prediction=prediction, reference=reference, ignore_index=ignore_index
    )
    confusion = confusion_matrix(
        prediction=prediction, reference=reference, n_classes=len(class_names)
    )
    voxel_ml = spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / MM3_PER_ML
    case = CaseScores(
        case_id,
        overlap_scores(confusion, class_names, voxel_ml=voxel_ml),
        mistaken=mistaken_classes(confusion, class_names),
    )
    return without_unannotated(case, not_annotated)


def without_unannotated(case: CaseScores, class_names: Sequence[str]) -> CaseScores:
    """Take the scores of classes out of a case in which nobody drew them.

    Args:
        case: Overlap of every class.
        class_names: The classes to take out.

    Returns:
        The case without them, and with their names.
    """
    if not class_names:
        return case
    return replace(
        case,
        classes=tuple(s for s in case.classes if s.class_name not in class_names),
        mistaken=tuple(m for m in case.mistaken if m.class_name not in class_names),
        not_annotated=tuple(class_names),
    )


def score_missing_prediction(
    case_id: str,
    *,
    reference: Integer[np.ndarray, "..."],
    class_names: Sequence[str],
    voxel_ml: float,
) -> CaseScores:
    """Score a case nobody predicted: every class of its reference is missed.

    Args:
        case_id: The case.
        reference: Reference class indices.
        class_names: Names of classes 1..N.
        voxel_ml: Volume of one voxel, in ml.

    Returns:
        Scores of the classes in the reference, all of status "missed".

    Raises:
        DataError: If the reference holds a value that is no class index.
    """
    nothing = np.broadcast_to(np.zeros((), reference.dtype), reference.shape)
    confusion = confusion_matrix(
        prediction=nothing, reference=reference, n_classes=len(class_names)
    )
    scores = overlap_scores(confusion, class_names, voxel_ml=voxel_ml)
    return CaseScores(case_id, tuple(s for s in scores if s.status == "missed"))


def case_scores_to_json(case: CaseScores) -> str:
    """Write scores so that `case_scores_from_json` gives back an equal object."""
    return TypeAdapter(CaseScores).dump_json(case).decode()


def case_scores_from_json(text: str) -> CaseScores:
    """Read what `case_scores_to_json` wrote.

    Raises:
        pydantic.ValidationError: If the text is something else.
    """
    return TypeAdapter(CaseScores).validate_json(text)
