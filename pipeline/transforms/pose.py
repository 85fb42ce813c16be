"""How a patch lies in its volume: rotation, zoom, mirroring and right angles in one matrix."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.core.geometry import Shape3, Spacing
from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.elastic import ElasticField, draw_elastic

# Spacings that differ by less count as the same length when axes change places.
_SAME_SPACING = 0.01
# Longest over shortest side of a patch beyond which its slices are kept apart (nnU-Net).
_MAX_SLICE_RATIO = 3.0


@dataclass(frozen=True)
class PatchFrame:
    """What a patch is made of, whatever augmentation does to it.

    Args:
        size: Voxels of the patch along i, j, k.
        spacing_mm: Spacing of the patch's voxels along i, j, k.
        mirror_axes: Axes that may be mirrored.
        slice_axis: Axis across slices within which augmentation stays; None for no such limit.
    """

    size: Shape3
    spacing_mm: Spacing
    mirror_axes: tuple[int, ...] = ()
    slice_axis: int | None = None


@dataclass(frozen=True)
class PatchPose:
    """How a patch lies in its volume.

    Args:
        center: Patch centre in voxels of the volume, along i, j, k.
        matrix: Patch voxel offsets to volume voxel offsets; with a single 1 or -1 in each row and
            column it is a plain crop.
        elastic: Displacement of the patch's voxels, before the matrix; None for none.
    """

    center: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "3 3"]
    elastic: ElasticField | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the patch is a crop with axes mirrored or swapped: no interpolation needed."""
        ones = np.abs(self.matrix)
        return (
            self.elastic is None
            and bool(np.isin(ones, (0.0, 1.0)).all())
            and bool((ones.sum(axis=0) == 1).all() and (ones.sum(axis=1) == 1).all())
        )

    def reach(self, patch_size: Shape3) -> Float[np.ndarray, "3"]:
        """How far the patch extends from its centre, in voxels of the volume.

        Args:
            patch_size: Voxels of the patch along i, j, k.

        Returns:
            Distance along each axis of the volume.
        """
        half = (np.array(patch_size) - 1) / 2
        if self.elastic is not None:
            half = half + self.elastic.reach_voxels
        return np.asarray(np.abs(self.matrix) @ half)


def slice_axis_of(patch_size: Shape3, config: AugmentationConfig) -> int | None:
    """The axis across slices that augmentation keeps apart.

    Args:
        patch_size: Voxels of a patch along i, j, k.
        config: May fix whether there is one.

    Returns:
        The axis of fewest voxels where the patch is like a few sheets, else None.

    Source:
        nnU-Net v2, the rule that decides on two-dimensional augmentation.
    """
    is_flat = max(patch_size) > _MAX_SLICE_RATIO * min(patch_size)
    is_wanted = is_flat if config.within_slices is None else config.within_slices
    return int(np.argmin(patch_size)) if is_wanted else None


def draw_pose(
    center: Float[np.ndarray, "3"],
    frame: PatchFrame,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> PatchPose:
    """Draw rotation, zoom, mirroring, right angles and displacement for one patch.

    Rotations act in mm, so that anisotropic voxels do not turn them into shears.

    Args:
        center: Patch centre in voxels.
        frame: Size and spacing of the patch, and what may be done along which axis.
        config: Ranges and probabilities.
        rng: Source of randomness.

    Returns:
        The pose.
    """
    matrix = np.eye(3)
    if rng.random() < config.affine_probability:
        matrix = _draw_affine(frame, config, rng)
    for axis in frame.mirror_axes:
        if rng.random() < config.mirror_probability:
            matrix[:, axis] *= -1
    # What is off draws nothing: a training of before these knobs repeats bit by bit.
    if config.right_angle_probability > 0 and rng.random() < config.right_angle_probability:
        turns = right_angle_turns(frame.size, frame.spacing_mm)
        matrix = matrix @ turns[rng.integers(len(turns))]
    elastic = None
    if config.elastic_probability > 0 and rng.random() < config.elastic_probability:
        elastic = draw_elastic(frame.size, frame.spacing_mm, config, rng)
        if frame.slice_axis is not None:
            elastic.controls[frame.slice_axis] = 0
    return PatchPose(center, matrix, elastic)


def _draw_affine(
    frame: PatchFrame, config: AugmentationConfig, rng: np.random.Generator
) -> Float[np.ndarray, "3 3"]:
    limit = math.radians(config.rotation_degrees)
    angles = rng.uniform(-limit, limit, size=3)
    # A zoom factor above 1 enlarges anatomy: the patch then covers less of the volume.
    zoom = np.full(3, math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1]))))
    if frame.slice_axis is not None:
        angles[np.arange(3) != frame.slice_axis] = 0
        zoom[frame.slice_axis] = 1
    spacing = np.array(frame.spacing_mm)
    return _rotation(angles) * spacing[None, :] / spacing[:, None] / zoom


def right_angle_turns(
    patch_size: Shape3, spacing_mm: Spacing
) -> tuple[Float[np.ndarray, "3 3"], ...]:
    """The rotations of a cube that keep a patch's shape and spacing.

    Rotations only: a mirror image would make a left organ a right one, so mirroring is asked for
    by its own axes. With all three of them, the two together are the 48 symmetries of a cube.

    Args:
        patch_size: Voxels of the patch along i, j, k.
        spacing_mm: Spacing of its voxels.

    Returns:
        24 matrices for a cube, 8 with one axis that differs, 4 if all differ; the identity first.
    """

    def is_alike(one: int, two: int) -> bool:
        ratio = spacing_mm[one] / spacing_mm[two]
        return patch_size[one] == patch_size[two] and abs(ratio - 1) < _SAME_SPACING

    turns = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        if not all(is_alike(axis, other) for axis, other in enumerate(order)):
            continue
        for signs in np.ndindex(2, 2, 2):
            matrix = np.eye(3)[:, order] * (1 - 2 * np.array(signs))
            if np.linalg.det(matrix) > 0:
                turns.append(matrix)
    return tuple(turns)


def _rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        step = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        step[a, a] = step[b, b] = math.cos(angle)
        step[a, b], step[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ step
    return matrix
