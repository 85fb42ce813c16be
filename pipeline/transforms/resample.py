"""Images and label maps on another grid over the same extent.

Resizing is linear and separable, so along each axis it is one matrix. The matrix is banded in
effect: the spline prefilter decays so fast that a row has about two dozen entries above 1e-7.
Blocks of 16 rows times the columns they touch are plain small matrix products, a CPU's best case
(benchmarks/resample.py: more than 30 times faster than scipy.ndimage.zoom, the same to 1e-5).

Voxel faces, not centres, stay in place at the borders (`pipeline.core.geometry.resized_geometry`;
torch calls it ``align_corners=False``). Nothing is smoothed before shrinking, as in nnU-Net.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Integer
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.errors import DataError
from pipeline.core.geometry import Shape3

Orders = tuple[int, int, int]
LINEAR: Orders = (1, 1, 1)

# Rows per matrix product: fewer waste call overhead, more widen the band of touched columns.
_N_BLOCK_ROWS = 16
# Entries below this cannot be seen in float32 results; leaving them out makes the operator banded.
_NEGLIGIBLE = 1e-7
# A label map beyond 16 bits is not a label map of this project (artifacts hold uint8 or uint16).
_MAX_LABEL = np.iinfo(np.uint16).max


@lru_cache(maxsize=128)
def axis_operator(n_in: int, n_out: int, order: int) -> Float32[np.ndarray, "n_out n_in"]:
    """The matrix that resizes one axis by B-spline interpolation.

    It is found by resizing the identity, so the prefilter and the border rule are included exactly.

    Args:
        n_in: Number of voxels before.
        n_out: Number of voxels after.
        order: Spline order: 0 nearest, 1 linear, 3 cubic.

    Returns:
        A read-only matrix, shape (n_out, n_in); each row sums to 1.

    Source:
        scipy.ndimage.zoom with mode="nearest", grid_mode=True.
    """
    if n_in == n_out:
        operator = np.eye(n_in, dtype=np.float32)
    else:
        identity = np.eye(n_in)
        zoom = (n_out / n_in, 1.0)
        resized = ndimage.zoom(identity, zoom, order=order, mode="nearest", grid_mode=True)
        operator = resized.astype(np.float32)
    # The cache hands the same array to every caller.
    operator.flags.writeable = False
    return operator


def resample_image(
    array: Float32[np.ndarray, "channel i j k"], shape: Shape3, orders: Orders
) -> Float32[np.ndarray, "channel new_i new_j new_k"]:
    """Resize an image by separable spline interpolation.

    Cubic interpolation overshoots at sharp edges; values are not clipped.

    Args:
        array: Shape (channel, i, j, k).
        shape: New number of voxels along i, j, k.
        orders: Spline order along i, j, k: 0 nearest, 1 linear, 3 cubic.

    Returns:
        The image on the new grid; the input itself if the shape is unchanged.
    """
    n_before = array.shape[1:]
    operators = tuple(
        axis_operator(n_in, n_out, order)
        for n_in, n_out, order in zip(n_before, shape, orders, strict=True)
    )
    return _apply(array, operators)


def resample_label(
    label: Integer[np.ndarray, "i j k"], shape: Shape3, orders: Orders = LINEAR
) -> Integer[np.ndarray, "new_i new_j new_k"]:
    """Resize a label map: interpolate every class by itself, the heaviest class wins.

    Smoother than nearest neighbour and without classes that were not there before. Classes are
    visited one at a time inside their bounding boxes, so memory is about three volumes however many
    classes there are. On a tie the lower value wins.

    Args:
        label: Class values >= 0, shape (i, j, k).
        shape: New number of voxels along i, j, k.
        orders: Spline order along i, j, k, 0 or 1: weights must not be negative.

    Returns:
        Same dtype on the new grid; the input itself if the shape is unchanged.

    Raises:
        DataError: If a value is negative or does not fit 16 bits.
    """
    if label.shape == shape:
        return label
    operators = tuple(
        axis_operator(n_in, n_out, order)
        for n_in, n_out, order in zip(label.shape, shape, orders, strict=True)
    )
    winner = np.zeros(shape, dtype=label.dtype)
    winning_weight = np.zeros(shape, dtype=np.float32)
    for value, box in _class_boxes(label):
        touched = [_touched(operator, part) for operator, part in zip(operators, box, strict=True)]
        if any(rows.start == rows.stop for rows in touched):
            continue
        parts = tuple(
            operator[rows, part]
            for operator, rows, part in zip(operators, touched, box, strict=True)
        )
        mask = (label[box] == value).astype(np.float32)
        weight = _apply(mask[np.newaxis], parts)[0]
        region = tuple(touched)
        is_heavier = weight > winning_weight[region]
        np.copyto(winning_weight[region], weight, where=is_heavier)
        np.copyto(winner[region], label.dtype.type(value), where=is_heavier)
    return winner


def _class_boxes(
    label: Integer[np.ndarray, "i j k"],
) -> Iterator[tuple[int, tuple[slice, slice, slice]]]:
    """Values that occur, in rising order, each with its bounding box."""
    lowest, highest = int(label.min()), int(label.max())
    if lowest < 0 or highest > _MAX_LABEL:
        raise DataError(
            f"label values range from {lowest} to {highest}, outside 0 to {_MAX_LABEL}",
            fix="map the values of the label files to class indices first",
        )
    if lowest == 0:
        # Background: nearly everywhere, its box is not worth finding.
        i, j, k = label.shape
        yield 0, (slice(0, i), slice(0, j), slice(0, k))
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is not None:
            yield value, box


def _touched(operator: Float32[np.ndarray, "n_out n_in"], columns: slice) -> slice:
    """Rows with a weight in the given columns; they are neighbours, as the operator is a band."""
    rows = np.flatnonzero(operator[:, columns].any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)


def _apply(
    array: Float32[np.ndarray, "channel i j k"], operators: tuple[NDArray[np.float32], ...]
) -> Float32[np.ndarray, "channel new_i new_j new_k"]:
    """Multiply one operator into each of the axes i, j, k."""
    # Axes that shrink most go first: every later product is then smaller.
    by_growth = sorted(range(3), key=lambda axis: operators[axis].shape[0] / array.shape[axis + 1])
    for axis in by_growth:
        operator = operators[axis]
        if operator.shape[0] != operator.shape[1] or not np.array_equal(
            operator, np.eye(operator.shape[0])
        ):
            array = _apply_along(array, axis + 1, operator)
    return array


def _apply_along(
    array: Float32[np.ndarray, "channel i j k"],
    axis: int,
    operator: Float32[np.ndarray, "n_out n_in"],
) -> Float32[np.ndarray, "channel new_i new_j new_k"]:
    """Multiply a banded operator into one axis, 16 rows at a time."""
    n_out, n_in = operator.shape
    n_before, n_after = int(np.prod(array.shape[:axis])), int(np.prod(array.shape[axis + 1 :]))
    source = np.ascontiguousarray(array).reshape(n_before, n_in, n_after)
    result = np.empty((n_before, n_out, n_after), dtype=np.float32)
    for start in range(0, n_out, _N_BLOCK_ROWS):
        rows = slice(start, min(start + _N_BLOCK_ROWS, n_out))
        columns = _columns_of(operator[rows])
        block = np.ascontiguousarray(operator[rows, columns])
        if n_after == 1:
            # One tall product instead of one tiny product per image row.
            np.matmul(source[:, columns, 0], block.T, out=result[:, rows, 0])
        else:
            np.matmul(block, source[:, columns], out=result[:, rows])
    return result.reshape(*array.shape[:axis], n_out, *array.shape[axis + 1 :])


def _columns_of(block: Float32[np.ndarray, "rows n_in"]) -> slice:
    """Columns that matter to a block of rows."""
    columns = np.flatnonzero((np.abs(block) > _NEGLIGIBLE).any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 1)
