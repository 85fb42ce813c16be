"""Change intensities as scanners and protocols do; anatomy stays where it is.

What to change is drawn on the CPU, patch by patch; the change itself then acts on a whole batch, on
any device. Blur and lower resolution are linear and separable, so both together are one small
matrix per axis: three matrix products, whatever was drawn. Multiplying and shifting intensities
commutes with them, because every row of those matrices sums to one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.to_device import to_device


@dataclass(frozen=True)
class IntensityChange:
    """What happens to the intensities of one patch; None leaves that part out.

    Args:
        noise: Seed and SD of the added noise.
        blur_sigma_voxels: Width of the blur.
        brightness: Factor, then added constant.
        contrast: Factor of the distance from the mean of each channel.
        low_resolution_zoom: Size of the grid in between, as a share of the patch's.
        gamma: Exponent, and whether the curve acts on the negative image.
        slice_axis: Axis along which voxels are not mixed; None for none.
    """

    noise: tuple[int, float] | None = None
    blur_sigma_voxels: float | None = None
    brightness: tuple[float, float] | None = None
    contrast: float | None = None
    low_resolution_zoom: float | None = None
    gamma: tuple[float, bool] | None = None
    slice_axis: int | None = None

    @property
    def is_smoothed(self) -> bool:
        """Whether voxels are mixed with their neighbors."""
        return self.blur_sigma_voxels is not None or self.low_resolution_zoom is not None


def draw_intensity_change(
    config: AugmentationConfig, rng: np.random.Generator, *, slice_axis: int | None = None
) -> IntensityChange:
    """Draw what happens to the intensities of one patch.

    Args:
        config: Ranges and probabilities.
        rng: Source of randomness.
        slice_axis: Axis across slices that are not blurred into each other; None for none.

    Returns:
        The change.
    """
    noise = blur = brightness = contrast = zoom = gamma = None
    if rng.random() < config.noise_probability:
        noise = (int(rng.integers(2**62)), rng.uniform(0, config.noise_std))
    if rng.random() < config.blur_probability:
        blur = rng.uniform(*config.blur_sigma_voxels)
    if rng.random() < config.brightness_probability:
        brightness = (rng.uniform(*config.brightness), rng.normal(0, config.shift_std))
    if rng.random() < config.low_resolution_probability:
        zoom = rng.uniform(*config.low_resolution_zoom)
    if rng.random() < config.gamma_probability:
        gamma = (rng.uniform(*config.gamma), bool(rng.random() < 0.25))
    if rng.random() < config.contrast_probability:
        contrast = rng.uniform(*config.contrast)
    return IntensityChange(noise, blur, brightness, contrast, zoom, gamma, slice_axis)


def change_intensities(
    patches: Float[Tensor, "batch channel i j k"], changes: Sequence[IntensityChange]
) -> Float[Tensor, "batch channel i j k"]:
    """Change a batch of patches, each as was drawn for it.

    A patch comes out the same to rounding whatever else is in its batch, and on a CPU as on a GPU
    except for noise, which each kind of device draws with its own generator.

    Args:
        patches: Normalized image patches (mean about 0, SD about 1), float32; they are overwritten.
        changes: One per patch.

    Returns:
        The changed patches.
    """
    for row, change in enumerate(changes):
        if change.noise is not None:
            seed, std = change.noise
            generator = torch.Generator(device=patches.device).manual_seed(seed)
            noise = torch.randn(patches.shape[1:], generator=generator, device=patches.device)
            patches[row].add_(noise, alpha=std)
    _where(patches, changes, [c.is_smoothed for c in changes], _smooth)
    _where(patches, changes, [c.brightness is not None for c in changes], _brighten)
    _where(patches, changes, [c.contrast is not None for c in changes], _stretch)
    _where(patches, changes, [c.gamma is not None for c in changes], _bend)
    return patches


def _where(
    patches: Float[Tensor, "batch channel i j k"],
    changes: Sequence[IntensityChange],
    is_wanted: Sequence[bool],
    change: Callable[[Tensor, Sequence[IntensityChange]], Tensor],
) -> None:
    rows = [row for row, wanted in enumerate(is_wanted) if wanted]
    if patches.device.type == "cpu":
        # Half a batch would have to be copied out; patches one after another stay in the cache.
        for row in rows:
            patches[row : row + 1] = change(patches[row : row + 1], [changes[row]])
    elif rows:
        index = to_device(rows, patches.device, np.int64)
        changed = change(patches.index_select(0, index), [changes[row] for row in rows])
        patches.index_copy_(0, index, changed)


def _smooth(
    patches: Float[Tensor, "batch channel i j k"], changes: Sequence[IntensityChange]
) -> Float[Tensor, "batch channel i j k"]:
    n, channels, *size = patches.shape
    along = [
        to_device([_mixing(change, axis, one) for change in changes], patches.device)
        for axis, one in enumerate(size)
    ]
    result = along[0][:, None] @ patches.reshape(n, channels, size[0], size[1] * size[2])
    result = along[1][:, None, None] @ result.view(n, channels, *size)
    result = result.view(n, channels, size[0] * size[1], size[2]) @ along[2][:, None].mT
    return result.view(n, channels, *size)


def _mixing(change: IntensityChange, axis: int, size: int) -> Float[np.ndarray, "size size"]:
    """Along one axis, the share of each voxel (column) in each changed voxel (row)."""
    mixing = np.eye(size)
    if axis == change.slice_axis:
        return mixing
    if change.blur_sigma_voxels is not None:
        mixing = _blurring(size, change.blur_sigma_voxels)
    if change.low_resolution_zoom is not None:
        mixing = _coarsening(size, change.low_resolution_zoom) @ mixing
    return mixing


def _blurring(size: int, sigma_voxels: float) -> Float[np.ndarray, "size size"]:
    radius = max(1, math.ceil(2.5 * sigma_voxels))
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / sigma_voxels) ** 2) * (np.abs(distance) <= radius)
    # Over what is inside: the border does not darken.
    blurring: Float[np.ndarray, "size size"] = weights / weights.sum(axis=1, keepdims=True)
    return blurring


def _coarsening(size: int, zoom: float) -> Float[np.ndarray, "size size"]:
    """Nearest neighbor down, linear up, as nnU-Net simulates low resolution."""
    n_coarse = min(size, max(2, round(size * zoom)))
    kept = np.floor((np.arange(n_coarse) + 0.5) * (size / n_coarse)).astype(int)
    place = np.clip((np.arange(size) + 0.5) * n_coarse / size - 0.5, 0, n_coarse - 1)
    low = np.minimum(place.astype(int), n_coarse - 1)
    high = np.minimum(low + 1, n_coarse - 1)
    share = place - low
    coarsening = np.zeros((size, size))
    rows = np.arange(size)
    np.add.at(coarsening, (rows, kept[low]), 1 - share)
    np.add.at(coarsening, (rows, kept[high]), share)
    return coarsening


def _brighten(
    patches: Float[Tensor, "batch channel i j k"], changes: Sequence[IntensityChange]
) -> Float[Tensor, "batch channel i j k"]:
    drawn = [change.brightness for change in changes if change.brightness is not None]
    return torch.addcmul(
        _per_patch([shift for _, shift in drawn], patches),
        patches,
        _per_patch([factor for factor, _ in drawn], patches),
    )


def _stretch(
    patches: Float[Tensor, "batch channel i j k"], changes: Sequence[IntensityChange]
) -> Float[Tensor, "batch channel i j k"]:
    """Away from or towards the mean of each channel; what leaves its range is cut (as nnU-Net)."""
    drawn = [change.contrast for change in changes if change.contrast is not None]
    least, most = _range_of(patches)
    mean = patches.mean(dim=(2, 3, 4), keepdim=True)
    return torch.lerp(mean, patches, _per_patch(drawn, patches)).clamp_(least, most)


def _bend(
    patches: Float[Tensor, "batch channel i j k"], changes: Sequence[IntensityChange]
) -> Float[Tensor, "batch channel i j k"]:
    """Gamma curve over each patch's own range; mean and SD per channel stay as they were."""
    drawn = [change.gamma for change in changes if change.gamma is not None]
    exponent = _per_patch([one for one, _ in drawn], patches)
    sign = _per_patch([-1.0 if is_inverted else 1.0 for _, is_inverted in drawn], patches)
    axes = (2, 3, 4)
    std, mean = torch.std_mean(patches, dim=axes, keepdim=True)
    least, most = _range_of(patches)
    low = torch.where(sign > 0, least, -most)
    span = most - least + 1e-7
    # Rounding may leave the smallest voxel a hair below 0, where a power is not defined.
    bent = torch.addcmul(-low / span, patches, sign / span).clamp_(min=0).pow_(exponent)
    new_std, new_mean = torch.std_mean(bent, dim=axes, keepdim=True)
    factor = sign * std / (new_std + 1e-7)
    return torch.addcmul(mean - new_mean * factor, bent, factor)


def _range_of(
    patches: Float[Tensor, "batch channel i j k"],
) -> tuple[Float[Tensor, "batch channel 1 1 1"], Float[Tensor, "batch channel 1 1 1"]]:
    least, most = torch.aminmax(patches.reshape(*patches.shape[:2], -1), dim=2)
    return least[..., None, None, None], most[..., None, None, None]


def _per_patch(
    values: Sequence[float], patches: Float[Tensor, "batch channel i j k"]
) -> Float[Tensor, "batch 1 1 1 1"]:
    return to_device(values, patches.device).view(-1, 1, 1, 1, 1)
