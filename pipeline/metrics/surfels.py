"""Area of the piece of surface that passes through a cube of 2x2x2 voxel centers.

Which of the eight corners belong to the structure is a code of eight bits. The surface cuts every
cube edge between an inner and an outer corner at its middle; those middles form closed loops over
the cube's faces, and the loops are filled with triangles.
"""

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

import numpy as np
from jaxtyping import Float64

from pipeline.core.geometry import Spacing

N_CODES = 256
# Bit b of a code is corner b: bits 2, 1, 0 of b are its places along i, j, k.
CORNERS = tuple(product((0, 1), repeat=3))

# An edge runs from an inner to an outer corner.
_Edge = tuple[int, int]
_Loop = tuple[_Edge, ...]
_AreaVectors = Float64[np.ndarray, "triangle 3"]


def surfel_areas_mm2(spacing_mm: Spacing) -> Float64[np.ndarray, "256"]:
    """Surface area within a cube of 2x2x2 voxel centers, for every corner code.

    Args:
        spacing_mm: Voxel spacing along i, j, k, in mm.

    Returns:
        Areas in mm2 by code; 0 for the codes 0 and 255.

    Source:
        The surface elements of Nikolov et al. 2021 (arXiv 1809.04430); derived here from the
        loops, not copied, and equal to the table of MONAI 1.6.1 for all codes (tests/parity).
    """
    i, j, k = spacing_mm
    # A triangle's area vector scales along each axis with the area of the face across it.
    scale = np.array([j * k, i * k, i * j])
    return np.array([np.linalg.norm(v * scale, axis=1).sum() for v in _area_vectors_of_codes()])


@cache
def _area_vectors_of_codes() -> tuple[_AreaVectors, ...]:
    return tuple(_area_vectors(code) for code in range(N_CODES))


def _area_vectors(code: int) -> _AreaVectors:
    """Area vectors of the triangles of one code, on the unit cube."""
    patches = [_widest_patch(loop) for loop in _loops(_inner_corners(code))]
    return np.concatenate([np.zeros((0, 3)), *patches])


def _inner_corners(code: int) -> frozenset[int]:
    """The corners that are fewer; inside and outside have the same surface."""
    inside = frozenset(corner for corner in range(8) if code >> corner & 1)
    return inside if len(inside) <= 4 else frozenset(range(8)) - inside


def _loops(inner: frozenset[int]) -> list[_Loop]:
    """Closed chains of cut edges, each edge next to those it shares a face's contour with."""
    neighbors: dict[_Edge, list[_Edge]] = {}
    for first, second in _contours(inner):
        neighbors.setdefault(first, []).append(second)
        neighbors.setdefault(second, []).append(first)
    loops: list[_Loop] = []
    while neighbors:
        loop = [min(neighbors)]
        while following := [e for e in neighbors[loop[-1]] if e not in loop]:
            loop.append(following[0])
        for edge in loop:
            del neighbors[edge]
        loops.append(tuple(loop))
    return loops


def _contours(inner: frozenset[int]) -> Iterator[tuple[_Edge, _Edge]]:
    """Pairs of cut edges that a line of the surface joins on a face of the cube."""
    for axis, side in product(range(3), (0, 1)):
        face = [c for c in range(8) if CORNERS[c][axis] == side]
        cut = [(a, b) for a in face for b in face if a in inner and b not in inner and _touch(a, b)]
        if len(cut) == 2:
            yield cut[0], cut[1]
        elif len(cut) == 4:
            # Two inner corners across the face's diagonal: each is cut off on its own.
            yield from ((e, f) for e, f in combinations(cut, 2) if e[0] == f[0])


def _touch(first: int, second: int) -> bool:
    """Whether an edge of the cube joins two corners."""
    return (first ^ second) in (1, 2, 4)


def _widest_patch(loop: _Loop) -> _AreaVectors:
    """Fill a loop with triangles; where it is not flat, with those of the largest area.

    The tables in use have this choice, which also makes all turned cubes have the same area.
    """
    middles = np.array([(np.array(CORNERS[a]) + np.array(CORNERS[b])) / 2 for a, b in loop])
    patches = [
        np.array(
            [
                np.cross(middles[b] - middles[a], middles[c] - middles[a]) / 2
                for a, b, c in triangles
            ]
        )
        for triangles in _triangulations(tuple(range(len(loop))))
    ]
    return max(patches, key=_unit_area)


def _unit_area(area_vectors: _AreaVectors) -> float:
    # Rounded, so that patches of equal area tie on every machine and the first one is taken.
    return round(float(np.linalg.norm(area_vectors, axis=1).sum()), 9)


def _triangulations(corners: tuple[int, ...]) -> Iterator[list[tuple[int, int, int]]]:
    """All ways to fill a polygon with triangles of its corners."""
    if len(corners) < 3:
        yield []
        return
    first, last = corners[0], corners[-1]
    for place in range(1, len(corners) - 1):
        before, after = corners[: place + 1], corners[place:]
        for left, right in product(_triangulations(before), list(_triangulations(after))):
            yield [*left, (first, corners[place], last), *right]
