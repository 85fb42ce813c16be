"""How well two label maps overlap: every class of a case from one pass over the voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, Integer

from pipeline.core.errors import DataError, GeometryError

Status = Literal["ok", "absent", "missed", "hallucinated"]

# The pairs of a chunk stay in cache; memory does not grow with the volume.
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
        is_region: Whether it unites other classes, so that no mean over classes counts it.
    """

    class_name: str
    n_true_positive: int
    n_false_positive: int
    n_false_negative: int
    voxel_ml: float
    is_region: bool = False

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
    def precision(self) -> Score:
        """TP / (TP + FP), range [0, 1], higher is better; undefined where nothing is predicted."""
        return self._share(self.n_true_positive, self.n_prediction)

    @property
    def recall(self) -> Score:
        """TP / (TP + FN), range [0, 1], higher is better; undefined without a reference."""
        return self._share(self.n_true_positive, self.n_reference)

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

    @property
    def volume_error_percent(self) -> float | None:
        """Predicted minus reference volume in percent of the reference; None without one."""
        if not self.n_reference:
            return None
        return 100.0 * (self.n_prediction - self.n_reference) / self.n_reference

    def _share(self, part: int, whole: int) -> Score:
        return Score(part / whole if whole else None, self.status)


@dataclass(frozen=True)
class Mistaken:
    """Voxels of one foreground class that were predicted as another one.

    Args:
        class_name: The class in the reference.
        mistaken_for: The class in the prediction, never background.
        n_voxels: How many.
    """

    class_name: str
    mistaken_for: str
    n_voxels: int


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
    _check_shapes(prediction, reference)
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
    # The smallest type that holds a pair: most of the time goes into moving memory.
    pair_type = np.min_scalar_type(n_pairs - 1)
    for reference_chunk, prediction_chunk in chunks:
        check_class_indices(reference_chunk, n_classes, "reference")
        check_class_indices(prediction_chunk, n_classes, "prediction")
        pairs = reference_chunk.astype(pair_type)
        pairs *= n_labels
        np.add(pairs, prediction_chunk, out=pairs, casting="unsafe")
        # Background in both is most of a volume: counted as what is left.
        foreground = pairs[pairs != 0]
        counts += np.bincount(foreground, minlength=n_pairs)
        counts[0] += pairs.size - foreground.size
    return counts.reshape(n_labels, n_labels)


def without_ignored(
    *,
    prediction: Integer[np.ndarray, "..."],
    reference: Integer[np.ndarray, "..."],
    ignore_index: int | None,
) -> tuple[Integer[np.ndarray, "..."], Integer[np.ndarray, "..."]]:
    """Make background of both maps where the reference says that a voxel does not count.

    A structure that goes on into such voxels ends at their edge in both maps, also for surfaces.
    Elsewhere a prediction that itself says "ignore" predicts no class.

    Args:
        prediction: Predicted class indices.
        reference: Reference class indices on the same grid.
        ignore_index: Index of voxels that do not count; None if all do.

    Returns:
        Prediction and reference without that index; the maps themselves if it is in neither.

    Raises:
        GeometryError: If the two shapes differ.
    """
    if ignore_index is None:
        return prediction, reference
    _check_shapes(prediction, reference)
    is_ignored = reference == ignore_index
    is_background = is_ignored | (prediction == ignore_index)
    if not is_background.any():
        return prediction, reference
    zero = np.zeros((), reference.dtype)
    return (
        np.where(is_background, zero.astype(prediction.dtype), prediction),
        np.where(is_ignored, zero, reference),
    )


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


def mistaken_classes(
    confusion: Int64[np.ndarray, "n n"], class_names: Sequence[str]
) -> tuple[Mistaken, ...]:
    """List the confused pairs of foreground classes.

    Args:
        confusion: Counts as `confusion_matrix` gives them, indexed [reference, prediction].
        class_names: Names of the foreground classes in index order.

    Returns:
        Pairs with at least one voxel, in index order.
    """
    foreground = confusion[1:, 1:]
    return tuple(
        Mistaken(class_names[r], class_names[p], int(foreground[r, p]))
        for r, p in np.argwhere(foreground)
        if r != p
    )


def _check_shapes(
    prediction: Integer[np.ndarray, "..."], reference: Integer[np.ndarray, "..."]
) -> None:
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape",
            fix="score them on the same grid",
        )


def check_class_indices(chunk: Integer[np.ndarray, "..."], n_classes: int, role: str) -> None:
    """Refuse values that are no class index.

    Args:
        chunk: Values of a label map.
        n_classes: Number of foreground classes.
        role: "prediction" or "reference", for the message.

    Raises:
        DataError: If a value lies outside 0..n_classes.
    """
    # Out of range, a value would silently be counted as a pair of other classes.
    if not chunk.size:
        return
    # Unsigned values need no look for the lowest.
    lowest = 0 if chunk.dtype.kind == "u" else int(chunk.min())
    highest = int(chunk.max())
    if lowest < 0 or highest > n_classes:
        raise DataError(
            f"the {role} holds the value {lowest if lowest < 0 else highest}, "
            f"but classes run from 0 to {n_classes}",
            fix="map label values to class indices first (core.task.map_label_values)",
        )
