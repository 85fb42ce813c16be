"""Smooth random displacements of a patch, as soft tissue moves; they never fold it over.

A displacement is a uniform cubic B-spline over a coarse lattice of random vectors. It is added to
the sampling grid of the patch, so that image and label are still interpolated once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.core.geometry import Shape3, Spacing
from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.to_device import to_device


@dataclass(frozen=True)
class ElasticField:
    """Displacements at the nodes of a lattice that covers a patch.

    Args:
        controls: Displacement at each node, in voxels of the patch along i, j, k.
        step_voxels: Distance between nodes, in voxels of the patch.
    """

    controls: Float[np.ndarray, "3 ci cj ck"]
    step_voxels: tuple[float, float, float]

    @property
    def reach_voxels(self) -> Float[np.ndarray, "3"]:
        """Upper bound of the displacement along each axis: a spline stays within its nodes."""
        return np.array([np.abs(along).max() for along in self.controls])


def draw_elastic(
    patch_size: Shape3, spacing_mm: Spacing, config: AugmentationConfig, rng: np.random.Generator
) -> ElasticField:
    """Draw a displacement field; it is isotropic in mm, whatever the voxels are.

    Args:
        patch_size: Voxels of the patch along i, j, k.
        spacing_mm: Spacing of the patch's voxels.
        config: Distance between nodes and largest displacement, in mm.
        rng: Source of randomness.

    Returns:
        The field.
    """
    spacing = np.array(spacing_mm)
    step = config.elastic_scale_mm / spacing
    # A cubic spline needs one node before and two after the interval a voxel lies in.
    n_nodes = [int((size - 1) // one) + 4 for size, one in zip(patch_size, step, strict=True)]
    limit = config.elastic_magnitude_mm
    controls = rng.uniform(-limit, limit, size=(3, *n_nodes)) / spacing[:, None, None, None]
    return ElasticField(controls, (float(step[0]), float(step[1]), float(step[2])))


def displacements(
    field: ElasticField, patch_size: Shape3, device: torch.device
) -> Float[Tensor, "pi pj pk 3"]:
    """The displacement of every voxel of a patch.

    Args:
        field: Drawn for a patch of this size.
        patch_size: Voxels of the patch along i, j, k.
        device: Where the result is wanted.

    Returns:
        Voxels along i, j, k.
    """
    result = to_device(field.controls, device).movedim(0, -1)
    for axis in range(3):
        basis = _basis(patch_size[axis], field.step_voxels[axis], field.controls.shape[axis + 1])
        # Each pass takes the first axis in and puts the finished one last, vectors in between.
        result = torch.tensordot(result, to_device(basis, device), dims=([0], [1]))
    return result.movedim(0, -1)


def _basis(size: int, step: float, n_nodes: int) -> Float[np.ndarray, "size node"]:
    """Weight of each node for each voxel along one axis (uniform cubic B-spline)."""
    place, t = np.divmod(np.arange(size) / step, 1.0)
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis = np.zeros((size, n_nodes))
    columns = place.astype(int)[:, None] + np.arange(4)
    np.put_along_axis(basis, columns, weights / 6, axis=1)
    return basis
