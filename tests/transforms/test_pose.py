"""Poses: rigid in mm, the symmetries of a cube where voxels allow them, plain where possible."""

import numpy as np
import pytest

from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.pose import (
    PatchFrame,
    PatchPose,
    draw_pose,
    right_angle_turns,
    slice_axis_of,
)

CENTER = np.array([6.5, 8.0, 5.5])
SIZE = (14, 17, 12)
CUBE, ISOTROPIC = (12, 12, 12), (1.0, 1.0, 1.0)


def test_rotations_are_rigid_in_mm_for_anisotropic_voxels():
    config = AugmentationConfig(affine_probability=1.0, scale=(1.0, 1.0), rotation_degrees=30)
    spacing_mm = np.array([0.5, 1.0, 4.0])
    pose = draw_pose(CENTER, PatchFrame(SIZE, (0.5, 1.0, 4.0)), config, np.random.default_rng(3))
    in_mm = np.diag(spacing_mm) @ pose.matrix @ np.diag(1 / spacing_mm)
    assert in_mm @ in_mm.T == pytest.approx(np.eye(3), abs=1e-12)


def test_right_angles_are_the_rotations_that_keep_shape_and_spacing():
    counts = {
        (CUBE, ISOTROPIC): 24,
        ((12, 12, 16), ISOTROPIC): 8,
        (CUBE, (1.0, 1.0, 3.0)): 8,
        ((12, 14, 16), ISOTROPIC): 4,
    }
    for (size, spacing_mm), count in counts.items():
        turns = right_angle_turns(size, spacing_mm)
        assert len({turn.tobytes() for turn in turns}) == count
        assert all(np.linalg.det(turn) == pytest.approx(1) for turn in turns)
        assert np.array_equal(turns[0], np.eye(3))
        assert all(PatchPose(CENTER, turn).is_plain for turn in turns)


def test_with_every_mirror_axis_all_48_symmetries_of_a_cube_come_up():
    config = AugmentationConfig(affine_probability=0, right_angle_probability=1)
    rng = np.random.default_rng(0)
    mirrored = PatchFrame(CUBE, ISOTROPIC, (0, 1, 2))
    poses = [draw_pose(CENTER, mirrored, config, rng) for _ in range(1500)]
    assert len({(pose.matrix + 0.0).tobytes() for pose in poses}) == 48
    frame = PatchFrame(CUBE, ISOTROPIC)
    without = [draw_pose(CENTER, frame, config, rng) for _ in range(300)]
    assert all(np.linalg.det(pose.matrix) > 0 for pose in without)


def test_what_needs_interpolation_is_not_plain():
    assert PatchPose(CENTER, np.eye(3)).is_plain
    for matrix in (np.eye(3) / 2, np.eye(3) + 1e-7, np.diag([1.0, 1.0, 0.0]), np.ones((3, 3))):
        assert not PatchPose(CENTER, matrix).is_plain
    config = AugmentationConfig(affine_probability=0, elastic_probability=1)
    pose = draw_pose(CENTER, PatchFrame(SIZE, ISOTROPIC), config, np.random.default_rng(0))
    assert not pose.is_plain
    assert (pose.reach(SIZE) > PatchPose(CENTER, np.eye(3)).reach(SIZE)).all()


def test_what_is_off_draws_nothing():
    """So trainings of before these knobs repeat bit by bit."""
    one, two = np.random.default_rng(4), np.random.default_rng(4)
    frame = PatchFrame(SIZE, ISOTROPIC, (0,))
    draw_pose(CENTER, frame, AugmentationConfig(affine_probability=0), one)
    two.random(size=2)
    assert one.random() == two.random()


@pytest.mark.parametrize(
    ("size", "within_slices", "axis"),
    [
        ((40, 56, 40), None, None),
        ((48, 48, 16), None, None),
        ((88, 88, 14), None, 2),
        ((12, 224, 224), None, 0),
        ((312, 312, 1), None, 2),
        ((88, 88, 14), False, None),
        ((40, 56, 32), True, 2),
    ],
)
def test_patches_of_few_slices_are_augmented_within_them(size, within_slices, axis):
    config = AugmentationConfig(within_slices=within_slices)
    assert slice_axis_of(size, config) == axis


def test_within_slices_nothing_leaves_its_slice():
    config = AugmentationConfig(affine_probability=1, elastic_probability=1)
    for axis in range(3):
        frame = PatchFrame((24, 24, 24), (0.7, 1.0, 5.0), slice_axis=axis)
        pose = draw_pose(CENTER, frame, config, np.random.default_rng(1))
        kept = np.eye(3)[axis]
        assert np.array_equal(pose.matrix[axis], kept)
        assert np.array_equal(pose.matrix[:, axis], kept)
        assert not np.allclose(pose.matrix, np.eye(3))
        assert pose.elastic is not None
        assert (np.array([abs(c).max() > 0 for c in pose.elastic.controls]) == (kept == 0)).all()


def test_turning_within_slices_draws_the_same_numbers_as_turning_at_large():
    """So what is drawn next for a patch does not depend on its shape."""
    one, two = np.random.default_rng(4), np.random.default_rng(4)
    config = AugmentationConfig(affine_probability=1)
    draw_pose(CENTER, PatchFrame(SIZE, ISOTROPIC), config, one)
    draw_pose(CENTER, PatchFrame(SIZE, ISOTROPIC, slice_axis=2), config, two)
    assert one.random() == two.random()
