"""Patches: exact crops, right geometry, background outside, and reproducible changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.transforms.augment import PatchPose, augment_intensity, draw_pose, read_patch
from pipeline.transforms.config import AugmentationConfig

SHAPE = (14, 17, 12)


def make_volume(seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.normal(size=(2, *SHAPE)).astype(np.float32))
    label = torch.from_numpy(rng.integers(0, 3, SHAPE).astype(np.uint8))
    return image, label


def centered(shape=SHAPE):
    return (np.array(shape, dtype=float) - 1) / 2


def test_a_plain_pose_over_the_whole_volume_returns_it_unchanged():
    image, label = make_volume()
    patch, label_patch = read_patch(image, label, PatchPose(centered(), np.eye(3)), SHAPE)
    assert torch.equal(patch, image)
    assert torch.equal(label_patch, label)


@given(
    size=st.tuples(*[st.integers(3, 20)] * 3),
    offset=st.tuples(*[st.integers(-6, 6)] * 3),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_crop_and_interpolation_agree_on_whole_voxel_poses(size, offset, flips):
    image, label = make_volume()
    # Centres for which patch voxels fall on volume voxels.
    center = np.array([o + (n - 1) / 2 + 4 for o, n in zip(offset, size, strict=True)])
    matrix = np.diag([-1.0 if f else 1.0 for f in flips])
    plain = read_patch(image, label, PatchPose(center, matrix), size)
    almost = matrix.copy()
    almost[0, 1] = 1e-7
    sampled = read_patch(image, label, PatchPose(center, almost), size)
    assert torch.allclose(plain[0], sampled[0], atol=1e-3)
    assert torch.equal(plain[1], sampled[1])


def test_outside_the_volume_is_zero():
    image, label = make_volume()
    pose = PatchPose(np.array([-50.0, 0.0, 0.0]), np.eye(3))
    patch, label_patch = read_patch(image + 5, label, pose, (8, 8, 8))
    assert not patch.any()
    assert not label_patch.any()


def test_a_quarter_turn_is_a_permutation():
    image, label = make_volume()
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    patch, label_patch = read_patch(image, label, PatchPose(centered(), turn), (17, 14, 12))
    # Patch voxel (a, b) shows volume voxel (-b, a) about the centre.
    expected = label.flip(0).transpose(0, 1)
    assert torch.equal(label_patch, expected)
    assert torch.allclose(patch, image.flip(1).transpose(1, 2), atol=1e-4)


def test_rotations_are_rigid_in_mm_for_anisotropic_voxels():
    config = AugmentationConfig(affine_probability=1.0, scale=(1.0, 1.0), rotation_degrees=30)
    spacing_mm = np.array([0.5, 1.0, 4.0])
    pose = draw_pose(centered(), (0.5, 1.0, 4.0), (), config, np.random.default_rng(3))
    in_mm = np.diag(spacing_mm) @ pose.matrix @ np.diag(1 / spacing_mm)
    assert in_mm @ in_mm.T == pytest.approx(np.eye(3), abs=1e-12)


def test_zoom_above_one_enlarges_anatomy():
    label = torch.zeros((21, 21, 21), dtype=torch.uint8)
    label[8:13, 8:13, 8:13] = 1
    image = label[None].float()
    pose = PatchPose(np.array([10.0] * 3), np.eye(3) / 2)
    _, label_patch = read_patch(image, label, pose, (21, 21, 21))
    assert int(label_patch.sum()) == pytest.approx(8 * 125, rel=0.3)


def test_the_same_generator_gives_the_same_patch_and_zero_probabilities_change_nothing():
    image, _ = make_volume()
    config = AugmentationConfig(
        noise_probability=1,
        blur_probability=1,
        brightness_probability=1,
        gamma_probability=1,
        low_resolution_probability=1,
    )
    one = augment_intensity(image, config, np.random.default_rng(5))
    two = augment_intensity(image, config, np.random.default_rng(5))
    assert torch.equal(one, two)
    assert not torch.equal(one, image)
    assert torch.isfinite(one).all()
    off = AugmentationConfig(
        noise_probability=0,
        blur_probability=0,
        brightness_probability=0,
        gamma_probability=0,
        low_resolution_probability=0,
    )
    assert torch.equal(augment_intensity(image, off, np.random.default_rng(5)), image)


def test_a_constant_patch_stays_finite():
    flat = torch.full((1, 8, 8, 8), 2.0)
    config = AugmentationConfig(gamma_probability=1, blur_probability=1)
    for seed in range(5):
        result = augment_intensity(flat, config, np.random.default_rng(seed))
        assert torch.isfinite(result).all()
