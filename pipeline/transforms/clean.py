"""Clean-up of predicted label maps: stray pieces removed, holes filled, by rules of the model.

Every step works inside the bounding box of its class, one class after the other: memory is that of
the largest box, not of classes times volume.
"""

import math
from collections.abc import Sequence

import cc3d
import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt
from scipy import ndimage

from pipeline.artifacts import CleanupRule, Task
from pipeline.core.errors import CheckpointError, did_you_mean
from pipeline.core.geometry import Spacing

MM3_PER_ML = 1000.0
Box = tuple[slice, slice, slice]
# A piece as large as the limit stays, whatever the last digit of its volume says.
_ROUNDING = 1 - 1e-9


def clean_labels(
    label: UInt[np.ndarray, "i j k"],
    rules: Sequence[CleanupRule],
    task: Task,
    spacing_mm: Spacing,
) -> UInt[np.ndarray, "i j k"]:
    """Apply clean-up rules to a predicted label map, in their order.

    Removed voxels become background; only background is ever filled. With overlapping regions the
    classes that were painted are cleaned.

    Args:
        label: Class index per voxel, 0 background, shape (i, j, k); is not changed.
        rules: From the model.
        task: Says which index a class has.
        spacing_mm: Voxel spacing along i, j, k, in mm.

    Returns:
        The cleaned map, same shape and dtype; without rules the map itself.

    Raises:
        CheckpointError: If a rule names a class the task does not have.
    """
    if not rules:
        return label
    indices = {c.name: c.index for c in task.classes}
    cleaned = label.copy()
    # No rule makes the box of a class larger: holes lie inside it. One without stray pieces is
    # much smaller.
    boxes: dict[int, Box | None] = {**class_boxes(cleaned, len(task.classes))}
    for rule in rules:
        if rule.class_name not in indices:
            raise CheckpointError(
                f"a clean-up rule names the unknown class '{rule.class_name}'",
                fix=did_you_mean(rule.class_name, indices),
            )
        index = indices[rule.class_name]
        box = boxes.get(index)
        if box is None:
            continue
        is_smaller = _apply(cleaned[box], index, rule, voxel_volume_ml(spacing_mm))
        if is_smaller:
            boxes[index] = _box_within(box, cleaned[box] == index)
    return cleaned


def voxel_volume_ml(spacing_mm: Spacing) -> float:
    """Volume of one voxel in ml, from the spacing in mm."""
    return math.prod(spacing_mm) / MM3_PER_ML


def class_boxes(label: Integer[np.ndarray, "i j k"], n_classes: int) -> dict[int, Box]:
    """The smallest box around every class that occurs.

    Args:
        label: Class index per voxel, shape (i, j, k); values above `n_classes` are left out.
        n_classes: Number of foreground classes.

    Returns:
        Slices along i, j, k by class index.
    """
    found = ndimage.find_objects(label, max_label=n_classes) if n_classes else []
    return {index: box for index, box in enumerate(found, start=1) if box is not None}


def number_pieces(mask: Bool[np.ndarray, "i j k"]) -> UInt[np.ndarray, "i j k"]:
    """Number the 26-connected pieces of a mask from 1; 0 is outside.

    Args:
        mask: Shape (i, j, k).

    Returns:
        Number of the piece per voxel, in the smallest type that holds it.
    """
    # As numbers and packed: cc3d 4.1 fails on thin views and on masks one voxel thin.
    return cc3d.connected_components(_packed(mask), connectivity=26)


def piece_sizes(pieces: UInt[np.ndarray, "i j k"]) -> Int64[np.ndarray, " piece"]:
    """Voxels of each numbered piece, the one with number 1 first."""
    # Counts in place; numpy's bincount would widen every voxel to 8 bytes.
    counts = cc3d.statistics(pieces, no_slice_conversion=True)["voxel_counts"]
    return np.asarray(counts[1:], dtype=np.int64)


def number_pockets(
    label: Integer[np.ndarray, "i j k"], class_index: int
) -> UInt[np.ndarray, "i j k"]:
    """Number the pockets of background that one class alone encloses; 0 is everywhere else.

    Pockets are 6-connected, so that a diagonal step of the class closes them. Background that
    touches the edge of the box or another class inside the pocket is no pocket.

    Args:
        label: Class indices inside the box of the class, shape (i, j, k).
        class_index: The class.

    Returns:
        Number of the pocket per voxel; numbers are not consecutive.
    """
    outside = cc3d.connected_components(_packed(label != class_index), connectivity=6)
    is_pocket = np.ones(int(outside.max()) + 1, dtype=np.bool_)
    is_pocket[0] = False
    for axis in range(3):
        for place in (0, label.shape[axis] - 1):
            is_pocket[np.take(outside, place, axis=axis)] = False
    if is_pocket.any():
        is_pocket[outside[(label != class_index) & (label != 0)]] = False
    outside[~is_pocket[outside]] = 0
    return outside


def is_kept_by(
    rule: CleanupRule, n_voxels: Int64[np.ndarray, " piece"], voxel_ml: float
) -> Bool[np.ndarray, " piece"]:
    """Which pieces of a class a rule leaves in place.

    Args:
        rule: keep_largest or remove_islands; fill_holes keeps all.
        n_voxels: Voxels of each piece.
        voxel_ml: Volume of one voxel, in ml.

    Returns:
        True per piece that stays. Of equally large pieces the first is the largest.
    """
    if rule.kind == "keep_largest" and n_voxels.size:
        return np.arange(n_voxels.size) == np.argmax(n_voxels)
    if rule.kind == "remove_islands":
        return n_voxels * voxel_ml >= (rule.min_ml or 0.0) * _ROUNDING
    return np.ones(n_voxels.size, dtype=np.bool_)


def _apply(
    label: UInt[np.ndarray, "i j k"], class_index: int, rule: CleanupRule, voxel_ml: float
) -> bool:
    """Apply one rule to the box of its class, in place; says whether pieces were removed."""
    if rule.kind == "fill_holes":
        label[number_pockets(label, class_index) > 0] = class_index
        return False
    pieces = number_pieces(label == class_index)
    is_removed = ~is_kept_by(rule, piece_sizes(pieces), voxel_ml)
    if is_removed.any():
        label[np.concatenate(([False], is_removed))[pieces]] = 0
    return bool(is_removed.any())


def _box_within(box: Box, mask: Bool[np.ndarray, "i j k"]) -> Box | None:
    """The part of a box that a mask on it needs; None if the mask is empty."""
    inner = class_boxes(mask.view(np.uint8), 1).get(1)
    if inner is None:
        return None
    i, j, k = (slice(o.start + n.start, o.start + n.stop) for o, n in zip(box, inner, strict=True))
    return i, j, k


def _packed(mask: Bool[np.ndarray, "i j k"]) -> UInt[np.ndarray, "i j k"]:
    return np.ascontiguousarray(mask).view(np.uint8)
