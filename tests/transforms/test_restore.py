"""From network logits back to the voxels of the source."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms import affine_of
from torch.nn import functional

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.core.errors import GeometryError
from pipeline.core.geometry import Geometry
from pipeline.core.volume import Volume, to_ras
from pipeline.transforms import restore
from pipeline.transforms.preprocess import preprocess_image
from pipeline.transforms.restore import restore_labels, to_native

ORIENTATIONS = [
    "".join(code)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for code in itertools.product(*axes)
]

sizes = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))


def random_logits(shape, n_classes, seed=0):
    return torch.randn((n_classes, *shape), generator=torch.Generator().manual_seed(seed))


def interpolated(logits, shape):
    return functional.interpolate(
        logits[None].float(), size=shape, mode="trilinear", align_corners=False
    )[0]


@pytest.mark.parametrize("after", [(45, 41, 33), (20, 22, 18), (30, 60, 10), (29, 31, 27)])
def test_labels_agree_with_interpolating_everything(after):
    logits = random_logits((29, 31, 27), 7)
    expected = interpolated(logits, after).argmax(dim=0).numpy()
    assert (restore_labels(logits, after) == expected).mean() >= 0.99999


@given(sizes, sizes, st.integers(1, 5))
def test_labels_agree_at_any_size(before, after, n_classes):
    logits = random_logits(before, n_classes)
    values = interpolated(logits, after)
    ranked = values.sort(dim=0).values
    is_clear = np.ones(after, bool) if n_classes == 1 else (ranked[-1] - ranked[-2] > 1e-4).numpy()
    labels = restore_labels(logits, after)
    assert labels.shape == after
    np.testing.assert_array_equal(labels[is_clear], values.argmax(dim=0).numpy()[is_clear])


@pytest.mark.parametrize("max_values", [1, 300, 5_000, 10**9])
@pytest.mark.parametrize("after", [(20, 15, 13), (9, 10, 11), (5, 20, 4)])
def test_the_size_of_a_slab_does_not_matter(monkeypatch, max_values, after):
    logits = random_logits((9, 10, 11), 6)
    expected = restore_labels(logits, after)
    monkeypatch.setattr(restore, "_MAX_SLAB_VALUES", max_values)
    np.testing.assert_array_equal(restore_labels(logits, after), expected)


def test_on_a_tie_the_lower_class_wins():
    assert not restore_labels(torch.zeros((4, 3, 3, 3)), (5, 5, 5)).any()


@pytest.mark.parametrize("n_classes", [256, 257])
def test_the_dtype_fits_the_highest_class(n_classes):
    logits = torch.zeros((n_classes, 2, 2, 2))
    logits[-1] = 1
    for shape in ((2, 2, 2), (3, 2, 2)):
        labels = restore_labels(logits, shape)
        assert labels.dtype == (np.uint8 if n_classes == 256 else np.uint16)
        assert (labels == n_classes - 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_precision_are_accepted(dtype):
    logits = random_logits((8, 8, 8), 3).to(dtype)
    expected = interpolated(logits, (11, 9, 8)).argmax(dim=0).numpy()
    assert (restore_labels(logits, (11, 9, 8)) == expected).mean() > 0.999


def test_logits_of_a_network_in_training_are_accepted():
    logits = random_logits((6, 6, 6), 2).requires_grad_()
    assert restore_labels(logits, (7, 7, 7)).shape == (7, 7, 7)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("oblique_degrees", [0.0, 30.0])
def test_every_orientation_comes_back_exactly(orientation, oblique_degrees):
    shape = (4, 5, 6)
    affine = affine_of(shape, (0.7, 1.2, 3.1), orientation, oblique_degrees=oblique_degrees)
    label = np.arange(120, dtype=np.uint8).reshape(shape)
    ras = to_ras(Volume(label, affine))
    native = to_native(ras, Geometry(shape, affine))
    np.testing.assert_array_equal(native.array, label)
    np.testing.assert_array_equal(native.affine, affine)
    assert native.array.flags.c_contiguous


@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.floats(0.4, 4)] * 3),
    st.floats(-40, 40),
)
def test_preprocessing_and_restoring_end_on_the_source_grid(
    orientation, shape, spacing_mm, oblique_degrees
):
    affine = affine_of(shape, spacing_mm, orientation, oblique_degrees=oblique_degrees)
    source = Volume(np.random.default_rng(0).random((1, *shape), dtype=np.float32), affine)
    ras = to_ras(source)
    recipe = Preprocessing(
        spacing_mm=(1.0, 1.0, 1.0), normalizations=(Normalization(kind="zscore"),)
    )
    prepared = preprocess_image(ras, recipe)
    image = torch.from_numpy(prepared.array)
    labels = restore_labels(torch.cat([image, -image]), ras.shape)
    native = to_native(Volume(labels, ras.affine), source.geometry)
    assert native.shape == shape
    np.testing.assert_array_equal(native.affine, affine)


def test_a_structure_is_found_again_where_it_was():
    shape = (30, 26, 9)
    affine = affine_of(shape, (0.9, 1.2, 4.0), "PIL", oblique_degrees=15)
    image = np.zeros((1, *shape), dtype=np.float32)
    image[0, 3:12, 5:16, 2:5] = 1
    source = Volume(image, affine)
    recipe = Preprocessing(
        spacing_mm=(1.0, 1.0, 1.0),
        normalizations=(Normalization(kind="ct", lower=0, upper=1, mean=0.5, std=1),),
    )
    prepared = torch.from_numpy(preprocess_image(to_ras(source), recipe).array)
    labels = restore_labels(torch.cat([-prepared, prepared]), to_ras(source).shape)
    native = to_native(Volume(labels, to_ras(source).affine), source.geometry).array
    overlap = 2 * np.sum(native * image[0]) / (native.sum() + image.sum())
    assert overlap > 0.9
    # Mirroring any axis would be noticed.
    for axis in range(3):
        assert 2 * np.sum(np.flip(native, axis) * image[0]) / (2 * image.sum()) < 0.8


def test_a_label_of_another_grid_is_refused():
    affine = affine_of((4, 5, 6), (1.0, 1.0, 2.0), "LPS")
    native = Geometry((4, 5, 6), affine)
    ras = to_ras(Volume(np.zeros((4, 5, 6), dtype=np.uint8), affine))
    with pytest.raises(GeometryError, match="not on the grid"):
        to_native(Volume(ras.array[1:], ras.affine), native)
    shifted = ras.affine.copy()
    shifted[0, 3] += 0.1
    with pytest.raises(GeometryError, match="not on the grid"):
        to_native(Volume(ras.array, shifted), native)
    shifted[0, 3] -= 0.1 - 1e-4
    np.testing.assert_array_equal(to_native(Volume(ras.array, shifted), native).affine, affine)
