"""Pieces of the classes, and the pockets of background inside them."""

from dataclasses import dataclass

import cc3d
import numpy as np
from jaxtyping import Bool, Float, Integer

from pipeline.core.geometry import Shape3

LabelMap = Integer[np.ndarray, "i j k"]

# A piece is an island if it is as small as a slip of the mouse or next to nothing beside the
# largest piece; among pieces of a few voxels none is an island.
ISLAND_VOXELS = 3
ISLAND_SHARE = 0.005
_SLIP_SHARE = 0.05
# Voxels looked at together, to keep memory flat.
_SLAB_VOXELS = 1 << 20


@dataclass(frozen=True)
class Pieces:
    """The 26-connected pieces of all classes.

    Args:
        map: Number of the piece per voxel, 0 background.
        class_index: Class of each piece; entry 0 is the background.
        n_voxels: Voxels of each piece.
        start: Smallest voxel index of each piece.
        stop: One after the largest voxel index of each piece.
        centroid: Mean voxel index of each piece.
    """

    map: LabelMap
    class_index: Integer[np.ndarray, " piece"]
    n_voxels: Integer[np.ndarray, " piece"]
    start: Integer[np.ndarray, "piece 3"]
    stop: Integer[np.ndarray, "piece 3"]
    centroid: Float[np.ndarray, "piece 3"]

    def voxel_of(self, piece: int) -> Shape3:
        """A voxel of a piece, from its middle."""
        box = tuple(slice(a, b) for a, b in zip(self.start[piece], self.stop[piece], strict=True))
        region = self.map[box]
        places = np.flatnonzero(region == piece)
        i, j, k = np.unravel_index(places[len(places) // 2], region.shape)
        a, b, c = self.start[piece]
        return int(i + a), int(j + b), int(k + c)


@dataclass(frozen=True)
class Holes:
    """Background that one class encloses on all sides.

    Args:
        n_voxels: Voxels in holes, by class index.
        voxel: A voxel of the largest hole, by class index.
    """

    n_voxels: dict[int, int]
    voxel: dict[int, Shape3]


def find_pieces(label: LabelMap) -> Pieces:
    """Split every class into its 26-connected pieces.

    Args:
        label: Class index per voxel, shape (i, j, k): 0 background, -1 undeclared.

    Returns:
        The pieces of all values but the background.
    """
    if not (label.flags.c_contiguous or label.flags.f_contiguous):
        label = np.ascontiguousarray(label)  # cc3d 4.1 miscounts thin views
    numbers = cc3d.connected_components(label, connectivity=26)
    statistics = cc3d.statistics(numbers, no_slice_conversion=True)
    boxes = statistics["bounding_boxes"].astype(np.int64)
    class_index = np.zeros(len(boxes), np.int64)
    n_planes = _planes_of(label)
    for first in range(0, label.shape[0], n_planes):
        slab = slice(first, first + n_planes)
        class_index[numbers[slab]] = label[slab]
    return Pieces(
        map=numbers,
        class_index=class_index,
        n_voxels=statistics["voxel_counts"].astype(np.int64),
        start=boxes[:, 0::2],
        stop=boxes[:, 1::2] + 1,
        centroid=statistics["centroids"],
    )


def find_islands(n_voxels: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " m"]:
    """Which pieces of one class are far smaller than its largest.

    Args:
        n_voxels: Voxels of each piece, in any order.

    Returns:
        Their positions, largest island first.
    """
    largest = int(n_voxels.max())
    is_slip = (n_voxels <= ISLAND_VOXELS) & (n_voxels < _SLIP_SHARE * largest)
    is_island = is_slip | (n_voxels < ISLAND_SHARE * largest)
    positions = np.flatnonzero(is_island)
    return positions[np.argsort(-n_voxels[positions], kind="stable")]


def find_holes(label: LabelMap) -> Holes:
    """Find the pockets of background that a single class encloses.

    A pocket is 6-connected, so that a diagonal step of the class closes it. What several classes
    enclose together, or the edge of the grid bounds, is no hole; neither is another class inside,
    such as a tumor in its organ.

    Args:
        label: Class index per voxel, shape (i, j, k): 0 background, -1 undeclared. Voxels on the
            edge of this array count as open.

    Returns:
        Size and place of the holes of every class.
    """
    # As numbers: cc3d 4.1 fails on masks of bool that are one voxel thin along two axes.
    pockets = cc3d.connected_components((label == 0).view(np.uint8), connectivity=6)
    n_pockets = int(pockets.max()) + 1
    is_closed = np.ones(n_pockets, np.bool_)
    is_closed[0] = False
    for axis in range(3):
        for place in (0, label.shape[axis] - 1):
            is_closed[np.take(pockets, place, axis=axis)] = False
    if not is_closed.any():
        return Holes({}, {})
    return _judge_pockets(label, pockets, is_closed)


def _judge_pockets(
    label: LabelMap, pockets: LabelMap, is_closed: Bool[np.ndarray, " pocket"]
) -> Holes:
    """Keep the pockets with one class around them."""
    sizes = np.zeros(len(is_closed), np.int64)
    places = np.zeros((len(is_closed), 3), np.int64)
    lowest = np.full(len(is_closed), np.iinfo(np.int16).max, np.int64)
    highest = np.full(len(is_closed), -1, np.int64)
    n_planes = _planes_of(label)
    for first in range(0, label.shape[0], n_planes):
        found = np.nonzero(is_closed[pockets[first : first + n_planes]])
        i, j, k = found[0] + first, found[1], found[2]
        numbers = pockets[i, j, k].astype(np.int64)
        sizes += np.bincount(numbers, minlength=len(sizes))
        places[numbers] = np.stack((i, j, k), axis=-1)
        for a, b, c in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
            # A closed pocket never lies on the edge, so its neighbors exist.
            neighbors = label[i + a, j + b, k + c]
            is_wall = neighbors != 0
            np.minimum.at(lowest, numbers[is_wall], neighbors[is_wall])
            np.maximum.at(highest, numbers[is_wall], neighbors[is_wall])
    is_hole = (lowest == highest) & (highest > 0)
    holes = np.flatnonzero(is_hole)
    n_voxels: dict[int, int] = {}
    voxel: dict[int, Shape3] = {}
    for hole in holes[np.argsort(-sizes[holes], kind="stable")]:
        owner = int(highest[hole])
        n_voxels[owner] = n_voxels.get(owner, 0) + int(sizes[hole])
        i, j, k = places[hole]
        voxel.setdefault(owner, (int(i), int(j), int(k)))
    return Holes(n_voxels, voxel)


def _planes_of(label: LabelMap) -> int:
    return max(1, _SLAB_VOXELS // max(1, label.shape[1] * label.shape[2]))
