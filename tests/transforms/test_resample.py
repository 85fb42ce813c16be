"""Resizing images and label maps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from phantoms import affine_of, ball, ramp

from pipeline.core.errors import DataError
from pipeline.core.geometry import Geometry, resized_geometry
from pipeline.transforms.resample import axis_operator, resample_image, resample_label

sizes = st.integers(1, 40)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


@given(sizes, sizes, st.sampled_from([0, 1, 3]))
def test_every_output_voxel_is_a_weighted_mean(n_in, n_out, order):
    operator = axis_operator(n_in, n_out, order)
    assert operator.shape == (n_out, n_in)
    np.testing.assert_allclose(operator.sum(axis=1), 1, atol=1e-5)
    if order < 3:
        assert operator.min() >= 0


@given(sizes, sizes, st.sampled_from([1, 3]))
def test_operators_treat_both_ends_alike(n_in, n_out, order):
    operator = axis_operator(n_in, n_out, order)
    np.testing.assert_allclose(operator, operator[::-1, ::-1], atol=1e-5)


def test_a_cached_operator_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        axis_operator(5, 7, 1)[0, 0] = 1


@given(shapes, st.integers(1, 3), st.sampled_from([0, 1, 3]))
def test_resampling_to_the_own_grid_is_the_identity(shape, n_channels, order):
    image = np.random.default_rng(0).standard_normal((n_channels, *shape)).astype(np.float32)
    np.testing.assert_array_equal(resample_image(image, shape, (order,) * 3), image)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("shape", [(40, 30, 36), (15, 44, 22)])
def test_a_ramp_in_mm_stays_the_same_ramp(order, shape):
    before = Geometry((30, 33, 28), affine_of((30, 33, 28), (1.0, 1.3, 2.1), oblique_degrees=20))
    after = resized_geometry(before, shape)
    image = resample_image(ramp(before.shape, before.affine)[np.newaxis], shape, (order,) * 3)
    # Beyond the outermost voxel centres there is nothing to interpolate to; cubic rings inwards.
    inner = (0, *(slice(n // 4, -(n // 4)) for n in shape))
    expected = ramp(after.shape, after.affine)[inner[1:]]
    np.testing.assert_allclose(image[inner], expected, atol=2e-2 if order == 3 else 1e-3)


def test_nearest_neighbour_across_slices_invents_no_values():
    image = np.zeros((1, 8, 8, 3), dtype=np.float32)
    image[..., 1] = 100
    resized = resample_image(image, (12, 12, 9), (3, 3, 0))
    np.testing.assert_allclose(resized[0, 5, 5], [0] * 3 + [100] * 3 + [0] * 3, atol=1e-3)


def test_views_in_any_memory_order_are_accepted():
    image = np.random.default_rng(0).standard_normal((2, 9, 8, 7)).astype(np.float32)
    view = np.asfortranarray(image)[:, ::-1]
    np.testing.assert_array_equal(
        resample_image(view, (5, 9, 11), (3, 3, 3)),
        resample_image(np.ascontiguousarray(view), (5, 9, 11), (3, 3, 3)),
    )


label_maps = st.tuples(shapes, st.sampled_from([np.uint8, np.uint16, np.int16, np.int64])).flatmap(
    lambda pair: arrays(pair[1], pair[0], elements=st.sampled_from([0, 1, 2, 7, 100]))
)


@given(label_maps, shapes)
def test_no_class_appears_that_was_not_there(label, shape):
    resized = resample_label(label, shape)
    assert resized.shape == shape
    assert resized.dtype == label.dtype
    assert set(np.unique(resized)) <= set(np.unique(label))


@given(label_maps)
def test_a_label_map_on_its_own_grid_is_unchanged(label):
    np.testing.assert_array_equal(resample_label(label, label.shape), label)


@given(label_maps)
def test_doubling_and_halving_gives_the_label_map_back(label):
    doubled = resample_label(label, tuple(2 * n for n in label.shape), (0, 0, 0))
    np.testing.assert_array_equal(doubled[::2, ::2, ::2], label)


@given(label_maps, shapes)
def test_the_winner_does_not_depend_on_boxes(label, shape):
    # The plain way: every class over the whole grid.
    weights = [
        resample_image((label == value).astype(np.float32)[np.newaxis], shape, (1, 1, 1))[0]
        for value in range(101)
        if value in label
    ]
    values = np.array([value for value in range(101) if value in label])
    stacked = np.sort(np.stack(weights), axis=0)
    is_clear = np.ones(shape, dtype=bool) if len(values) == 1 else stacked[-1] - stacked[-2] > 1e-5
    expected = values[np.argmax(np.stack(weights), axis=0)]
    np.testing.assert_array_equal(resample_label(label, shape)[is_clear], expected[is_clear])


def test_a_label_without_background_keeps_every_voxel_labelled():
    label = np.full((6, 6, 6), 3, dtype=np.uint8)
    label[:3] = 5
    assert set(np.unique(resample_label(label, (9, 4, 6)))) == {3, 5}


def test_a_ball_keeps_its_volume():
    label = ball((40, 40, 40), (19.5, 19.5, 19.5), 12).astype(np.uint8)
    resized = resample_label(label, (60, 50, 30))
    scale = (60 * 50 * 30) / 40**3
    assert resized.sum() == pytest.approx(label.sum() * scale, rel=0.02)


@pytest.mark.parametrize("value", [-1, 70_000])
def test_values_that_are_no_class_index_are_refused(value):
    label = np.zeros((4, 4, 4), dtype=np.int32)
    label[1, 1, 1] = value
    with pytest.raises(DataError, match="label values range"):
        resample_label(label, (5, 5, 5))


def test_the_largest_class_index_is_accepted():
    label = np.full((4, 4, 4), 65_535, dtype=np.uint16)
    assert resample_label(label, (5, 5, 5)).min() == 65_535
