"""Voxels together with their place in the world."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Affine,
    Geometry,
    Reorientation,
    Shape3,
    reorient_array,
    reorient_geometry,
    reorientation_to_ras,
)


@dataclass(frozen=True)
class Volume:
    """A voxel array with its affine.

    Args:
        array: Shape (i, j, k) for a label map or (channel, i, j, k) for an image.
        affine: Voxel index to world mm (RAS+), 4x4 float64.
    """

    array: Shaped[np.ndarray, "..."]
    affine: Affine

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4):
            raise GeometryError(f"a volume has 3 or 4 axes, not {self.array.ndim}")

    @property
    def shape(self) -> Shape3:
        """Number of voxels along i, j, k."""
        i, j, k = self.array.shape[-3:]
        return int(i), int(j), int(k)

    @property
    def geometry(self) -> Geometry:
        """The grid without its voxels."""
        return Geometry(self.shape, self.affine)


def reorient(volume: Volume, reorientation: Reorientation) -> Volume:
    """Permute and flip voxel axes; every voxel keeps its place in the world (a view)."""
    geometry = reorient_geometry(volume.geometry, reorientation)
    return Volume(reorient_array(volume.array, reorientation), geometry.affine)


def to_ras(volume: Volume) -> Volume:
    """Bring the voxel axes to run to R, A and S; a view, nothing is interpolated."""
    return reorient(volume, reorientation_to_ras(volume.affine))
