"""Read an augmented patch straight from a volume: one crop, one interpolation, on any device."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from pipeline.core.geometry import Shape3, Spacing
from pipeline.transforms.config import AugmentationConfig


@dataclass(frozen=True)
class PatchPose:
    """How a patch lies in its volume.

    Args:
        center: Patch centre in voxels of the volume, along i, j, k.
        matrix: Patch voxel offsets to volume voxel offsets; a signed unit matrix is a plain crop.
    """

    center: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "3 3"]

    @property
    def is_plain(self) -> bool:
        """Whether the patch is a crop with mirrored axes: no interpolation needed."""
        return bool(np.array_equal(np.abs(self.matrix), np.eye(3)))


def draw_pose(
    center: Float[np.ndarray, "3"],
    spacing_mm: Spacing,
    mirror_axes: tuple[int, ...],
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> PatchPose:
    """Draw rotation, zoom and mirroring for one patch.

    Rotations act in mm, so that anisotropic voxels do not turn them into shears.

    Args:
        center: Patch centre in voxels.
        spacing_mm: Voxel spacing along i, j, k.
        mirror_axes: Axes that may be mirrored.
        config: Ranges and probabilities.
        rng: Source of randomness.

    Returns:
        The pose.
    """
    matrix = np.eye(3)
    if rng.random() < config.affine_probability:
        limit = math.radians(config.rotation_degrees)
        rotation = _rotation(rng.uniform(-limit, limit, size=3))
        # A zoom factor above 1 enlarges anatomy: the patch then covers less of the volume.
        zoom = math.exp(rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
        spacing = np.array(spacing_mm)
        matrix = (rotation * spacing[None, :] / spacing[:, None]) / zoom
    for axis in mirror_axes:
        if rng.random() < config.mirror_probability:
            matrix[:, axis] *= -1
    return PatchPose(center, matrix)


def _rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        step = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        step[a, a] = step[b, b] = math.cos(angle)
        step[a, b], step[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ step
    return matrix


def read_patch(
    image: Float[Tensor, "channel i j k"],
    label: UInt8[Tensor, "i j k"],
    pose: PatchPose,
    patch_size: Shape3,
) -> tuple[Float[Tensor, "channel pi pj pk"], UInt8[Tensor, "pi pj pk"]]:
    """Read a patch of a volume; what lies outside the volume is 0.

    Args:
        image: Prepared volume, float16 or float32.
        label: Class index per voxel.
        pose: Where and how the patch lies.
        patch_size: Voxels of the patch along i, j, k.

    Returns:
        Image patch (float32) and label patch.
    """
    if pose.is_plain:
        return _read_crop(image, label, pose, patch_size)
    half = (np.array(patch_size) - 1) / 2
    reach = np.abs(pose.matrix) @ half
    shape = np.array(label.shape)
    low = np.clip(np.floor(pose.center - reach), 0, shape - 1).astype(int)
    high = np.clip(np.ceil(pose.center + reach) + 1, low + 1, shape).astype(int)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = _sampling_grid(pose.matrix, pose.center - low, (high - low), patch_size, image.device)
    # padding_mode="zeros": 0 is the mean intensity after normalization, and background for labels.
    patch = F.grid_sample(
        image[(slice(None), *box)][None].float(), grid, mode="bilinear", align_corners=False
    )
    label_patch = F.grid_sample(
        label[box][None, None].float(), grid, mode="nearest", align_corners=False
    )
    return patch[0], label_patch[0, 0].to(torch.uint8)


def _sampling_grid(
    matrix: Float[np.ndarray, "3 3"],
    center: Float[np.ndarray, "3"],
    box_shape: Integer[np.ndarray, "3"],
    patch_size: Shape3,
    device: torch.device,
) -> Float[Tensor, "1 pi pj pk 3"]:
    """Coordinates for grid_sample: normalized to [-1, 1] over voxel faces, order k, j, i."""
    scale = 2.0 / box_shape
    origin = (center + 0.5) * scale - 1
    coordinates = torch.tensor(origin, dtype=torch.float32, device=device)
    grid = coordinates.expand(1, *patch_size, 3)
    for axis, size in enumerate(patch_size):
        offsets = np.arange(size) - (size - 1) / 2
        steps = offsets[:, None] * (matrix[:, axis] * scale)[None, :]
        shape = [1, 1, 1, 1, 3]
        shape[axis + 1] = size
        grid = grid + torch.tensor(steps, dtype=torch.float32, device=device).view(shape)
    return grid.flip(-1)


def _read_crop(
    image: Float[Tensor, "channel i j k"],
    label: UInt8[Tensor, "i j k"],
    pose: PatchPose,
    patch_size: Shape3,
) -> tuple[Float[Tensor, "channel pi pj pk"], UInt8[Tensor, "pi pj pk"]]:
    start = [round(float(c) - (n - 1) / 2) for c, n in zip(pose.center, patch_size, strict=True)]
    source, target = [], []
    for first, size, limit in zip(start, patch_size, label.shape, strict=True):
        low, high = max(first, 0), max(min(first + size, limit), max(first, 0))
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    patch = image.new_zeros((image.shape[0], *patch_size), dtype=torch.float32)
    label_patch = label.new_zeros(patch_size)
    patch[(slice(None), *target)] = image[(slice(None), *source)].float()
    label_patch[tuple(target)] = label[tuple(source)]
    flipped = [axis for axis in range(3) if pose.matrix[axis, axis] < 0]
    if flipped:
        patch = patch.flip([axis + 1 for axis in flipped])
        label_patch = label_patch.flip(flipped)
    return patch, label_patch


def augment_intensity(
    patch: Float[Tensor, "channel i j k"], config: AugmentationConfig, rng: np.random.Generator
) -> Float[Tensor, "channel i j k"]:
    """Change intensities as scanners and protocols do; anatomy stays where it is.

    Args:
        patch: Normalized image patch (mean about 0, SD about 1), float32.
        config: Ranges and probabilities.
        rng: Source of randomness.

    Returns:
        A changed copy, or the patch itself when nothing was drawn.
    """
    if rng.random() < config.noise_probability:
        patch = patch + _noise(patch, rng) * rng.uniform(0, config.noise_std)
    if rng.random() < config.blur_probability:
        patch = _blur(patch, rng.uniform(*config.blur_sigma_voxels))
    if rng.random() < config.brightness_probability:
        patch = patch * rng.uniform(*config.brightness) + rng.normal(0, config.shift_std)
    if rng.random() < config.low_resolution_probability:
        patch = _lower_resolution(patch, rng.uniform(*config.low_resolution_zoom))
    if rng.random() < config.gamma_probability:
        patch = _gamma(patch, rng.uniform(*config.gamma), invert=bool(rng.random() < 0.25))
    return patch


def _noise(
    patch: Float[Tensor, "channel i j k"], rng: np.random.Generator
) -> Float[Tensor, "channel i j k"]:
    generator = torch.Generator(device=patch.device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(patch.shape, generator=generator, device=patch.device)


def _blur(
    patch: Float[Tensor, "channel i j k"], sigma_voxels: float
) -> Float[Tensor, "channel i j k"]:
    radius = max(1, math.ceil(2.5 * sigma_voxels))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32, device=patch.device)
    kernel = torch.exp(-0.5 * (x / sigma_voxels) ** 2)
    kernel = kernel / kernel.sum()
    result = patch[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = kernel.numel(), radius
        # Dividing by the blurred ones keeps the border from darkening.
        weight = F.conv3d(torch.ones_like(result[:1]), kernel.view(shape), padding=padding)
        result = F.conv3d(result, kernel.view(shape), padding=padding) / weight
    return result[:, 0]


def _lower_resolution(
    patch: Float[Tensor, "channel i j k"], zoom: float
) -> Float[Tensor, "channel i j k"]:
    size = [max(2, round(n * zoom)) for n in patch.shape[1:]]
    small = F.interpolate(patch[None], size=size, mode="nearest-exact")
    return F.interpolate(small, size=patch.shape[1:], mode="trilinear", align_corners=False)[0]


def _gamma(
    patch: Float[Tensor, "channel i j k"], exponent: float, *, invert: bool
) -> Float[Tensor, "channel i j k"]:
    """Gamma curve over the patch's own range; mean and SD per channel stay as they were."""
    if invert:
        patch = -patch
    axes = (1, 2, 3)
    low = patch.amin(axes, keepdim=True)
    span = patch.amax(axes, keepdim=True) - low + 1e-7
    std, mean = torch.std_mean(patch, dim=axes, keepdim=True)
    changed = ((patch - low) / span) ** exponent
    new_std, new_mean = torch.std_mean(changed, dim=axes, keepdim=True)
    result = (changed - new_mean) / (new_std + 1e-7) * std + mean
    return -result if invert else result
