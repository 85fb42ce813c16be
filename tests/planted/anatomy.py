"""Family S: faults of sizes, pieces, places and neighbors of structures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from fault_builders import (
    QUICK,
    Array,
    Fault,
    both_files,
    in_ras,
    label_file,
    middle_of,
    recoded,
    relabel,
    rename_classes,
    rewrite,
)
from scipy import ndimage

from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.anatomy import AnatomyLimits, ContainmentRule


def on_class(value: int, change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Change the mask of one class; what it gives up becomes background."""

    def apply(label: Array) -> Array:
        mask = change(label == value)
        changed = np.where(label == value, 0, label)
        changed[mask & (changed == 0)] = value
        return changed.astype(label.dtype)

    return apply


def cube_in_middle(size: int) -> Callable[[Array], Array]:
    """Only a cube is left of a mask."""

    def change(mask: Array) -> Array:
        i, j, k = middle_of(mask, 1)
        kept = np.zeros_like(mask)
        kept[i : i + size, j : j + size, k : k + size] = True
        return kept

    return change


def grown(n_voxels: int) -> Callable[[Array], Array]:
    """A mask that is larger by some voxels on all sides."""
    return lambda mask: ndimage.binary_dilation(mask, iterations=n_voxels)


def cut_through(mask: Array) -> Array:
    """A mask in two halves, four slices apart."""
    i = middle_of(mask, 1)[0]
    changed = mask.copy()
    changed[i - 1 : i + 2] = False
    return changed


def with_gap(mask: Array) -> Array:
    """One slice in the middle was forgotten."""
    k = middle_of(mask, 1)[2]
    changed = mask.copy()
    changed[:, :, k] = False
    return changed


def with_islands(mask: Array) -> Array:
    """Eight single voxels around, such as slips of the brush."""
    changed = mask.copy()
    changed[4:36:4, 3, 3] = True
    return changed


def hollow(mask: Array) -> Array:
    """The inside was not filled."""
    return mask & ~ndimage.binary_erosion(mask, iterations=2)


def copied_slices(mask: Array) -> Array:
    """Drawn on every third slice and copied to the next two."""
    drawn = mask[:, :, ::3].repeat(3, axis=2)
    return drawn[:, :, : mask.shape[2]]


def jagged(mask: Array) -> Array:
    """Every other slice is larger."""
    larger = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 1), iterations=2)
    changed = mask.copy()
    changed[:, :, ::2] = larger[:, :, ::2]
    return changed


def in_corner(mask: Array) -> Array:
    """Moved out of the body, onto air."""
    return np.asarray(np.roll(mask, _to_corner(mask), axis=(0, 1, 2)))


def _to_corner(mask: Array) -> tuple[int, ...]:
    return tuple(2 - int(places.min()) for places in np.nonzero(mask))


def crop_through(folder: Path) -> None:
    """Cut image and label of a case through the middle of class 3."""
    for file in both_files(folder):
        in_ras(file, lambda a: a[:, :, :26])


def spread(folder: Path) -> None:
    """Every case shows one voxel of class 2."""
    relabel(folder, on_class(2, cube_in_middle(1)))


def bright(folder: Path) -> None:
    """Under the liver of one case lies another contrast."""
    label, _ = _read_label(folder)
    rewrite(both_files(folder)[0], lambda a: np.where(label == 1, a * 2, a).astype(a.dtype))


def _read_label(folder: Path) -> tuple[Array, object]:
    from fault_builders import read

    return read(label_file(folder))


def tumor_in_liver(_: Path) -> AuditConfig:
    """The lesion has to lie in the liver; in the phantoms it never does."""
    rule = ContainmentRule(inside="lesion", parents=("liver",))
    return QUICK.model_copy(update={"anatomy": AnatomyLimits(containment=(rule,))})


FAULTS = (
    Fault(
        "class of eight voxels",
        lambda d: relabel(d, on_class(3, cube_in_middle(2)), 1),
        {("S01", "warning")},
        also=frozenset({"S03", "S09", "S14"}),
        base="cohort",
    ),
    Fault(
        "one voxel of a class",
        spread,
        {("S01", "error"), ("S02", "warning")},
    ),
    Fault(
        "liver too large",
        lambda d: relabel(d, on_class(1, grown(2)), 1),
        {("S03", "warning")},
        also=frozenset({"S09", "S08", "E11"}),
        base="cohort",
    ),
    Fault(
        "liver half drawn",
        lambda d: relabel(d, on_class(1, lambda m: ndimage.binary_erosion(m, iterations=2)), 1),
        {("S03", "warning")},
        also=frozenset({"S09", "S14", "G13"}),
        base="cohort",
    ),
    Fault(
        "liver in two pieces",
        lambda d: relabel(d, on_class(1, cut_through), 1),
        {("S04", "warning")},
        also=frozenset({"S03", "S11"}),
        base="cohort",
    ),
    Fault(
        "slips of the brush",
        lambda d: relabel(d, on_class(1, with_islands), 1),
        {("S05", "warning")},
        also=frozenset({"S08"}),
        base="cohort",
    ),
    Fault(
        "hollow liver",
        lambda d: relabel(d, on_class(1, hollow), 1),
        {("S06", "info")},
        also=frozenset({"S03", "S09"}),
        base="cohort",
    ),
    Fault(
        "scan ends in a structure",
        crop_through,
        {("S07", "info")},
        also=frozenset({"G11"}),
        base="cohort",
    ),
    Fault(
        "kidney on air",
        lambda d: relabel(d, on_class(2, in_corner), 1),
        {("S08", "warning")},
        also=frozenset({"S09", "E11", "G13", "G14"}),
        base="cohort",
    ),
    Fault("another contrast", bright, {("S09", "warning")}, base="cohort"),
    Fault(
        "names of the sides exchanged",
        lambda d: rename_classes(d, "kidney_left", "kidney_right", "lesion"),
        {("S10", "error")},
        base="cohort",
    ),
    Fault(
        "sides exchanged in one case",
        lambda d: (
            rename_classes(d, "kidney_right", "kidney_left", "lesion"),
            relabel(d, recoded({1: 2, 2: 1}), 1),
        ),
        {("S10", "error")},
        also=frozenset({"E11", "G14", "S03", "S09"}),
        base="cohort",
    ),
    Fault(
        "forgotten slice",
        lambda d: in_ras(label_file(d), on_class(1, with_gap)),
        {("S11", "warning")},
        also=frozenset({"S04"}),
        base="cohort",
    ),
    Fault(
        "copied slices",
        lambda d: in_ras(label_file(d), on_class(1, copied_slices)),
        {("S12", "warning")},
        base="cohort",
    ),
    Fault(
        "lesion outside the liver",
        lambda d: None,
        {("S13", "warning")},
        base="cohort",
        settings=tumor_in_liver,
    ),
    Fault(
        "contour jumps between slices",
        lambda d: in_ras(label_file(d), on_class(1, jagged)),
        {("S14", "info")},
        also=frozenset({"S03", "S09"}),
        base="cohort",
    ),
)
