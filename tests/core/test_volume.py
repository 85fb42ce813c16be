"""Volumes: voxels move with their affine."""

import numpy as np
import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import GeometryError
from pipeline.core.geometry import reorientation_to_ras
from pipeline.core.volume import Volume, reorient, to_ras

codes = st.sampled_from(["RAS", "LPS", "LAS", "PIR", "SAL", "IPR", "ASL", "RSA"])


@given(codes, st.floats(-20, 20), st.integers(0, 99))
def test_a_ramp_over_the_world_survives_reorientation(orientation, oblique_degrees, seed):
    shape = tuple(np.random.default_rng(seed).integers(2, 8, 3).tolist())
    affine = phantoms.affine_of(
        shape, (1.0, 2.0, 3.0), orientation, oblique_degrees=oblique_degrees, center_mm=(5, -7, 9)
    )
    moved = to_ras(Volume(phantoms.ramp(shape, affine), affine))
    assert moved.geometry.orientation == "RAS"
    # Every voxel still shows the value of its place in the world.
    np.testing.assert_allclose(moved.array, phantoms.ramp(moved.shape, moved.affine), atol=1e-4)


@given(codes)
def test_channels_stay_in_front(orientation):
    affine = phantoms.affine_of((4, 5, 6), (1, 1, 1), orientation)
    image = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    moved = to_ras(Volume(image, affine))
    single = reorient(Volume(image[1], affine), reorientation_to_ras(affine))
    assert np.array_equal(moved.array[1], single.array)
    assert moved.shape == single.shape


@pytest.mark.parametrize("shape", [(4, 4), (1, 2, 3, 4, 5)])
def test_other_numbers_of_axes_are_refused(shape):
    with pytest.raises(GeometryError, match="3 or 4 axes"):
        Volume(np.zeros(shape), np.eye(4))


def test_a_phantom_case_shows_the_same_anatomy_in_every_orientation():
    _, reference, _ = phantoms.case(3, (20, 22, 18), (2, 2, 3), "RAS", 3)
    for orientation in ("LPS", "SAL", "PIR"):
        _, label, affine = phantoms.case(3, (20, 22, 18), (2, 2, 3), orientation, 3)
        assert np.array_equal(to_ras(Volume(label, affine)).array, reference)
