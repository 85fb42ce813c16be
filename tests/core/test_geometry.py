"""Axes, affines and reorientation: identities that hold for every grid."""

import itertools

import numpy as np
import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from scipy.spatial.transform import Rotation

from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Geometry,
    affine_from_directions,
    check_affine,
    corner_displacement_voxels,
    corner_distance_mm,
    inverse_reorientation,
    lps_to_ras,
    oblique_degrees,
    orientation_of,
    reorient_array,
    reorient_geometry,
    reorientation_to_ras,
    resized_geometry,
    shear_degrees,
    spacing_of,
)

ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]

shapes = st.tuples(*[st.integers(1, 7)] * 3)
spacings = st.tuples(*[st.floats(0.05, 12.0)] * 3)
positions = st.tuples(*[st.floats(-500, 500)] * 3)
# Below 35 degrees about any axis no two voxel axes compete for the same world axis.
rotation_vectors = st.tuples(*[st.floats(-0.35, 0.35)] * 3)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    shape = draw(shapes)
    affine = phantoms.affine_of(shape, draw(spacings), draw(st.sampled_from(ORIENTATIONS)))
    affine[:3, :3] = Rotation.from_rotvec(draw(rotation_vectors)).as_matrix() @ affine[:3, :3]
    affine[:3, 3] = draw(positions)
    return Geometry(shape, affine)


def world_of(geometry: Geometry, voxels: np.ndarray) -> np.ndarray:
    """World positions of voxels of shape (3, n)."""
    return geometry.affine[:3, :3] @ voxels + geometry.affine[:3, 3:]


def all_voxels(geometry: Geometry) -> np.ndarray:
    return np.indices(geometry.shape, dtype=float)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@given(geometries())
def test_voxel_to_world_and_back_is_identity(geometry):
    voxels = all_voxels(geometry).reshape(3, -1)
    back = np.linalg.inv(geometry.affine)
    world = world_of(geometry, voxels)
    np.testing.assert_allclose(back[:3, :3] @ world + back[:3, 3:], voxels, atol=1e-7)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_reorienting_and_back_is_bit_exact(orientation):
    shape = (3, 4, 5)
    rng = np.random.default_rng(1)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    geometry = Geometry(shape, phantoms.affine_of(shape, (1.1, 2.3, 0.7), orientation))
    to_ras = reorientation_to_ras(geometry.affine)
    moved = reorient_array(image, to_ras)
    back = reorient_array(moved, inverse_reorientation(to_ras))
    assert back.tobytes() == image.tobytes()
    ras = reorient_geometry(geometry, to_ras)
    assert ras.orientation == "RAS"
    assert ras.shape == moved.shape[1:]
    again = reorient_geometry(ras, inverse_reorientation(to_ras))
    assert again.shape == shape
    np.testing.assert_allclose(again.affine, geometry.affine, atol=1e-12)


@given(geometries(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_reorienting_leaves_every_voxel_where_it_was(geometry, axes, flips):
    reorientation = type(reorientation_to_ras(np.eye(4)))((axes[0], axes[1], axes[2]), flips)
    world = world_of(geometry, all_voxels(geometry).reshape(3, -1)).reshape(3, *geometry.shape)
    moved = reorient_geometry(geometry, reorientation)
    expected = world_of(moved, all_voxels(moved).reshape(3, -1)).reshape(3, *moved.shape)
    np.testing.assert_allclose(reorient_array(world, reorientation), expected, atol=1e-8)


def test_reorienting_copies_no_voxel():
    image = np.zeros((4, 5, 6))
    to_ras = reorientation_to_ras(phantoms.affine_of((4, 5, 6), (1, 1, 1), "PIR"))
    assert np.shares_memory(reorient_array(image, to_ras), image)


@given(geometries())
def test_orientation_agrees_with_nibabel(geometry):
    assert tuple(geometry.orientation) == aff2axcodes(geometry.affine)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_survives_a_small_shear(orientation):
    affine = phantoms.affine_of((5, 5, 5), (1, 1, 3), orientation)
    affine[:3, 1] += 0.2 * affine[:3, 0]
    assert orientation_of(affine) == orientation == "".join(aff2axcodes(affine))


def test_two_axes_that_prefer_the_same_direction_get_different_ones():
    # 50 degrees of tilt: greedy choice per column could hand out a world axis twice.
    tilt = Rotation.from_euler("zx", (50, 50), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt
    assert sorted(reorientation_to_ras(affine).axes) == [0, 1, 2]


@given(geometries())
def test_spacing_does_not_depend_on_direction(geometry):
    to_ras = reorientation_to_ras(geometry.affine)
    moved = reorient_geometry(geometry, to_ras)
    assert sorted(moved.spacing_mm) == pytest.approx(sorted(geometry.spacing_mm))
    assert spacing_of(geometry.affine) == geometry.spacing_mm


@given(geometries(), shapes)
def test_resizing_keeps_the_outer_faces(geometry, shape):
    resized = resized_geometry(geometry, shape)
    assert resized.shape == shape
    for side in itertools.product((0, 1), repeat=3):
        before = np.array(side)[:, None] * np.array(geometry.shape)[:, None] - 0.5
        after = np.array(side)[:, None] * np.array(shape)[:, None] - 0.5
        np.testing.assert_allclose(world_of(geometry, before), world_of(resized, after), atol=1e-7)


@given(geometries(), positions)
def test_corner_displacement_of_a_shift_is_its_length(geometry, shift_mm):
    moved = geometry.affine.copy()
    moved[:3, 3] += shift_mm
    expected = np.linalg.norm(shift_mm) / min(geometry.spacing_mm)
    found = corner_displacement_voxels(geometry, Geometry(geometry.shape, moved))
    assert found == pytest.approx(expected, abs=1e-9)


def test_corner_displacement_of_a_wrong_spacing_is_at_the_far_corner():
    shape = (11, 21, 31)
    right = Geometry(shape, np.diag([1.0, 1.0, 2.0, 1.0]))
    wrong = Geometry(shape, np.diag([1.0, 1.0, 2.5, 1.0]))
    assert corner_displacement_voxels(right, wrong) == pytest.approx(30 * 0.5)
    assert corner_displacement_voxels(right, right) == 0.0


def test_corner_displacement_refuses_different_shapes():
    with pytest.raises(GeometryError, match="shapes differ"):
        corner_displacement_voxels(Geometry((2, 2, 2), np.eye(4)), Geometry((2, 2, 3), np.eye(4)))


@pytest.mark.parametrize(
    ("row", "column", "value"), [(0, 0, np.nan), (1, 3, np.inf), (2, 2, 0.0), (0, 3, -np.inf)]
)
def test_unusable_affines_are_refused(row, column, value):
    affine = np.eye(4)
    affine[row, column] = value
    with pytest.raises(GeometryError) as caught:
        check_affine(affine)
    assert caught.value.fix
    with pytest.raises(GeometryError):
        orientation_of(affine)


def test_parallel_columns_are_singular_however_small_the_voxels():
    affine = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    check_affine(affine)  # microscopy: a tiny determinant is no fault
    affine[:3, 1] = affine[:3, 0]
    with pytest.raises(GeometryError, match="singular"):
        check_affine(affine)


@given(geometries())
def test_lps_and_ras_are_one_another_and_keep_left_and_right(geometry):
    lps = lps_to_ras(geometry.affine)
    np.testing.assert_array_equal(lps_to_ras(lps), geometry.affine)
    np.testing.assert_array_equal(lps[:2], -geometry.affine[:2])
    spacing_mm = spacing_of(lps)
    x, y, z = (float(value) for value in lps[:3, 3])
    again = affine_from_directions(spacing_mm, (x, y, z), lps[:3, :3] / np.array(spacing_mm))
    np.testing.assert_allclose(again, geometry.affine, atol=1e-12)


def test_identity_directions_run_to_left_and_posterior():
    affine = affine_from_directions((1.0, 2.0, 3.0), (10.0, 20.0, 30.0), np.eye(3))
    assert orientation_of(affine) == "LPS"
    np.testing.assert_array_equal(affine @ (1, 1, 1, 1), (-11, -22, 33, 1))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@given(st.floats(-1e-6, 1e-6), st.sampled_from(ORIENTATIONS))
def test_rounding_does_not_decide_how_a_grid_at_45_degrees_is_turned(axis, error, orientation):
    affine = np.eye(4)
    stored = phantoms.affine_of((1, 1, 1), (1, 2, 3), orientation)
    found = []
    for angle in (np.pi / 4, np.pi / 4 + error):
        affine[:3, :3] = Rotation.from_euler(axis, angle).as_matrix()
        found.append(reorientation_to_ras(affine @ stored))
    assert found[0] == found[1]


@given(st.sampled_from(ORIENTATIONS), st.floats(0, 44), spacings)
def test_obliqueness_is_the_angle_turned_whatever_the_spacing(orientation, angle, spacing_mm):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", angle, degrees=True).as_matrix()
    turned = affine @ phantoms.affine_of((1, 1, 1), spacing_mm, orientation)
    assert oblique_degrees(turned) == pytest.approx(angle, abs=1e-6)
    assert shear_degrees(turned) == pytest.approx(0, abs=1e-5)


@given(st.floats(0, 60), spacings)
def test_shear_is_the_angle_off_the_right_angle(angle, spacing_mm):
    tilt = np.radians(angle)
    affine = np.eye(4)
    affine[:3, 2] = 0, np.sin(tilt), np.cos(tilt)  # slices shifted along y: a tilted gantry
    affine[:3, :3] *= spacing_mm
    assert shear_degrees(affine) == pytest.approx(angle, abs=1e-5)


def test_corner_distance_in_mm_does_not_depend_on_the_spacing():
    grid = Geometry((3, 4, 5), np.diag([0.5, 1.0, 2.0, 1.0]))
    moved = grid.affine.copy()
    moved[0, 3] = 3.0
    assert corner_distance_mm(grid, Geometry(grid.shape, moved)) == 3.0
    assert corner_displacement_voxels(grid, Geometry(grid.shape, moved)) == 6.0
