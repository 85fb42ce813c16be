"""Polygons to voxels: a voxel belongs to a region if its center lies inside."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

Polygon = Float[np.ndarray, "_ 2"]


def fill_even_odd(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Bool[np.ndarray, "i j"]:
    """Rasterize polygons by the even-odd rule, exactly at voxel centers.

    A center is inside if a line from it crosses an odd number of edges of all polygons together, so
    that a polygon within another one is a hole. A center on an edge belongs to the side of the
    larger index, so that neighboring polygons share no voxel and leave none out.

    Args:
        polygons: Corners (i, j) in voxel units, centers at whole numbers; closed by themselves.
            They may reach beyond the grid.
        shape: Grid (i, j).

    Returns:
        The mask.

    Source:
        Scan line parity, e.g. Foley et al., Computer Graphics (1990), section 3.6.
    """
    n_i, n_j = shape
    # One row more than the grid takes the crossings beyond its end.
    n_crossings = np.zeros((n_i + 1) * n_j, np.int64)
    for polygon in polygons:
        np.add.at(n_crossings, _crossings(polygon, n_i, n_j), 1)
    counts = n_crossings.reshape(n_i + 1, n_j)
    return np.cumsum(counts[:n_i], axis=0) % 2 == 1


def _crossings(polygon: Polygon, n_i: int, n_j: int) -> Int[np.ndarray, " _"]:
    """Flat index (i, j) of the first voxel behind every crossing of an edge with a grid line."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    # Half-open: an edge owns its lower end, so that a shared corner is crossed once.
    first = np.ceil(np.clip(np.minimum(start[:, 1], end[:, 1]), 0, n_j)).astype(np.int64)
    stop = np.ceil(np.clip(np.maximum(start[:, 1], end[:, 1]), 0, n_j)).astype(np.int64)
    n_lines = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(polygon)), n_lines)
    line = np.arange(int(n_lines.sum())) - np.repeat(np.cumsum(n_lines) - n_lines, n_lines)
    line += first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    at = start[edge, 0] + (line - start[edge, 1]) * slope
    return np.ceil(np.clip(at, 0, n_i)).astype(np.int64) * n_j + line
