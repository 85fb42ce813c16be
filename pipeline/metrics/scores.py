"""Scores of one case and the table of all of them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from pipeline.core.geometry import Spacing
from pipeline.core.workspace import write_text
from pipeline.metrics.overlap import OverlapScores, confusion_matrix, overlap_scores

MM3_PER_ML = 1000.0
CSV_COLUMNS = (
    *("case_id", "class_name", "status", "dice", "iou", "tp", "fp", "fn"),
    *("reference_ml", "prediction_ml", "volume_error_ml"),
)


@dataclass(frozen=True)
class CaseScores:
    """Scores of one case.

    Args:
        case_id: The case.
        classes: One entry per scored class; a case without a prediction has only the classes its
            reference holds, so that no policy can reward what was never predicted.
        grid_offset_voxels: How far the grids of prediction and reference lie apart.
    """

    case_id: str
    classes: tuple[OverlapScores, ...]
    grid_offset_voxels: float = 0.0

    def of_class(self, class_name: str) -> OverlapScores | None:
        """The scores of one class, None if it was not scored in this case."""
        return next((c for c in self.classes if c.class_name == class_name), None)


def score_label_maps(
    case_id: str,
    *,
    prediction: Integer[np.ndarray, "..."],
    reference: Integer[np.ndarray, "..."],
    class_names: Sequence[str],
    spacing_mm: Spacing,
) -> CaseScores:
    """Compare two maps of class indices voxel by voxel.

    Args:
        case_id: The case.
        prediction: Predicted class indices, shape (i, j, k), 0 is background.
        reference: Reference class indices on the same grid.
        class_names: Names of classes 1..N.
        spacing_mm: Voxel spacing along i, j, k, in mm.

    Returns:
        The scores of every class.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value that is no class index.
    """
    confusion = confusion_matrix(
        prediction=prediction, reference=reference, n_classes=len(class_names)
    )
    voxel_ml = spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / MM3_PER_ML
    return CaseScores(case_id, overlap_scores(confusion, class_names, voxel_ml=voxel_ml))


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


def write_scores_csv(file: Path, cases: Sequence[CaseScores]) -> None:
    """Write one row per case and class; an undefined score is an empty cell.

    Args:
        file: The CSV file, replaced in one step.
        cases: Scored cases.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    for case in cases:
        for scores in case.classes:
            rows.writerow(_csv_row(case.case_id, scores))
    write_text(file, text.getvalue())


def _csv_row(case_id: str, scores: OverlapScores) -> tuple[str | int, ...]:
    return (
        *(case_id, scores.class_name, scores.status),
        *(_cell(scores.dice.value), _cell(scores.iou.value)),
        *(scores.n_true_positive, scores.n_false_positive, scores.n_false_negative),
        *(_cell(scores.reference_ml), _cell(scores.prediction_ml), _cell(scores.volume_error_ml)),
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"
