"""How well the label border follows the image edges.

Structures end where the image changes. So a label that lies where it was drawn has stronger edges
along its border than the same label pushed or mirrored to a place where nobody drew it.
"""

from itertools import product

import numpy as np
from jaxtyping import Bool, Float32, Integer, Real

from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measures import AlignmentProfile
from pipeline.core.geometry import Shape3

# Along longer axes every second voxel is enough to see which position fits.
_MAX_FULL_AXIS = 160
# A move that takes more of the border out of the grid is not compared.
_MIN_INSIDE = 0.5
# Moves longer than this part of an axis mostly leave the structure behind.
_MAX_SHIFT_SHARE = 0.25
# The scale of the image edges is read off this many evenly spread voxels.
_N_SCALE_VOXELS = 200_000
# Names the seven ways to mirror a volume: along one, two or all axes.
_FLIPS: tuple[tuple[int, ...], ...] = tuple(
    tuple(axis for axis in range(3) if chosen[axis])
    for chosen in sorted(product((False, True), repeat=3), key=sum)
    if any(chosen)
)

_Points = Integer[np.ndarray, "n 3"]
_Edges = Float32[np.ndarray, "ei ej ek"]


def measure_alignment(
    image: Real[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    limits: GridLimits,
    *,
    is_drawn: Bool[np.ndarray, "i j k"] | None = None,
) -> AlignmentProfile:
    """Compare the image edges on the label border with those on the moved border.

    Every ratio is the mean edge strength on the (moved) border over the mean edge strength in the
    box around the label. It is 0 where a move cannot be compared: when half of the border would
    leave the grid, or a mirrored label would land somewhere else altogether.

    Args:
        image: One channel; values that are not finite are passed over.
        label: Class index per voxel, on the grid of the image.
        limits: How many border voxels, how far to move, and when there is too little to see.
        is_drawn: Voxels that somebody has judged; borders to others are none. None for all.

    Returns:
        The profile; without ratios and with the reason if there is nothing to compare.
    """
    points, n_border = border_points(label, limits.max_border_points, is_drawn=is_drawn)
    if n_border < limits.min_border_voxels:
        return _not_assessable(f"the label has only {n_border} border voxels")
    edges, steps = edge_strength(image)
    radius = limits.max_shift_voxels
    typical = _mean_around(edges, points, steps, radius)
    if typical <= 0:
        return _not_assessable("the image is constant around the label")
    shape = (image.shape[0], image.shape[1], image.shape[2])
    shifts = tuple(range(-radius, radius + 1))
    by_axis = tuple(
        tuple(
            strength / typical
            for strength in _shift_curve(edges, points, steps, shape[axis], axis, shifts)
        )
        for axis in range(3)
    )
    ratio = by_axis[0][radius]
    flips = tuple(_mirrored_mean(edges, points, steps, shape, axes) / typical for axes in _FLIPS)
    best = max(*flips, *(r for curve in by_axis for r in curve))
    is_assessable = best >= limits.min_edge_ratio
    reason = f"the image has no clear edges along the label (edge ratio {best:.2f} at best)"
    middle = points[len(points) // 2]
    return AlignmentProfile(
        is_assessable=is_assessable,
        reason="" if is_assessable else reason,
        ratio=ratio,
        shift_ratios=by_axis,
        shifts=shifts,
        flip_ratios=flips,
        flips=_FLIPS,
        border_voxel=(int(middle[0]), int(middle[1]), int(middle[2])),
    )


def border_mask(
    label: Real[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"],
    *,
    is_drawn: Bool[np.ndarray, "i j k"] | None = None,
) -> Bool[np.ndarray, "i j k"]:
    """Voxels with a neighbor along an axis that has another value.

    Args:
        label: Shape (i, j, k). The edge of the volume is no border.
        is_drawn: Voxels that somebody has judged; borders to others are none. None for all.

    Returns:
        Mask of the same shape; both sides of every border are in it.
    """
    border = np.zeros(label.shape, dtype=bool)
    for axis in range(3):
        here = [slice(None)] * 3
        following = [slice(None)] * 3
        here[axis], following[axis] = slice(None, -1), slice(1, None)
        differs = label[tuple(here)] != label[tuple(following)]
        if is_drawn is not None:
            differs &= is_drawn[tuple(here)] & is_drawn[tuple(following)]
        border[tuple(here)] |= differs
        border[tuple(following)] |= differs
    return border


def border_points(
    label: Real[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"],
    n_most: int,
    *,
    is_drawn: Bool[np.ndarray, "i j k"] | None = None,
) -> tuple[_Points, int]:
    """Voxels on the label border, evenly thinned.

    Args:
        label: Shape (i, j, k).
        n_most: Keep at most about this many.
        is_drawn: As in `border_mask`.

    Returns:
        Voxel indices, shape (n, 3), and the number of border voxels before thinning.
    """
    places = np.flatnonzero(border_mask(label, is_drawn=is_drawn))
    step = max(1, -(-places.size // n_most))
    return np.stack(np.unravel_index(places[::step], label.shape), axis=1), int(places.size)


def edge_strength(image: Real[np.ndarray, "i j k"]) -> tuple[_Edges, Shape3]:
    """How much the image changes at every voxel, on a scale from 0 to 1.

    The gradient magnitude g (per voxel, not per mm) is bounded to g / (g + median g), so that
    metal and bone do not outvote everything else. Long axes are read at every second voxel.

    Args:
        image: Shape (i, j, k); there is no edge at values that are not finite.

    Returns:
        Edge strength, and the voxels of the image per voxel of it along each axis.
    """
    i, j, k = (1 if n <= _MAX_FULL_AXIS else 2 for n in image.shape)
    values = image[::i, ::j, ::k].astype(np.float32)
    if not np.isfinite(values).all():
        values[~np.isfinite(values)] = np.nan
    magnitude = np.zeros(values.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in range(3):
            if values.shape[axis] > 1:
                magnitude += np.gradient(values, axis=axis) ** 2
        magnitude = np.sqrt(magnitude)
    np.nan_to_num(magnitude, copy=False, nan=0.0, posinf=0.0)
    sample = magnitude.ravel()[:: max(1, magnitude.size // _N_SCALE_VOXELS)]
    changing = sample[sample > 0]
    if changing.size:
        magnitude /= magnitude + np.median(changing)
    return magnitude, (i, j, k)


def mean_strength(edges: _Edges, points: _Points, steps: Shape3) -> float:
    """Mean edge strength at some voxels of the image.

    Args:
        edges: As `edge_strength` gives it.
        points: Voxel indices of the image, shape (n, 3), at least one.
        steps: Voxels of the image per voxel of `edges`.

    Returns:
        From 0 to 1.
    """
    i, j, k = (points[:, axis] // steps[axis] for axis in range(3))
    return float(edges[i, j, k].mean())


def _shift_curve(
    edges: _Edges, points: _Points, steps: Shape3, n_voxels: int, axis: int, shifts: tuple[int, ...]
) -> tuple[float, ...]:
    """Mean edge strength for every shift along one axis of `n_voxels`."""
    # Flat indices: the part of the other axes is the same for all shifts.
    strides = (edges.shape[1] * edges.shape[2], edges.shape[2], 1)
    others = np.zeros(len(points), dtype=np.int64)
    for other in {0, 1, 2} - {axis}:
        others += points[:, other] // steps[other] * strides[other]
    along, flat = points[:, axis], edges.reshape(-1)
    curve = []
    for shift in shifts:
        moved = along + shift
        is_inside = (moved >= 0) & (moved < n_voxels)
        n_inside = int(np.count_nonzero(is_inside))
        if abs(shift) > _MAX_SHIFT_SHARE * n_voxels or n_inside < _MIN_INSIDE * len(points):
            curve.append(0.0)
            continue
        places = others + moved // steps[axis] * strides[axis]
        if n_inside < len(points):
            places = places[is_inside]
        curve.append(float(flat[places].mean()))
    return tuple(curve)


def _mirrored_mean(
    edges: _Edges, points: _Points, steps: Shape3, shape: Shape3, axes: tuple[int, ...]
) -> float:
    moved = points.copy()
    for axis in axes:
        moved[:, axis] = shape[axis] - 1 - moved[:, axis]
        low = max(points[:, axis].min(), moved[:, axis].min())
        high = min(points[:, axis].max(), moved[:, axis].max())
        # Elsewhere in the body other edges prevail, which says nothing about this label.
        if high - low < _MIN_INSIDE * (points[:, axis].max() - points[:, axis].min()):
            return 0.0
    return mean_strength(edges, moved, steps)


def _mean_around(edges: _Edges, points: _Points, steps: Shape3, margin: int) -> float:
    start = np.maximum(points.min(axis=0) - margin, 0) // steps
    stop = (points.max(axis=0) + margin) // steps + 1
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return float(edges[i, j, k].mean())


def _not_assessable(reason: str) -> AlignmentProfile:
    return AlignmentProfile(
        is_assessable=False,
        reason=reason,
        ratio=0.0,
        shift_ratios=(),
        shifts=(),
        flip_ratios=(),
        flips=(),
        border_voxel=None,
    )
