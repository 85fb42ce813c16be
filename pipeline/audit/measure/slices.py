"""Slices that a class skips, and slices that repeat."""

import numpy as np
from jaxtyping import Bool

from pipeline.audit.measures import SliceGap

Mask = Bool[np.ndarray, "i j k"]
Section = Bool[np.ndarray, "row column"]

# A class has to be in so many slices on both sides before what lies between them is a gap.
_MIN_SLICES_BESIDE = 2
# Share of the smaller cross-section that the other one covers if both cut the same structure.
_MIN_OVERLAP = 0.5
# Structures taper off at their ends; beside a gap they are cut where they are thick.
_MIN_SECTION = 0.25


def find_gaps(mask: Mask, present: tuple[Bool[np.ndarray, "_"], ...]) -> tuple[SliceGap, ...]:
    """Find slices that a class skips although the same structure goes on behind them.

    Two separate structures also leave slices between them, as a pair of kidneys does; their
    cross-sections beside the gap are small, or do not lie over each other.

    Args:
        mask: The class, cropped to its bounding box, shape (i, j, k).
        present: By axis, whether a slice of that box shows the class.

    Returns:
        The gaps; slices count from the start of the box.
    """
    gaps = []
    for axis, shown in enumerate(present):
        if shown.all():
            continue
        others = tuple(other for other in range(3) if other != axis)
        min_section = _MIN_SECTION * int(mask.sum(axis=others).max())
        slices = np.flatnonzero(shown)
        for before in np.flatnonzero(np.diff(slices) > 1):
            n_before, n_after = before + 1, slices.size - before - 1
            if min(n_before, n_after) < _MIN_SLICES_BESIDE:
                continue
            low, high = int(slices[before]), int(slices[before + 1])
            first, second = np.take(mask, low, axis=axis), np.take(mask, high, axis=axis)
            smaller = min(int(first.sum()), int(second.sum()))
            is_over = int((_widened(first) & second).sum()) >= _MIN_OVERLAP * smaller
            if is_over and smaller >= min_section:
                gaps.append(SliceGap(axis=axis, first=low + 1, n_slices=high - low - 1))
    return tuple(gaps)


def _widened(section: Section) -> Section:
    """A cross-section with one more voxel around it: thin structures move on between slices."""
    wide = section.copy()
    wide[1:] |= section[:-1]
    wide[:-1] |= section[1:]
    wide[:, 1:] |= section[:, :-1]
    wide[:, :-1] |= section[:, 1:]
    return wide


def share_of_repeats(present: Bool[np.ndarray, " k"], changes: Bool[np.ndarray, " k"]) -> float:
    """Share of neighboring slices that show exactly the same cross-section.

    Args:
        present: Whether slice k shows the class.
        changes: Whether slice k differs from slice k + 1.

    Returns:
        Equal pairs / pairs of slices that both show the class; 0 without a pair.
    """
    is_pair = present[:-1] & present[1:]
    n_pairs = int(is_pair.sum())
    return int((is_pair & ~changes[:-1]).sum()) / n_pairs if n_pairs else 0.0
