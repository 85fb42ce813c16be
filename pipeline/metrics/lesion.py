"""Lesion-wise detection: which lesions were found, and which findings are no lesions.

Lesions are the 26-connected pieces of a class. A reference lesion is detected if a predicted piece
shares a voxel with it; its Dice is taken with all pieces that do, as a whole. Pieces that meet no
reference lesion are false alarms.
"""

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from jaxtyping import Bool, Float64, Integer
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure

from pipeline.core.errors import DataError, GeometryError
from pipeline.metrics.overlap import Score, Status

CONNECTIVITY: Final = 26

# Shapes are compared with a message of their own.
Mask = Bool[np.ndarray, "_ _ _"]
Pieces = Integer[np.ndarray, "_ _ _"]


@dataclass(frozen=True)
class LesionRule:
    """What counts as one lesion.

    Args:
        dilation_voxels: Reference lesions whose masks touch after growing by this many voxels are
            one lesion, and predictions are matched with the grown mask; 0 takes them as drawn.
        min_lesion_mm3: Reference lesions of this volume or less are ignored, in mm3.
    """

    dilation_voxels: int = 0
    min_lesion_mm3: float = 0.0


AS_DRAWN = LesionRule()
# The released evaluation of BraTS 2023 (adult glioma; meningioma and metastases).
BRATS_GLIOMA = LesionRule(dilation_voxels=3, min_lesion_mm3=50.0)
BRATS_METASTASES = LesionRule(dilation_voxels=1, min_lesion_mm3=2.0)


@dataclass(frozen=True)
class LesionScores:
    """Detection of the lesions of one class of one case.

    Args:
        class_name: The class.
        n_reference: Reference lesions that count.
        n_prediction: Predicted lesions that count: those that meet a counting reference lesion
            and the false alarms.
        n_detected: Reference lesions that at least one predicted lesion meets.
        n_false_alarms: Predicted lesions that meet no reference lesion, not even a small one.
        n_ignored: Reference lesions below the smallest volume; they count neither way.
        sum_of_dice: Sum of the Dice of every reference lesion with all predicted lesions it meets.
        min_lesion_mm3: Smallest volume of a reference lesion that counts, in mm3.
    """

    class_name: str
    n_reference: int
    n_prediction: int
    n_detected: int
    n_false_alarms: int
    n_ignored: int
    sum_of_dice: float
    min_lesion_mm3: float

    @property
    def status(self) -> Status:
        """Whether there are lesions in the reference, in the prediction, in both."""
        if self.n_reference:
            return "ok" if self.n_prediction else "missed"
        return "hallucinated" if self.n_prediction else "absent"

    @property
    def dice(self) -> Score:
        """Mean Dice over reference lesions and false alarms (which count 0), range [0, 1]."""
        return self._share(self.sum_of_dice, self.n_reference + self.n_false_alarms)

    @property
    def recall(self) -> Score:
        """Detected share of the reference lesions, range [0, 1]; undefined without lesions."""
        return self._share(float(self.n_detected), self.n_reference)

    @property
    def precision(self) -> Score:
        """Share of predicted lesions that are no false alarms; undefined without predictions."""
        return self._share(float(self.n_prediction - self.n_false_alarms), self.n_prediction)

    @property
    def f1(self) -> Score:
        """2 detected / (2 detected + missed + false alarms), range [0, 1]."""
        return self._share(
            2.0 * self.n_detected, self.n_detected + self.n_reference + self.n_false_alarms
        )

    def _share(self, part: float, whole: int) -> Score:
        return Score(part / whole if whole else None, self.status)


def lesion_scores(
    *,
    prediction: Mask,
    reference: Mask,
    class_name: str,
    voxel_mm3: float,
    rule: LesionRule = AS_DRAWN,
) -> LesionScores:
    """Match the predicted with the reference lesions of one class.

    Args:
        prediction: Predicted mask, shape (i, j, k).
        reference: Reference mask on the same grid.
        class_name: The class.
        voxel_mm3: Volume of one voxel, in mm3.
        rule: What counts as one lesion.

    Returns:
        Counts, and the sum of the Dice of the reference lesions.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If the volume of a voxel is not positive.

    Source:
        The lesion-wise scores of BraTS 2023, with the growth and smallest volume as a rule of
        their own: a predicted piece may meet several reference lesions and then counts for each.
    """
    _check(prediction, reference, voxel_mm3)
    box = _box_around(prediction | reference, rule.dilation_voxels)
    prediction, reference = prediction[box], reference[box]
    # Zones are what predictions are matched with; without growth they are the lesions themselves.
    zones = _pieces(_grown(reference, rule.dilation_voxels))
    pieces = _pieces(prediction)
    n_lesion = np.bincount(zones[reference], minlength=int(zones.max(initial=0)) + 1)[1:]
    n_piece = np.bincount(pieces[prediction], minlength=int(pieces.max(initial=0)) + 1)[1:]
    is_match = _shared_voxels(zones, pieces, n_lesion.size, n_piece.size) > 0
    lesions = np.where(reference, zones, 0)
    n_shared = _shared_voxels(lesions, pieces, n_lesion.size, n_piece.size)
    dice = 2 * (n_shared * is_match).sum(axis=1) / (n_lesion + is_match @ n_piece)
    counts = n_lesion * voxel_mm3 > rule.min_lesion_mm3
    is_false_alarm = ~is_match.any(axis=0)
    return LesionScores(
        class_name=class_name,
        n_reference=int(counts.sum()),
        n_prediction=int((is_match[counts].any(axis=0) | is_false_alarm).sum()),
        n_detected=int(is_match[counts].any(axis=1).sum()),
        n_false_alarms=int(is_false_alarm.sum()),
        n_ignored=int((~counts).sum()),
        sum_of_dice=float(dice[counts].sum()),
        min_lesion_mm3=rule.min_lesion_mm3,
    )


def _box_around(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    found = find_objects(mask.view(np.uint8))
    if not found:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    i, j, k = (slice(max(s.start - margin, 0), s.stop + margin) for s in found[0])
    return i, j, k


def _grown(mask: Mask, n_voxels: int) -> Mask:
    if not n_voxels:
        return mask
    # Faces and edges, not corners: the neighborhood the BraTS evaluation grows by.
    return binary_dilation(mask, generate_binary_structure(3, 2), iterations=n_voxels)


def _pieces(mask: Mask) -> Pieces:
    """Number the connected pieces of a mask 1..n."""
    if not mask.size:
        return np.zeros(mask.shape, dtype=np.uint16)
    # cc3d 4.1.1 fails for short rows of bool and miscounts views: give it a block of bytes.
    block = np.ascontiguousarray(mask, dtype=np.uint8)
    return cc3d.connected_components(block, connectivity=CONNECTIVITY)


def _shared_voxels(
    first: Pieces, second: Pieces, n_first: int, n_second: int
) -> Float64[np.ndarray, "first second"]:
    """Voxels that every pair of numbered pieces has in common."""
    is_both = (first > 0) & (second > 0)
    pairs = (first[is_both].astype(np.int64) - 1) * n_second + second[is_both] - 1
    shared = np.bincount(pairs, minlength=n_first * n_second)
    return shared.reshape(n_first, n_second).astype(np.float64)


def _check(prediction: Mask, reference: Mask, voxel_mm3: float) -> None:
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape",
            fix="score them on the same grid",
        )
    if not voxel_mm3 > 0:
        raise DataError(f"a voxel has a volume of {voxel_mm3:g} mm3", fix="give it in mm3")
