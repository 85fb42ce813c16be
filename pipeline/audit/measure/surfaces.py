"""Where values of a label map meet: faces, contacts, borders and the slices a class is in.

One pass over pairs of neighboring voxels answers all of it: a slice that shows a class has a face
of that class inside it or at the edge of the grid, and two slices are equal where no face lies
between them. Memory is that of a few slices.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer

# Voxels looked at together; only voxels at faces are kept beyond that.
_SLAB_VOXELS = 1 << 20

LabelMap = Integer[np.ndarray, "i j k"]


@dataclass(frozen=True)
class Surfaces:
    """Counts of voxel faces. Rows and columns named `value` are class index + 1: 0 undeclared.

    Args:
        pairs: Faces by axis, value on the low side and value on the high side.
        n_border: Voxels with a face to another value, by value.
        n_edge: Faces on the edge of the grid, by value.
        present: By axis, whether a slice across that axis shows a value.
        changes: Whether a value differs between slice k and k + 1 of the last axis.
    """

    pairs: Integer[np.ndarray, "3 value value"]
    n_border: Integer[np.ndarray, " value"]
    n_edge: Integer[np.ndarray, " value"]
    present: tuple[
        Bool[np.ndarray, "value i"], Bool[np.ndarray, "value j"], Bool[np.ndarray, "value k"]
    ]
    changes: Bool[np.ndarray, "value k"]

    def contacts(self, class_index: int) -> Integer[np.ndarray, "3 value"]:
        """Faces of a class by axis and by the value on the other side."""
        value = class_index + 1
        return self.pairs[:, value, :] + self.pairs[:, :, value]


def find_surfaces(label: LabelMap, n_classes: int) -> Surfaces:
    """Count the faces between different values of a label map.

    Args:
        label: Class index per voxel, shape (i, j, k): 0 background, -1 undeclared.
        n_classes: Largest class index.

    Returns:
        The counts.
    """
    n_values = n_classes + 2
    surfaces = Surfaces(
        pairs=np.zeros((3, n_values, n_values), np.int64),
        n_border=np.zeros(n_values, np.int64),
        n_edge=np.zeros(n_values, np.int64),
        present=(
            np.zeros((n_values, label.shape[0]), np.bool_),
            np.zeros((n_values, label.shape[1]), np.bool_),
            np.zeros((n_values, label.shape[2]), np.bool_),
        ),
        changes=np.zeros((n_values, label.shape[2]), np.bool_),
    )
    n_planes = max(1, _SLAB_VOXELS // max(1, label.shape[1] * label.shape[2]))
    for first in range(0, label.shape[0], n_planes):
        stop = min(first + n_planes, label.shape[0])
        # Along i, a slab borrows the first plane of the next one, so that no face is missed.
        _count_faces(surfaces, label[first : stop + 1], 0, first)
        _count_faces(surfaces, label[first:stop], 1, first)
        _count_faces(surfaces, label[first:stop], 2, first)
        _count_border(surfaces, label, first, stop)
    _add_edges(surfaces, label)
    return surfaces


def _count_faces(surfaces: Surfaces, label: LabelMap, axis: int, first_plane: int) -> None:
    low_side, high_side = _part(label, axis, slice(None, -1)), _part(label, axis, slice(1, None))
    places = np.nonzero(low_side != high_side)
    low, high = (side[places].astype(np.int64) + 1 for side in (low_side, high_side))
    n_values = surfaces.n_border.size
    counts = np.bincount(low * n_values + high, minlength=n_values * n_values)
    surfaces.pairs[axis] += counts.reshape(n_values, n_values)
    for other, present in enumerate(surfaces.present):
        coordinates = places[other] + (first_plane if other == 0 else 0)
        present[low, coordinates] = True
        present[high, coordinates + (1 if other == axis else 0)] = True
    if axis == 2:
        surfaces.changes[low, places[2]] = True
        surfaces.changes[high, places[2]] = True


def _count_border(surfaces: Surfaces, label: LabelMap, first: int, stop: int) -> None:
    start = max(first - 1, 0)
    region = label[start : stop + 1]
    is_border = np.zeros(region.shape, np.bool_)
    for axis in range(3):
        low, high = slice(None, -1), slice(1, None)
        differs = _part(region, axis, low) != _part(region, axis, high)
        _part(is_border, axis, low)[...] |= differs
        _part(is_border, axis, high)[...] |= differs
    own = slice(first - start, stop - start)
    values = region[own][is_border[own]].astype(np.int64) + 1
    surfaces.n_border[:] += np.bincount(values, minlength=surfaces.n_border.size)


def _add_edges(surfaces: Surfaces, label: LabelMap) -> None:
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        # A grid of one slice has both edges on that slice.
        for place in (0, label.shape[axis] - 1):
            values = np.take(label, place, axis=axis).astype(np.int64) + 1
            surfaces.n_edge[:] += np.bincount(values.ravel(), minlength=surfaces.n_edge.size)
            surfaces.present[axis][values.ravel(), place] = True
            for other, coordinates in zip(others, np.indices(values.shape), strict=True):
                surfaces.present[other][values.ravel(), coordinates.ravel()] = True


def _part(
    array: Integer[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"], axis: int, part: slice
) -> Integer[np.ndarray, "_i _j _k"] | Bool[np.ndarray, "_i _j _k"]:
    """A view of a part of one axis."""
    index = [slice(None)] * 3
    index[axis] = part
    return array[tuple(index)]
