"""From source volumes to network input."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import affine_of, case

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.core.errors import DataError
from pipeline.core.geometry import Geometry
from pipeline.core.volume import Volume, to_ras
from pipeline.transforms.preprocess import (
    interpolation_orders,
    prepared_shape,
    preprocess_image,
    preprocess_label,
)

ZSCORE = Normalization(kind="zscore")
NONZERO = Normalization(kind="zscore_nonzero")

spacings = st.floats(0.3, 6)


def preprocessing(*normalizations, spacing_mm=(1.0, 1.0, 1.0)):
    return Preprocessing(spacing_mm=spacing_mm, normalizations=normalizations)


def grid(shape, spacing_mm):
    return Geometry(shape, np.diag([*spacing_mm, 1.0]))


@given(
    st.tuples(*[st.integers(1, 600)] * 3), st.tuples(*[spacings] * 3), st.tuples(*[spacings] * 3)
)
def test_the_extent_is_kept_to_half_a_voxel(shape, source_mm, target_mm):
    prepared = prepared_shape(grid(shape, source_mm), target_mm)
    for n, source, n_prepared, target in zip(shape, source_mm, prepared, target_mm, strict=True):
        assert n_prepared >= 1
        if n_prepared != n and n_prepared > 1:
            assert abs(n * source - n_prepared * target) <= target * 0.5001


@pytest.mark.parametrize(
    ("spacing_mm", "n"), [(1.009, 500), (0.991, 500), (1.02, 510), (0.98, 490)]
)
def test_spacings_within_one_percent_are_the_same(spacing_mm, n):
    assert prepared_shape(grid((500, 4, 4), (spacing_mm, 1, 1)), (1.0, 1.0, 1.0)) == (n, 4, 4)


@pytest.mark.parametrize(
    ("source_mm", "target_mm", "orders"),
    [
        ((1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (3, 3, 3)),  # 3 times is not more than 3 times
        ((1.0, 1.0, 5.0), (1.0, 1.0, 1.0), (3, 3, 0)),
        ((5.0, 0.8, 0.8), (4.0, 1.0, 1.0), (0, 3, 3)),
        ((1.0, 1.0, 1.0), (1.0, 6.0, 1.0), (3, 0, 3)),
        ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0), (3, 3, 3)),  # two long axes: no slices
        ((0.24, 1.25, 1.25), (1.0, 1.0, 5.0), (3, 3, 3)),
        ((1.0, 1.0, 1.0), (1.0, 5.0, 5.001), (3, 3, 3)),
    ],
)
def test_slices_are_kept_apart_only_across_one_thick_axis(source_mm, target_mm, orders):
    assert interpolation_orders(source_mm, target_mm, 3) == orders


def test_zscore_gives_mean_0_and_deviation_1():
    array = np.random.default_rng(0).normal(900, 30, (2, 11, 12, 13)).astype(np.int16)
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE, ZSCORE))
    assert prepared.array.dtype == np.float32
    np.testing.assert_allclose(prepared.array.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.array.std(axis=(1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_array_equal(prepared.affine, np.eye(4))


@given(st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_zscore_ignores_scanner_gain_and_offset(gain, offset):
    array = np.random.default_rng(0).normal(0, 1, (1, 6, 6, 6))
    plain = preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE))
    scaled = preprocess_image(Volume(array * gain + offset, np.eye(4)), preprocessing(ZSCORE))
    # float32 keeps 7 digits of the larger of gain and offset.
    tolerance = 1e-5 * (1 + abs(offset) / gain)
    np.testing.assert_allclose(scaled.array, plain.array, atol=tolerance)


def test_zscore_is_exact_far_from_zero():
    array = np.random.default_rng(0).normal(1e6, 10, (1, 40, 40, 40)).astype(np.float32)
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE)).array
    assert prepared.std() == pytest.approx(1, abs=1e-4)


def test_nonzero_statistics_come_from_the_body_only():
    array = np.zeros((1, 10, 10, 10), dtype=np.float32)
    array[0, 2:8, 2:8, 2:8] = np.random.default_rng(0).normal(500, 20, (6, 6, 6))
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(NONZERO)).array
    body = prepared[0, 2:8, 2:8, 2:8]
    assert body.mean() == pytest.approx(0, abs=1e-4)
    assert body.std() == pytest.approx(1, abs=1e-4)
    assert not prepared[array == 0].any()


def test_a_zero_inside_the_body_counts_when_another_channel_sees_it():
    array = np.zeros((2, 4, 4, 4), dtype=np.float32)
    array[0, :2] = 10
    array[1, :2] = 20
    array[1, 0] = 0
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(NONZERO, NONZERO)).array
    np.testing.assert_allclose(prepared[1, 0], -1, atol=1e-6)
    np.testing.assert_allclose(prepared[1, 1], 1, atol=1e-6)
    assert not prepared[:, 2:].any()


@pytest.mark.parametrize("kind", ["zscore", "zscore_nonzero"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1000.7])
def test_a_constant_image_becomes_zeros(kind, value):
    volume = Volume(np.full((1, 5, 5, 5), value, dtype=np.float32), np.eye(4))
    prepared = preprocess_image(volume, preprocessing(Normalization(kind=kind)))
    np.testing.assert_array_equal(prepared.array, 0)


def test_ct_is_clipped_then_scaled_by_fixed_numbers():
    array = np.array([-3000, -100, 50, 300, 32743], dtype=np.int16).reshape(1, 5, 1, 1)
    ct = Normalization(kind="ct", lower=-100, upper=300, mean=50, std=100)
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(ct))
    np.testing.assert_allclose(prepared.array.ravel(), [-1.5, -1.5, 0, 2.5, 2.5])


def test_intensities_are_normalized_before_the_grid_changes():
    array = np.random.default_rng(0).normal(100, 10, (1, 12, 12, 12)).astype(np.float32)
    to_half = preprocessing(ZSCORE, spacing_mm=(2.0, 2.0, 2.0))
    prepared = preprocess_image(Volume(array, np.eye(4)), to_half).array
    # Resampling noise lowers its deviation; normalizing afterwards would hide that.
    assert prepared.std() < 0.9


def test_the_source_is_not_changed():
    array = np.random.default_rng(0).normal(100, 10, (1, 6, 6, 6)).astype(np.float32)
    before = array.copy()
    preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE))
    np.testing.assert_array_equal(array, before)


def test_infinities_of_both_signs_are_refused_without_a_warning():
    array = np.ones((1, 4, 5, 6))
    array[0, 1, 2, 3:5] = np.inf, -np.inf
    with pytest.raises(DataError, match="NaN"):
        preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_voxels_that_are_no_number_are_named(value):
    array = np.zeros((2, 4, 4, 4))
    array[1, 1, 2, 3] = value
    with pytest.raises(DataError, match="NaN, infinite") as caught:
        preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE, ZSCORE))
    assert "channel 1, first at voxel (1, 2, 3)" in caught.value.where


def test_the_largest_float32_is_a_number():
    array = np.zeros((1, 4, 4, 4))
    array[0, 1, 2, 3] = 3e38
    prepared = preprocess_image(Volume(array, np.eye(4)), preprocessing(ZSCORE))
    assert np.isfinite(prepared.array).all()


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 4, 4, 4), (3, 4, 4, 4)])
def test_another_number_of_channels_is_refused(shape):
    with pytest.raises(DataError, match="the model expects 2"):
        preprocess_image(Volume(np.zeros(shape), np.eye(4)), preprocessing(ZSCORE, ZSCORE))


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3, 3), dtype=np.float32), np.zeros((1, 3, 3, 3), dtype=np.uint8)]
)
def test_what_is_no_label_map_is_refused(array):
    with pytest.raises(DataError, match="a label map holds integers"):
        preprocess_label(Volume(array, np.eye(4)), preprocessing(ZSCORE))


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 1.2, 4.0), (0.9, 0.8, 1.1)])
def test_image_and_label_end_on_the_same_grid(spacing_mm):
    image, label, affine = case(5, (24, 28, 20), spacing_mm)
    to_isotropic = preprocessing(ZSCORE)
    prepared = preprocess_image(Volume(image[np.newaxis], affine), to_isotropic)
    prepared_label = preprocess_label(Volume(label, affine), to_isotropic)
    assert prepared.shape == prepared_label.shape
    np.testing.assert_array_equal(prepared.affine, prepared_label.affine)
    assert set(np.unique(prepared_label.array)) <= set(np.unique(label))
    # Content stays in place: the brightest structures still lie under their labels.
    inside = prepared_label.array > 0
    outside_before = image[label == 0].mean() < image[label > 0].mean()
    assert (prepared.array[0][~inside].mean() < prepared.array[0][inside].mean()) == outside_before


def test_centers_of_structures_stay_in_place_in_mm():
    shape = (30, 24, 10)
    affine = affine_of(shape, (0.8, 1.1, 4.5), oblique_degrees=25)
    label = np.zeros(shape, dtype=np.uint8)
    label[10:20, 8:16, 3:7] = 1
    prepared = preprocess_label(Volume(label, affine), preprocessing(ZSCORE))
    # A prepared voxel half way between two slices belongs to one of them: half a voxel of 1 mm.
    np.testing.assert_allclose(_center_mm(prepared), _center_mm(Volume(label, affine)), atol=0.51)


def _center_mm(volume):
    return nib.affines.apply_affine(volume.affine, np.argwhere(volume.array > 0).mean(axis=0))


def test_real_volumes_keep_their_labels(shared_data):
    folder = shared_data / "Task04_Hippocampus"
    file = sorted((folder / "labelsTr").glob("hippocampus_*.nii.gz"))[0]
    label = nib.load(file)
    image = nib.load(folder / "imagesTr" / file.name)
    volume = to_ras(Volume(np.asarray(label.dataobj), label.affine))
    there = preprocess_label(volume, preprocessing(ZSCORE, spacing_mm=(0.7, 0.9, 0.8)))
    back = preprocess_label(there, preprocessing(ZSCORE, spacing_mm=volume.geometry.spacing_mm))
    assert back.shape == volume.shape
    for value in (1, 2):
        overlap = np.sum((back.array == value) & (volume.array == value))
        total = np.sum(back.array == value) + np.sum(volume.array == value)
        assert 2 * overlap / total > 0.97
    source = to_ras(Volume(np.asarray(image.dataobj)[np.newaxis], image.affine))
    prepared = preprocess_image(source, preprocessing(ZSCORE, spacing_mm=(0.7, 0.9, 0.8)))
    assert prepared.shape == there.shape
    assert np.abs(prepared.array.mean()) < 0.05
