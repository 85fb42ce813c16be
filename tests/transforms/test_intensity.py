"""Intensity changes: as the plain operations, reproducible, and batched as one by one."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it

from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.intensity import (
    IntensityChange,
    change_intensities,
    draw_intensity_change,
)

NAMES = ("noise", "blur", "brightness", "contrast", "gamma", "low_resolution")


def every(probability):
    return AugmentationConfig(**{f"{name}_probability": probability for name in NAMES})


def make_patches(n=1, size=(14, 17, 12), seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, 2, *size)).astype(np.float32))


def changed(patches, *changes):
    return change_intensities(patches.clone(), changes)


def blurred(patches, sigma):
    """By convolution, divided by the weights that lie inside."""
    radius = max(1, math.ceil(2.5 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    channels = patches[0][:, None]
    for axis in range(3):
        shape, padding = [1] * 5, [0] * 3
        shape[axis + 2], padding[axis] = len(x), radius
        inside = F.conv3d(torch.ones_like(channels), kernel.view(shape), padding=padding)
        channels = F.conv3d(channels, kernel.view(shape), padding=padding) / inside
    return channels[:, 0][None]


def coarsened(patches, zoom):
    size = [max(2, round(n * zoom)) for n in patches.shape[2:]]
    small = F.interpolate(patches, size=size, mode="nearest-exact")
    return F.interpolate(small, size=patches.shape[2:], mode="trilinear", align_corners=False)


@pytest.mark.parametrize("sigma", [0.5, 0.83, 1.0, 2.7])
def test_blur_is_a_convolution_whose_border_does_not_darken(sigma):
    patches = make_patches()
    result = changed(patches, IntensityChange(blur_sigma_voxels=sigma))
    assert torch.allclose(result, blurred(patches, sigma), atol=1e-5)


@pytest.mark.parametrize("size", [(14, 17, 12), (40, 56, 40), (2, 9, 1)])
@pytest.mark.parametrize("zoom", [0.5, 0.61, 0.77, 1.0])
def test_low_resolution_is_nearest_down_and_linear_up(zoom, size):
    if min(size) == 1:
        # There torch would enlarge to two slices and come back; one slice has no neighbor.
        patches = torch.ones((1, 2, *size))
        assert torch.equal(changed(patches, IntensityChange(low_resolution_zoom=zoom)), patches)
        return
    patches = make_patches(size=size)
    result = changed(patches, IntensityChange(low_resolution_zoom=zoom))
    assert torch.allclose(result, coarsened(patches, zoom), atol=1e-5)


def test_the_fused_matrices_are_blur_then_brightness_then_low_resolution():
    patches = make_patches()
    change = IntensityChange(blur_sigma_voxels=0.8, brightness=(1.2, -0.3), low_resolution_zoom=0.6)
    expected = coarsened(blurred(patches, 0.8) * 1.2 - 0.3, 0.6)
    assert torch.allclose(changed(patches, change), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_moves_values_away_from_the_mean_of_their_channel_within_its_range(factor):
    patches = make_patches(2)
    change = IntensityChange(contrast=factor)
    for row, result in enumerate(changed(patches, change, change).numpy()):
        for before, after in zip(patches[row].numpy(), result, strict=True):
            expected = before.mean() + factor * (before - before.mean())
            assert np.allclose(after, np.clip(expected, before.min(), before.max()), atol=1e-5)


@pytest.mark.parametrize("is_inverted", [False, True])
def test_gamma_follows_its_formula_and_keeps_mean_and_sd(is_inverted):
    patches = make_patches()
    result = changed(patches, IntensityChange(gamma=(1.4, is_inverted)))
    x = -patches if is_inverted else patches
    axes = (2, 3, 4)
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    bent = ((x - low) / (high - low)) ** 1.4
    std, mean = torch.std_mean(bent, dim=axes, keepdim=True)
    expected = (bent - mean) / std * x.std(axes, keepdim=True) + x.mean(axes, keepdim=True)
    assert torch.allclose(result, -expected if is_inverted else expected, atol=1e-4)
    assert torch.allclose(result.mean(axes), patches.mean(axes), atol=1e-5)
    assert torch.allclose(result.std(axes), patches.std(axes), atol=1e-4)


def test_a_batch_changes_as_its_patches_one_by_one():
    patches = make_patches(6)
    changes = [draw_intensity_change(every(0.5), np.random.default_rng(n)) for n in range(6)]
    assert len(set(changes)) == 6
    together = changed(patches, *changes)
    for row, change in enumerate(changes):
        alone = changed(patches[row : row + 1], change)
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_the_operations_take_a_batch_as_the_gpu_gives_it():
    from pipeline.transforms import intensity

    patches = make_patches(4)
    changes = [draw_intensity_change(every(1.0), np.random.default_rng(n)) for n in range(4)]
    for change in (intensity._smooth, intensity._brighten, intensity._stretch, intensity._bend):
        together = change(patches, changes)
        for row in range(4):
            alone = change(patches[row : row + 1], changes[row : row + 1])
            assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_the_same_generator_gives_the_same_change_and_zero_probabilities_change_nothing():
    patches = make_patches()
    one, two = (draw_intensity_change(every(1.0), np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert torch.equal(changed(patches, one), changed(patches, two))
    assert not torch.equal(changed(patches, one), patches)
    off = draw_intensity_change(every(0.0), np.random.default_rng(5))
    assert off == IntensityChange()
    assert torch.equal(changed(patches, off), patches)


def test_a_constant_patch_stays_finite():
    flat = torch.full((1, 1, 8, 8, 8), 2.0)
    for is_inverted in (False, True):
        result = changed(flat, IntensityChange(blur_sigma_voxels=1.0, gamma=(0.7, is_inverted)))
        assert torch.allclose(result, flat, atol=1e-3)


def test_slices_that_are_kept_apart_are_not_blurred_into_each_other():
    patches = torch.zeros(1, 1, 9, 9, 9)
    patches[..., 4, 4, 4] = 1
    for axis in range(3):
        change = IntensityChange(blur_sigma_voxels=1.0, low_resolution_zoom=0.5, slice_axis=axis)
        result = changed(patches.clone(), change)[0, 0].movedim(axis, 0)
        assert result[4].count_nonzero() > 1
        assert result[:4].count_nonzero() == result[5:].count_nonzero() == 0
