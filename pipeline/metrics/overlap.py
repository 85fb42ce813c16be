"""How well two label maps overlap: every class of a case from one pass over the voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, Integer

from pipeline.core.errors import DataError, GeometryError

Status = Literal["ok", "absent", "missed", "hallucinated"]

# The int64 pair index of a chunk (2 MB) stays in cache; memory does not grow with the volume.
CHUNK_VOXELS = 2**18


@dataclass(frozen=True)
class Score:
    """A number, or the reason why it is not an ordinary one.

    Args:
        value: The score without unit; None where it is undefined.
        status: "ok": class in both maps; "absent": in neither (undefined); "missed": in the
            reference only (0); "hallucinated": in the prediction only (0).
    """

    value: float | None
    status: Status


@dataclass(frozen=True)
class OverlapScores:
    """Overlap of one class of one case, kept as voxel counts so that nothing is rounded.

    Args:
        class_name: The structure.
        n_true_positive: Voxels of the class in both maps.
        n_false_positive: Voxels of the class in the prediction only.
        n_false_negative: Voxels of the class in the reference only.
        voxel_ml: Volume of one voxel, in ml.
    """

    class_name: str
    n_true_positive: int
    n_false_positive: int
    n_false_negative: int
    voxel_ml: float

    @property
    def n_reference(self) -> int:
        """Voxels of the class in the reference."""
        return self.n_true_positive + self.n_false_negative

    @property
    def n_prediction(self) -> int:
        """Voxels of the class in the prediction."""
        return self.n_true_positive + self.n_false_positive

    @property
    def status(self) -> Status:
        """In which of the two maps the class occurs."""
        if self.n_reference:
            return "ok" if self.n_prediction else "missed"
        return "hallucinated" if self.n_prediction else "absent"

    @property
    def dice(self) -> Score:
        """2 TP / (2 TP + FP + FN), range [0, 1], higher is better."""
        return self._share(2 * self.n_true_positive, self.n_reference + self.n_prediction)

    @property
    def iou(self) -> Score:
        """TP / (TP + FP + FN), range [0, 1], higher is better."""
        return self._share(self.n_true_positive, self.n_reference + self.n_false_positive)

    @property
    def reference_ml(self) -> float:
        """Volume of the class in the reference, in ml."""
        return self.n_reference * self.voxel_ml

    @property
    def prediction_ml(self) -> float:
        """Volume of the class in the prediction, in ml."""
        return self.n_prediction * self.voxel_ml

    @property
    def volume_error_ml(self) -> float:
        """Predicted minus reference volume, in ml; positive means predicted too large."""
        return (self.n_prediction - self.n_reference) * self.voxel_ml

    def _share(self, part: int, whole: int) -> Score:
        return Score(part / whole if whole else None, self.status)


def confusion_matrix(
    *,
    prediction: Integer[np.ndarray, "..."],
    reference: Integer[np.ndarray, "..."],
    n_classes: int,
) -> Int64[np.ndarray, "n n"]:
    """Count voxels for every pair of reference and predicted class.

    Sums of matrices over parts of a volume, or over cases, equal the matrix of the whole.

    Args:
        prediction: Predicted class indices 0..n_classes, 0 is background; any memory layout.
        reference: Reference class indices on the same grid.
        n_classes: Number of foreground classes.

    Returns:
        Counts with shape (n_classes + 1, n_classes + 1), indexed [reference, prediction].

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value outside 0..n_classes.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape",
            fix="score them on the same grid",
        )
    n_labels = n_classes + 1
    n_pairs = n_labels**2
    counts = np.zeros(n_pairs, dtype=np.int64)
    # The iterator walks both maps in memory order and copies only where their layouts disagree.
    chunks = np.nditer(
        [reference, prediction],
        flags=["external_loop", "buffered", "zerosize_ok"],
        order="K",
        buffersize=max(CHUNK_VOXELS, n_pairs),
    )
    for reference_chunk, prediction_chunk in chunks:
        _check_range(reference_chunk, n_classes, "reference")
        _check_range(prediction_chunk, n_classes, "prediction")
        pairs = reference_chunk.astype(np.intp)
        pairs *= n_labels
        pairs += prediction_chunk.astype(np.intp)
        counts += np.bincount(pairs, minlength=n_pairs)
    return counts.reshape(n_labels, n_labels)


def overlap_scores(
    confusion: Int64[np.ndarray, "n n"], class_names: Sequence[str], *, voxel_ml: float
) -> tuple[OverlapScores, ...]:
    """Read the overlap of every foreground class off a confusion matrix.

    Args:
        confusion: Counts as `confusion_matrix` gives them, or a sum of such.
        class_names: Names of the foreground classes in index order.
        voxel_ml: Volume of one voxel, in ml.

    Returns:
        One entry per foreground class, in the order of the names.

    Raises:
        DataError: If the matrix is not for this number of classes.
    """
    if confusion.shape[0] != len(class_names) + 1:
        raise DataError(
            f"a confusion matrix of {confusion.shape[0] - 1} classes for {len(class_names)} names"
        )
    n_reference, n_prediction = confusion.sum(axis=1), confusion.sum(axis=0)
    n_both = np.diagonal(confusion)
    return tuple(
        OverlapScores(
            class_name=name,
            n_true_positive=int(n_both[index]),
            n_false_positive=int(n_prediction[index] - n_both[index]),
            n_false_negative=int(n_reference[index] - n_both[index]),
            voxel_ml=voxel_ml,
        )
        for index, name in enumerate(class_names, start=1)
    )


def _check_range(chunk: Integer[np.ndarray, "voxel"], n_classes: int, role: str) -> None:
    # Out of range, a value would silently be counted as a pair of other classes.
    if not chunk.size:
        return
    lowest, highest = int(chunk.min()), int(chunk.max())
    if lowest < 0 or highest > n_classes:
        raise DataError(
            f"the {role} holds the value {lowest if lowest < 0 else highest}, "
            f"but classes run from 0 to {n_classes}",
            fix="map label values to class indices first (core.task.map_label_values)",
        )
