from pathlib import Path

import numpy as np
import pytest
from dicom_phantoms import rtstruct, series_slices
from phantoms import affine_of
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry
from pipeline.io.dicom.grid import Grid
from pipeline.io.dicom.rtstruct import referenced_series_uid, region_table, rtstruct_structures

SHAPE = (24, 20, 8)
AFFINE = affine_of(SHAPE, (0.8, 1.1, 3.0), "LPS", oblique_degrees=25, center_mm=(5, -80, 400))
HERE = Path("rs.dcm")
SLICES = series_slices(np.zeros(SHAPE, np.int16), AFFINE)
GRID = Grid(Geometry(SHAPE, AFFINE), SLICES[0].SeriesInstanceUID, SLICES[0].FrameOfReferenceUID)


def in_world(voxels, affine=AFFINE):
    return np.asarray(voxels, float) @ affine[:3, :3].T + affine[:3, 3]


def square(k, low=(3.5, 2.5), high=(9.5, 12.5), affine=AFFINE):
    (a, b), (c, d) = low, high
    return in_world([(a, b, k), (c, b, k), (c, d, k), (a, d, k)], affine)


def box(i, j, k):
    mask = np.zeros(SHAPE, bool)
    mask[slice(*i), slice(*j), slice(*k)] = True
    return mask


def drawn(regions, grid=GRID, wanted=None, kind="CLOSED_PLANAR", change=lambda dataset: None):
    dataset = rtstruct(SLICES, regions, kind)
    change(dataset)
    return rtstruct_structures(dataset, grid, HERE, wanted)


def mask_of(structure, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask.ravel()[structure.voxels] = True
    return mask


def test_contours_of_an_oblique_series_fill_their_voxels():
    found = drawn(
        {"box": [square(k) for k in range(2, 5)], "dot": [square(6, (0.9, 0.9), (1.9, 1.9))]}
    )
    assert [(s.name, s.number) for s in found.structures] == [("box", 1), ("dot", 2)]
    np.testing.assert_array_equal(mask_of(found.structures[0]), box((4, 10), (3, 13), (2, 5)))
    np.testing.assert_array_equal(mask_of(found.structures[1]), box((1, 2), (1, 2), (6, 7)))
    assert found.notes == ()


def test_a_ball_has_its_volume():
    turns = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    affine = affine_of((80, 80, 41), (0.5, 0.5, 0.5), "LPS", oblique_degrees=40)
    contours = []
    for k in range(1, 40):
        radius = np.sqrt(max(20.0**2 - (k - 20) ** 2, 0))
        circle = [(40 + radius * np.cos(t), 40 + radius * np.sin(t), k) for t in turns]
        contours.append(in_world(circle, affine))
    grid = Grid(Geometry((80, 80, 41), affine), GRID.series_uid, GRID.frame_uid)
    (ball,) = drawn({"ball": contours}, grid).structures
    assert ball.voxels.size == pytest.approx(4 / 3 * np.pi * 20**3, rel=5e-3)
    center = np.stack(np.unravel_index(ball.voxels, (80, 80, 41))).mean(axis=1)
    np.testing.assert_allclose(center, (40, 40, 20), atol=0.02)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_within_another_is_a_hole(kind):
    inner = square(3, (5.5, 5.5), (7.5, 8.5))
    (ring,) = drawn({"ring": [square(3), inner]}, kind=kind).structures
    expected = box((4, 10), (3, 13), (3, 4)) & ~box((6, 8), (6, 9), (3, 4))
    np.testing.assert_array_equal(mask_of(ring), expected)


def test_a_contour_stored_twice_counts_once():
    (region,) = drawn({"box": [square(3), square(3)]}).structures
    np.testing.assert_array_equal(mask_of(region), box((4, 10), (3, 13), (3, 4)))


def test_sagittal_contours_are_filled_across_their_own_axis():
    square_i = [(6, 2.5, 1.5), (6, 9.5, 1.5), (6, 9.5, 5.5), (6, 2.5, 5.5)]
    (region,) = drawn({"sagittal": [in_world(square_i)]}).structures
    np.testing.assert_array_equal(mask_of(region), box((6, 7), (3, 10), (2, 6)))


def test_contours_that_reach_beyond_the_image_are_cut():
    found = drawn({"wide": [square(k, (-9, -9), (99, 99)) for k in range(6, 12)]})
    np.testing.assert_array_equal(mask_of(found.structures[0]), box((0, 24), (0, 20), (6, 8)))
    assert found.notes == ("4 of 6 contours of 'wide' lie outside the image",)


def test_only_wanted_regions_are_filled():
    found = drawn({"a": [square(1)], "b": [square(2)]}, wanted={"b": (1,)})
    assert [s.voxels.size > 0 for s in found.structures] == [False, True]


def refused(*args, match=None, **options):
    with pytest.raises(FileFormatError, match=match) as info:
        drawn(*args, **options)
    return info.value.check_id


def test_contours_that_all_lie_outside_are_refused():
    assert refused({"a": [square(9), square(10)]}, match="all contours") == "G02"


def test_contours_between_slices_are_refused_with_their_distance():
    match = r"1 of 2 contours of 'a' do not lie on slices.*0\.40 slices off"
    assert refused({"a": [square(3), square(4.4)]}, match=match) == "G02"


def test_contours_nearly_on_a_slice_go_to_it():
    (region,) = drawn({"a": [square(4.2)]}).structures
    np.testing.assert_array_equal(mask_of(region), box((4, 10), (3, 13), (4, 5)))


def test_contours_across_slices_are_refused():
    tilted = in_world([(3.5, 2.5, 2), (9.5, 2.5, 4), (9.5, 12.5, 4), (3.5, 12.5, 2)])
    assert refused({"a": [tilted]}, match="do not lie on slices") == "G02"


def test_points_and_open_lines_are_no_regions():
    dataset = rtstruct(SLICES, {"a": [square(1)], "isocenter": [square(2)], "none": []})
    dataset.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "POINT"
    assert region_table(dataset, HERE) == {1: "a"}
    found = rtstruct_structures(dataset, GRID, HERE, None)
    assert [s.name for s in found.structures] == ["a"]
    assert found.notes == ("regions without a closed contour: isocenter, none",)


def test_a_label_of_another_image_is_refused():
    other = Grid(GRID.geometry, "1.2.3", "1.2.4")
    assert refused({"a": [square(1)]}, other, match="another image") == "G02"
    only_series = Grid(GRID.geometry, GRID.series_uid, "1.2.4")
    assert drawn({"a": [square(1)]}, only_series).structures[0].voxels.size == 60


def test_the_series_is_named():
    dataset = rtstruct(SLICES, {})
    assert referenced_series_uid(dataset) == SLICES[0].SeriesInstanceUID
    assert referenced_series_uid(Dataset()) == ""


def set_data(value):
    def change(dataset):
        dataset.ROIContourSequence[0].ContourSequence[0].ContourData = value

    return change


@pytest.mark.parametrize("value", [["1", "2"], [], ["1", "2", "3", "4"]])
def test_coordinates_that_are_no_points_are_refused(value):
    assert refused({"a": [square(1)]}, change=set_data(value), match="ContourData") == "F05"


def test_coordinates_beyond_all_reason_are_no_crash():
    assert refused({"a": [square(1)]}, change=set_data(["1e300"] * 9)) == "G02"


def test_a_file_without_regions_is_empty():
    def change(dataset):
        dataset.StructureSetROISequence = Items([])
        del dataset.ROIContourSequence

    assert drawn({}, change=change).structures == []
