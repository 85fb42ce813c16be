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
from pipeline.transforms.preprocess import preprocess_image
from pipeline.transforms.restore import interpolate_planes, linear_taps, to_native

ORIENTATIONS = [
    "".join(code)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for code in itertools.product(*axes)
]

sizes = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))


def resized(values, shape):
    """Linear interpolation of (channel, i, j, k)."""
    taps = tuple(linear_taps(a, b) for a, b in zip(values.shape[1:], shape, strict=True))
    return interpolate_planes(values.permute(1, 2, 3, 0).contiguous(), taps).permute(3, 0, 1, 2)


@given(sizes, sizes, st.integers(1, 4))
def test_interpolation_agrees_with_torch(before, after, n_channels):
    values = torch.randn((n_channels, *before), generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(
        values[None], size=after, mode="trilinear", align_corners=False
    )[0]
    torch.testing.assert_close(resized(values, after), expected, atol=1e-5, rtol=1e-5)


def test_an_unchanged_grid_costs_nothing():
    values = torch.randn((3, 4, 5, 2))
    taps = tuple(linear_taps(n, n) for n in (3, 4, 5))
    assert interpolate_planes(values, taps) is values


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_the_new_voxels_between_two_old_ones_are_neighbours(n_in, n_out, data):
    taps = linear_taps(n_in, n_out)
    first = data.draw(st.integers(0, n_in - 1))
    stop = data.draw(st.integers(first, n_in))
    inside = [v for v in range(n_out) if taps.lower[v] >= first and taps.upper[v] < stop]
    found = taps.between(first, stop)
    assert list(range(n_out))[found] == inside
    part = taps.part(found, first)
    assert len(part.lower) == len(inside)
    assert not inside or (part.lower.min() >= 0 and part.upper.max() < stop - first)


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
    labels = (resized(image, ras.shape)[0] < 0).numpy().astype(np.uint8)
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
    labels = (resized(prepared, to_ras(source).shape)[0] > 0).numpy().astype(np.uint8)
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
