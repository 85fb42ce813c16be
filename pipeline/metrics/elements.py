"""Surface elements of every class of two label maps, from one pass over their voxels.

Two kinds: border voxels (for distances) and cells of 2x2x2 voxel centers that the surface passes
through (for areas). The image is surrounded by background, so that a structure cut by the image
edge is closed there. No array is ever classes x volume.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer, UInt, UInt8

from pipeline.core.errors import GeometryError
from pipeline.metrics.overlap import check_class_indices
from pipeline.metrics.surfels import CORNERS

# Voxels that are looked at together: small enough for the cache, large enough for numpy.
BLOCK_VOXELS = 2**18
# Code of a cell all of whose corners have the class.
_FULL = 255

# Shapes are compared with a message of their own.
LabelMap = Integer[np.ndarray, "_ _ _"]
Block = UInt[np.ndarray, "row column layer"]


@dataclass(frozen=True)
class Elements:
    """Surface elements of one map, those of a class next to each other.

    Args:
        grid: Shape of the grid they lie on: the image with one voxel more on every side.
        places: Flat index of each element in that grid: of the voxel, or of the cell's first
            corner.
        codes: Corner code of each cell (see metrics/surfels.py); 0 for border voxels.
        is_shared: Whether the other map has an element of the same class at the same place.
        starts: Where the elements of classes 0..N begin, and the end of the last.
    """

    grid: tuple[int, ...]
    places: UInt[np.ndarray, "element"]
    codes: UInt8[np.ndarray, "element"]
    is_shared: Bool[np.ndarray, "element"]
    starts: tuple[int, ...]

    def of_class(self, index: int) -> slice:
        """Where the elements of a class lie."""
        return slice(self.starts[index], self.starts[index + 1])

    def count(self, index: int) -> int:
        """How many elements a class has."""
        return self.starts[index + 1] - self.starts[index]

    def voxels(self, index: int) -> Int32[np.ndarray, "element 3"]:
        """Grid indices i, j, k of the elements of a class."""
        places = np.unravel_index(self.places[self.of_class(index)], self.grid)
        return np.stack(places, axis=1).astype(np.int32)


@dataclass(frozen=True)
class SurfacePair:
    """Surface elements of two maps on the same grid.

    Args:
        prediction_borders: Border voxels of the prediction.
        reference_borders: Border voxels of the reference.
        prediction_cells: Surface cells of the prediction.
        reference_cells: Surface cells of the reference.
    """

    prediction_borders: Elements
    reference_borders: Elements
    prediction_cells: Elements
    reference_cells: Elements


@dataclass(frozen=True)
class _Part:
    """Elements of one map in some blocks, in any order."""

    places: Integer[np.ndarray, "element"]
    classes: UInt[np.ndarray, "element"]
    codes: UInt8[np.ndarray, "element"]
    is_shared: Bool[np.ndarray, "element"]


_NOTHING = _Part(
    places=np.zeros(0, dtype=np.uint8),
    classes=np.zeros(0, dtype=np.uint8),
    codes=np.zeros(0, dtype=np.uint8),
    is_shared=np.zeros(0, dtype=np.bool_),
)


def surface_elements(*, prediction: LabelMap, reference: LabelMap, n_classes: int) -> SurfacePair:
    """Find the surface elements of every foreground class in both maps.

    Args:
        prediction: Predicted class indices 0..n_classes, shape (i, j, k); fastest if the last
            axis is contiguous in memory.
        reference: Reference class indices on the same grid.
        n_classes: Number of foreground classes.

    Returns:
        Border voxels (a face neighbor is outside the class or the image) and cells (of whose
        eight corners some, not all, belong to the class) of both.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a map holds a value outside 0..n_classes.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"prediction {prediction.shape} and reference {reference.shape} differ in shape",
            fix="score them on the same grid",
        )
    grid = tuple(n + 2 for n in reference.shape)
    kinds: tuple[list[_Part], ...] = ([], [], [], [])
    for first_place, predicted, referred in _blocks(prediction, reference, n_classes):
        parts = (*_border_parts(predicted, referred), *_cell_parts(predicted[1:], referred[1:]))
        for kind, part in zip(kinds, parts, strict=True):
            kind.append(_moved(part, first_place, grid))
    return SurfacePair(*(_by_class(kind, grid, n_classes) for kind in kinds))


def _blocks(
    prediction: LabelMap, reference: LabelMap, n_classes: int
) -> Iterator[tuple[int, Block, Block]]:
    """Slabs of both maps with a margin of background or of their neighbors.

    Yields:
        Flat index of the slab's first place in the padded grid, and the slabs: one row more at
        either end than the places they stand for.
    """
    n_rows, n_columns, n_layers = (n + 2 for n in reference.shape)
    step = max(1, BLOCK_VOXELS // (n_columns * n_layers))
    # The last padded row starts no cell and is no voxel.
    for first in range(0, n_rows - 1, step):
        last = min(first + step, n_rows - 1)
        predicted = _padded(prediction, first - 1, last, n_classes, "prediction")
        referred = _padded(reference, first - 1, last, n_classes, "reference")
        if predicted.any() or referred.any():
            yield first * n_columns * n_layers, predicted, referred


def _padded(volume: LabelMap, first: int, last: int, n_classes: int, role: str) -> Block:
    """Rows first..last of the padded map; rows outside it are background."""
    n_columns, n_layers = volume.shape[1:]
    shape = (last - first + 1, n_columns + 2, n_layers + 2)
    block = np.zeros(shape, dtype=np.min_scalar_type(n_classes))
    # Row r of the padded map is row r - 1 of the volume.
    start, stop = max(first - 1, 0), min(last, volume.shape[0])
    rows = volume[start:stop]
    check_class_indices(rows, n_classes, role)
    block[start + 1 - first : stop + 1 - first, 1:-1, 1:-1] = rows
    return block


def _border_parts(prediction: Block, reference: Block) -> tuple[_Part, _Part]:
    borders = [_is_border(block) for block in (prediction, reference)]
    inner = [block[1:-1] for block in (prediction, reference)]
    is_shared = borders[0] & borders[1] & (inner[0] == inner[1])
    predicted, referred = (
        _border_part(block, border, is_shared) for block, border in zip(inner, borders, strict=True)
    )
    return predicted, referred


def _border_part(
    block: Block, is_border: Bool[np.ndarray, "r c l"], is_shared: Bool[np.ndarray, "r c l"]
) -> _Part:
    places = np.flatnonzero(is_border)
    return _Part(
        places=places,
        classes=block.ravel()[places],
        codes=np.zeros(places.size, dtype=np.uint8),
        is_shared=is_shared.ravel()[places],
    )


def _is_border(block: Block) -> Bool[np.ndarray, "r c l"]:
    """Foreground voxels with a face neighbor of another class; without first and last row."""
    found = np.zeros((block.shape[0] - 2, *block.shape[1:]), dtype=np.bool_)
    inner = found[:, 1:-1, 1:-1]
    for axis in range(3):
        margin = tuple(slice(None) if a == axis else slice(1, -1) for a in range(3))
        lines = np.moveaxis(block[margin], axis, 0)
        is_step = lines[1:] != lines[:-1]
        along = np.moveaxis(inner, axis, 0)
        along |= is_step[1:]
        along |= is_step[:-1]
    inner &= block[1:-1, 1:-1, 1:-1] != 0
    return found


def _cell_parts(prediction: Block, reference: Block) -> tuple[_Part, _Part]:
    # Cells that are mixed in one map are looked up in both, to tell the shared ones.
    places = np.flatnonzero(_is_mixed(prediction) | _is_mixed(reference))
    n_columns, n_layers = prediction.shape[1:]
    steps = np.array(CORNERS) @ (n_columns * n_layers, n_layers, 1)
    around = places[:, None] + steps
    predicted, referred = prediction.ravel()[around], reference.ravel()[around]
    return _cell_part(places, predicted, referred), _cell_part(places, referred, predicted)


def _is_mixed(block: Block) -> Bool[np.ndarray, "r c l"]:
    """Whether the eight corners of the cell that begins at a voxel differ."""
    found = np.zeros((block.shape[0] - 1, *block.shape[1:]), dtype=np.bool_)
    # Seven edges that hang together: four along k, two along j, one along i.
    along_k = block[:, :, 1:] != block[:, :, :-1]
    layer_pair = along_k[:, 1:] | along_k[:, :-1]
    layer_pair |= block[:, 1:, :-1] != block[:, :-1, :-1]
    cell = found[:, :-1, :-1]
    np.logical_or(layer_pair[1:], layer_pair[:-1], out=cell)
    cell |= block[1:, :-1, :-1] != block[:-1, :-1, :-1]
    return found


def _cell_part(
    places: Int64[np.ndarray, "cell"],
    own: UInt[np.ndarray, "cell 8"],
    other: UInt[np.ndarray, "cell 8"],
) -> _Part:
    """Every class of every cell once, at the first corner that has it."""
    found: list[_Part] = []
    for corner in range(8):
        classes = own[:, corner]
        codes = _codes(own, classes)
        is_first = codes & ((1 << corner) - 1) == 0
        chosen = np.flatnonzero(is_first & (classes != 0) & (codes != _FULL))
        other_codes = _codes(other[chosen], classes[chosen])
        found.append(
            _Part(
                places=places[chosen],
                classes=classes[chosen],
                codes=codes[chosen],
                is_shared=(other_codes != 0) & (other_codes != _FULL),
            )
        )
    return _joined(found)


def _codes(
    corners: UInt[np.ndarray, "cell 8"], classes: UInt[np.ndarray, "cell"]
) -> UInt8[np.ndarray, "cell"]:
    """Which corners of each cell have the class: one bit per corner."""
    return np.packbits(corners == classes[:, None], axis=1, bitorder="little")[:, 0]


def _moved(part: _Part, first_place: int, grid: tuple[int, ...]) -> _Part:
    """The same elements at their places in the whole grid, in the smallest type that holds it."""
    place_type = np.min_scalar_type(math.prod(grid))
    return replace(part, places=(part.places + first_place).astype(place_type))


def _joined(parts: Sequence[_Part]) -> _Part:
    return _Part(
        places=np.concatenate([p.places for p in parts]),
        classes=np.concatenate([p.classes for p in parts]),
        codes=np.concatenate([p.codes for p in parts]),
        is_shared=np.concatenate([p.is_shared for p in parts]),
    )


def _by_class(parts: list[_Part], grid: tuple[int, ...], n_classes: int) -> Elements:
    whole = _joined([_NOTHING, *parts])
    order = np.argsort(whole.classes, kind="stable")
    counts = np.bincount(whole.classes, minlength=n_classes + 1)
    return Elements(
        grid=grid,
        places=whole.places[order],
        codes=whole.codes[order],
        is_shared=whole.is_shared[order],
        starts=(0, *(int(n) for n in np.cumsum(counts))),
    )
