"""From the grid of the network back to the voxels of the source file."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Geometry,
    corner_displacement_voxels,
    inverse_reorientation,
    reorient_geometry,
    reorientation_to_ras,
)
from pipeline.core.volume import Volume, reorient

# A restored grid is the same numbers computed twice: anything visible is another grid.
_MAX_DISPLACEMENT_VOXELS = 0.01


@dataclass(frozen=True)
class Taps:
    """The neighbours of each new voxel of one axis, for linear interpolation.

    Args:
        lower: Neighbour at or below.
        upper: Neighbour above; the lower one again where nothing is to be mixed.
        upper_weight: Share of the upper one, in [0, 1).
    """

    lower: Integer[np.ndarray, " n"]
    upper: Integer[np.ndarray, " n"]
    upper_weight: Float32[np.ndarray, " n"]

    def part(self, voxels: slice, first: int) -> "Taps":
        """Some new voxels, their neighbours counted from the old voxel `first` on."""
        return Taps(
            self.lower[voxels] - first, self.upper[voxels] - first, self.upper_weight[voxels]
        )

    def between(self, first: int, stop: int) -> slice:
        """The new voxels whose neighbours both lie in first..stop-1: they are neighbours too."""
        start = int(np.searchsorted(self.lower, first, side="left"))
        return slice(start, max(start, int(np.searchsorted(self.upper, stop, side="left"))))


def linear_taps(n_in: int, n_out: int) -> Taps:
    """How to resize an axis over the same extent; voxel faces, not centers, stay at the borders.

    Args:
        n_in: Voxels before.
        n_out: Voxels after.

    Returns:
        Neighbours and weights; beyond the outermost centers the outermost voxel counts alone.
    """
    position = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    lower = np.floor(position).astype(np.int64)
    weight = (position - lower).astype(np.float32)
    return Taps(lower, lower + (weight > 0), weight)


def interpolate_planes(
    planes: Float32[Tensor, "n j k channel"], taps: tuple[Taps, Taps, Taps]
) -> Float32[Tensor, "new_n new_j new_k channel"]:
    """Resize linearly along i, k and j; channels come last, so that neighbours lie together.

    Args:
        planes: Old voxels, shape (n, j, k, channel), on any device.
        taps: New voxels along i, j, k.

    Returns:
        New voxels; the planes themselves where nothing changes.
    """
    # k before j: whole rows are then mixed at once in the last and largest step.
    for axis in (0, 2, 1):
        planes = _interpolated(planes, axis, taps[axis])
    return planes


def _interpolated(values: Float32[Tensor, "n j k channel"], axis: int, taps: Taps) -> Tensor:
    n = values.shape[axis]
    if not taps.upper_weight.any() and np.array_equal(taps.lower, np.arange(n)):
        return values
    device = values.device
    lower = values.index_select(axis, torch.from_numpy(taps.lower).to(device))
    if not taps.upper_weight.any():
        return lower
    upper = values.index_select(axis, torch.from_numpy(taps.upper).to(device))
    weight = torch.from_numpy(taps.upper_weight).to(device)
    return torch.lerp(lower, upper, weight.reshape([-1 if a == axis else 1 for a in range(4)]))


def to_native(label: Volume, native: Geometry) -> Volume:
    """Bring a RAS label map back to the axes of the source file, exactly.

    Args:
        label: Label map in RAS on the source grid.
        native: Grid of the source file, in its own orientation.

    Returns:
        A contiguous copy with the shape and the very affine of the source file.

    Raises:
        GeometryError: If the label map is not on that grid.
    """
    to_ras = reorientation_to_ras(native.affine)
    expected = reorient_geometry(native, to_ras)
    if (
        label.shape != expected.shape
        or corner_displacement_voxels(expected, label.geometry) > _MAX_DISPLACEMENT_VOXELS
    ):
        raise GeometryError(
            f"the label map of shape {label.shape} is not on the grid of the source file, "
            f"which has shape {expected.shape} in RAS",
            fix="restore predictions with the geometry of the image they were made from",
        )
    restored = reorient(label, inverse_reorientation(to_ras))
    return Volume(np.ascontiguousarray(restored.array), native.affine)
