from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import affine_of

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.geometry import stack_planes
from pipeline.io.dicom.planes import Plane

HERE = Path("series")


def planes_on(affine, n=8, size=(6, 5)):
    """Slices of a grid, as DICOM would describe them."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    lengths = np.linalg.norm(lps[:3, :2], axis=0)
    along_columns, along_rows = (lps[:3, :2] / lengths).T
    return [
        Plane(
            position_mm=tuple(float(x) for x in lps[:3, 3] + k * lps[:3, 2]),
            along_columns=tuple(float(x) for x in along_columns),
            along_rows=tuple(float(x) for x in along_rows),
            column_spacing_mm=float(lengths[0]),
            row_spacing_mm=float(lengths[1]),
            n_columns=size[0],
            n_rows=size[1],
        )
        for k in range(n)
    ]


AXIAL = affine_of((6, 5, 8), (1, 1, 2), "LPS")


def moved(plane, x=0.0, y=0.0, z=0.0):
    px, py, pz = plane.position_mm
    return replace(plane, position_mm=(px + x, py + y, pz + z))


@given(
    degrees=st.floats(-85, 85),
    spacing=st.tuples(*[st.floats(0.1, 20)] * 3),
    orientation=st.sampled_from(["LPS", "RAS", "AIR", "PSL"]),
    seed=st.integers(0, 1000),
)
def test_the_grid_comes_back_from_shuffled_slices(degrees, spacing, orientation, seed):
    affine = affine_of((6, 5, 8), spacing, orientation, oblique_degrees=degrees)
    if np.linalg.det(affine[:3, :3]) < 0:
        affine[:3, 2] *= -1  # the k axis always runs along rows cross columns
    planes = planes_on(affine)
    shuffle = np.random.default_rng(seed).permutation(8)
    stack = stack_planes([planes[n] for n in shuffle], HERE)
    np.testing.assert_allclose(stack.affine, affine, atol=1e-9 * 1000)
    assert [int(shuffle[n]) for n in stack.order] == list(range(8))
    assert stack.notes == ()


@given(degrees=st.floats(1, 35), spacing=st.floats(0.3, 6))
def test_a_tilted_gantry_is_a_shear_of_so_many_degrees(degrees, spacing):
    affine = affine_of((6, 5, 8), (1, 1, spacing), "LPS")
    affine[1, 2] = spacing * np.tan(np.radians(degrees))
    stack = stack_planes(planes_on(affine), HERE)
    np.testing.assert_allclose(stack.affine, affine, atol=1e-9)
    assert stack.tilt_degrees == pytest.approx(degrees)
    assert f"{stack.tilt_degrees:.1f} degrees" in stack.notes[0]


def refused(planes, match=None):
    with pytest.raises(FileFormatError, match=match) as info:
        stack_planes(planes, HERE)
    return info.value.check_id


def test_missing_slices_are_counted_and_placed():
    planes = planes_on(AXIAL, 12)
    del planes[7:9], planes[3]
    match = "3 slices are missing: 1 between slices 3 and 4, 2 between slices 6 and 7"
    assert refused(planes, match) == "G07"


def test_a_missing_slice_is_found_at_either_end_of_a_long_stack():
    for hole in (1, 298):
        planes = planes_on(AXIAL, 300)
        del planes[hole]
        assert refused(planes, f"1 between slices {hole} and {hole + 1}") == "G07"


def test_uneven_gaps_are_named_with_their_slices():
    planes = planes_on(AXIAL)
    planes[5:] = [moved(plane, z=0.7) for plane in planes[5:]]
    assert refused(planes, r"not evenly spaced: 2\.70 mm between slices 5 and 6") == "G07"


def test_positions_rounded_to_a_tenth_of_a_millimeter_are_accepted_and_noted():
    affine = affine_of((6, 5, 8), (1, 1, 0.625), "LPS")
    planes = [
        replace(plane, position_mm=tuple(round(x, 1) for x in plane.position_mm))
        for plane in planes_on(affine, 33)
    ]
    stack = stack_planes(planes, HERE)
    np.testing.assert_allclose(stack.affine[2, 2], 0.625, rtol=0.01)
    assert "off an even grid" in stack.notes[0]


def test_two_images_at_one_position_are_named():
    planes = planes_on(AXIAL)
    assert refused([*planes, planes[3]], "one position: 4 and 5") == "F06"


def test_several_volumes_in_one_series_are_recognized():
    planes = planes_on(AXIAL)
    assert refused([*planes, *planes, *planes], "24 images share 8 positions") == "F06"
    assert refused([planes[0]] * 5, "5 images share 1 positions") == "F06"


def test_a_single_slice_is_no_volume():
    assert refused(planes_on(AXIAL, 1), "single slice") == "F06"


def test_a_slice_beside_the_others_is_named():
    planes = planes_on(AXIAL)
    planes[4] = moved(planes[4], x=0.6)
    assert refused(planes, r"slice 5 lies 0\.60 mm beside") == "G07"


@pytest.mark.parametrize(
    ("change", "check_id"),
    [
        ({"n_columns": 7}, "F06"),
        ({"column_spacing_mm": 1.01}, "G03"),
        ({"row_spacing_mm": -1.0}, "G07"),
        ({"along_columns": (0.9998, 0.02, 0.0)}, "G08"),
    ],
)
def test_one_slice_unlike_the_others_is_refused(change, check_id):
    planes = planes_on(AXIAL)
    planes[2] = replace(planes[2], **change)
    assert refused(planes) == check_id


@pytest.mark.parametrize(
    "change",
    [
        {"along_columns": (2.0, 0.0, 0.0)},
        {"along_columns": (0.0, 0.0, 0.0)},
        {"along_columns": (0.0, 1.0, 0.0)},
        {"column_spacing_mm": 0.0},
        {"column_spacing_mm": 1e12},
    ],
)
def test_directions_and_spacings_that_cannot_be_are_refused(change):
    assert refused([replace(plane, **change) for plane in planes_on(AXIAL)]) == "G07"


def test_no_voxels_are_refused():
    assert refused(planes_on(AXIAL, size=(0, 5))) == "F06"
