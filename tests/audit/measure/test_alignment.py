import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import ball, case

from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measure.alignment import (
    border_mask,
    border_points,
    edge_strength,
    mean_strength,
    measure_alignment,
)

LIMITS = GridLimits()
SHAPE = (44, 40, 36)
maps = hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))


def phantom(seed=0, shape=SHAPE):
    image, label, _ = case(seed, shape, (1.0, 1.0, 1.0), n_classes=3)
    return image, label.astype(np.int32)


def best_shift(profile, axis):
    return profile.shifts[int(np.argmax(profile.shift_ratios[axis]))]


@given(maps)
def test_border_is_where_a_neighbor_differs(label):
    border = border_mask(label)
    for place in np.ndindex(label.shape):
        neighbors = [
            tuple(place[a] + (step if a == axis else 0) for a in range(3))
            for axis in range(3)
            for step in (-1, 1)
        ]
        inside = [n for n in neighbors if min(n) >= 0 and not np.any(n >= np.array(label.shape))]
        assert border[place] == any(label[n] != label[place] for n in inside)


@given(st.integers(1, 40))
def test_border_points_are_thinned_evenly_and_lie_on_the_border(n_most):
    label = ball((12, 10, 9), (5, 5, 4), 3).astype(np.int32)
    points, n_border = border_points(label, n_most)
    assert n_border == border_mask(label).sum()
    assert 1 <= len(points) <= n_most
    assert border_mask(label)[tuple(points.T)].all()


@given(st.floats(0.5, 1e6), st.floats(-1e6, 1e6))
def test_edge_strength_does_not_depend_on_scale_and_offset(scale, offset):
    image, _ = phantom(shape=(16, 18, 20))
    strength, steps = edge_strength(image.astype(np.float64))
    assert steps == (1, 1, 1)
    assert 0 <= strength.min() <= strength.max() < 1
    other, _ = edge_strength(image * scale + offset)
    # float32 keeps 24 bits of the largest value.
    tolerance = 1e-5 + 1e-6 * abs(offset) / scale
    assert np.abs(other - strength).max() < tolerance


def test_long_axes_are_read_at_every_second_voxel():
    image = np.zeros((170, 20, 12), np.int16)
    image[80:] = 100
    strength, steps = edge_strength(image)
    assert (steps, strength.shape) == ((2, 1, 1), (85, 20, 12))
    assert mean_strength(strength, np.array([[80, 3, 3]]), steps) > 0
    assert mean_strength(strength, np.array([[20, 3, 3]]), steps) == 0


def test_no_edges_at_voxels_that_are_not_finite():
    image, _ = phantom()
    image[10:14, 5, 6] = np.nan
    image[3, 3, 3] = np.inf
    strength, _ = edge_strength(image)
    assert np.isfinite(strength).all()
    assert strength[12, 5, 6] == strength[3, 3, 4] == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [-5, 0, 3])
def test_profile_peaks_where_the_label_belongs(axis, shift):
    image, label = phantom()
    profile = measure_alignment(image, np.roll(label, shift, axis), LIMITS)
    assert profile.is_assessable
    assert best_shift(profile, axis) == -shift
    assert profile.shift_ratios[axis][profile.shifts.index(0)] == profile.ratio


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_profile_tells_the_flip_that_undoes_a_flip(axes):
    image, label = phantom()
    profile = measure_alignment(image, np.ascontiguousarray(np.flip(label, axes)), LIMITS)
    assert profile.flips[int(np.argmax(profile.flip_ratios))] == axes
    assert max(profile.flip_ratios) > profile.ratio


def test_moves_that_cannot_be_compared_are_zero():
    image, label = phantom(shape=(16, 40, 36))
    label[:, 18:] = 0
    profile = measure_alignment(image, label, LIMITS)
    assert profile.shift_ratios[0][profile.shifts.index(5)] == 0  # more than a quarter of 16
    assert profile.shift_ratios[1][profile.shifts.index(5)] > 0
    assert profile.flip_ratios[profile.flips.index((1,))] == 0  # nothing of it is in that half


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image, label: (image, label * 0), "only 0 border voxels"),
        (lambda image, label: (image * 0 + 7, label), "constant around"),
        (lambda image, label: (image * np.nan, label), "constant around"),
        (lambda image, label: (np.random.default_rng(0).normal(0, 1, SHAPE), label), "no clear"),
    ],
    ids=["empty", "constant", "nan", "noise"],
)
def test_says_why_it_cannot_be_assessed(change, reason):
    image, label = change(*phantom())
    profile = measure_alignment(image, label, LIMITS)
    assert not profile.is_assessable
    assert reason in profile.reason


@pytest.mark.parametrize("shape", [(1, 1, 1), (30, 30, 1), (2, 200, 3)])
def test_flat_and_tiny_volumes_pass(shape):
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, shape).astype(np.int32)
    profile = measure_alignment(rng.normal(0, 1, shape), label, LIMITS)
    assert profile.reason or profile.is_assessable


def test_where_drawing_stopped_there_is_no_border():
    label = np.zeros((8, 8, 8), dtype=np.int16)
    label[2:6, 2:6, 2:6] = 1
    label[4:] = -1
    every, drawn = border_mask(label), border_mask(label, is_drawn=label >= 0)
    assert every[3, 3, 3]
    assert every[4, 3, 3]
    assert not drawn[3, 3, 3]
    assert not drawn[4:].any()
    assert drawn[2, 3, 3]
    assert drawn[3, 2, 3]
