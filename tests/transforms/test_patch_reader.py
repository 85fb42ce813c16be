"""Patches: exact crops, right geometry, background outside, and batched as one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.elastic import displacements
from pipeline.transforms.patch_reader import read_patch, read_patches
from pipeline.transforms.pose import PatchFrame, PatchPose, draw_pose, right_angle_turns

SHAPE = (14, 17, 12)


def make_volume(seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.normal(size=(2, *SHAPE)).astype(np.float32))
    label = torch.from_numpy(rng.integers(0, 3, SHAPE).astype(np.uint8))
    return image, label


def smooth_volume(shape):
    """Gradients as in images: where a coordinate is rounded then hardly shows."""
    axes = torch.meshgrid(*(torch.linspace(0, 3, n) for n in shape), indexing="ij")
    image = torch.stack([torch.sin(axes[0] + 2 * axes[1]), torch.cos(axes[2] - axes[0])])
    return image, (image[0] > 0).to(torch.uint8) + (image[1] > 0).to(torch.uint8)


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
    agree(image, label, center, np.diag([-1.0 if f else 1.0 for f in flips]), size)


@given(
    turn=st.sampled_from(right_angle_turns((9, 9, 9), (1.0, 1.0, 1.0))),
    center=st.tuples(*[st.integers(-2, 18)] * 3),
)
def test_crop_and_interpolation_agree_on_right_angles(turn, center):
    agree(*make_volume(), np.array(center, dtype=float), turn, (9, 9, 9))


def agree(image, label, center, matrix, size):
    plain = read_patch(image, label, PatchPose(center, matrix), size)
    assert PatchPose(center, matrix).is_plain
    almost = matrix.copy()
    almost[0, np.flatnonzero(matrix[0] == 0)[0]] = 1e-7
    sampled = read_patch(image, label, PatchPose(center, almost), size)
    assert torch.allclose(plain[0], sampled[0], atol=1e-3)
    assert torch.equal(plain[1], sampled[1])


def test_outside_the_volume_is_zero():
    image, label = make_volume()
    for matrix in (np.eye(3), np.eye(3) / 1.1):
        pose = PatchPose(np.array([-50.0, 0.0, 0.0]), matrix)
        patch, label_patch = read_patch(image + 5, label, pose, (8, 8, 8))
        assert not patch.any()
        assert not label_patch.any()


def test_a_quarter_turn_is_a_permutation():
    image, label = make_volume()
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    patch, label_patch = read_patch(image, label, PatchPose(centered(), turn), (17, 14, 12))
    # Patch voxel (a, b) shows volume voxel (-b, a) about the centre.
    assert torch.equal(label_patch, label.flip(0).transpose(0, 1))
    assert torch.equal(patch, image.flip(1).transpose(1, 2))


def test_zoom_above_one_enlarges_anatomy():
    label = torch.zeros((21, 21, 21), dtype=torch.uint8)
    label[8:13, 8:13, 8:13] = 1
    pose = PatchPose(np.array([10.0] * 3), np.eye(3) / 2)
    _, label_patch = read_patch(label[None].float(), label, pose, (21, 21, 21))
    assert int(label_patch.sum()) == pytest.approx(8 * 125, rel=0.3)


def test_a_batch_of_volumes_of_all_shapes_is_read_as_its_patches_one_by_one():
    config = AugmentationConfig(
        affine_probability=0.6, elastic_probability=0.5, right_angle_probability=0.5
    )
    rng = np.random.default_rng(7)
    size = (16, 16, 12)
    frame = PatchFrame(size, (1.0, 1.0, 2.0), (0, 1))
    shapes = [(30, 25, 20), (14, 40, 9), (22, 22, 22), (33, 18, 27), (16, 16, 12), (50, 20, 31)]
    volumes = [smooth_volume(shape) for shape in shapes]
    volumes[2] = (volumes[2][0].half(), volumes[2][1])
    volumes = [(image.half(), label) for image, label in volumes]
    poses = [
        draw_pose(centered(shape) + rng.uniform(-6, 6, 3), frame, config, rng) for shape in shapes
    ]
    assert {pose.is_plain for pose in poses} == {True, False}
    patches, labels = read_patches(volumes, poses, size)
    for row, (volume, pose) in enumerate(zip(volumes, poses, strict=True)):
        patch, label = read_patch(*volume, pose, size)
        assert torch.allclose(patches[row], patch, atol=1e-5)
        # A voxel right between two may go either way with the rounding of its coordinate.
        assert (labels[row] != label).float().mean() < 1e-3


@pytest.mark.parametrize("affine", [0.0, 1.0])
def test_an_elastic_patch_shows_each_voxel_where_field_and_affine_say(affine):
    """The two are composed: a voxel is displaced within its patch, then the patch is turned."""
    config = AugmentationConfig(affine_probability=affine, elastic_probability=1)
    shape, size = (60, 56, 48), (20, 18, 16)
    ramps = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    label = (ramps[0] >= 30).to(torch.uint8)
    rng = np.random.default_rng(2)
    frame = PatchFrame(size, (1.0, 1.5, 2.0))
    pose = draw_pose(centered(shape), frame, config, rng)
    assert np.array_equal(pose.matrix, np.eye(3)) == (affine == 0)
    patch, label_patch = read_patch(ramps, label, pose, size)
    offsets = [torch.arange(float(n)) - (n - 1) / 2 for n in size]
    still = torch.stack(torch.meshgrid(*offsets, indexing="ij"), dim=-1)
    moved = still + displacements(pose.elastic, size, torch.device("cpu"))
    where = moved @ torch.tensor(pose.matrix.T, dtype=torch.float32)
    where += torch.tensor(centered(shape), dtype=torch.float32)
    assert torch.allclose(patch.movedim(0, -1), where, atol=1e-4)
    # Nearest neighbor: no value between the classes, and the border where the image has it.
    assert set(label_patch.unique().tolist()) == {0, 1}
    clear = (patch[0] - 29.5).abs() > 0.01
    assert torch.equal(label_patch[clear] == 1, patch[0][clear] > 29.5)
