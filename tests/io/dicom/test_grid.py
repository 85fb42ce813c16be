from pathlib import Path

import numpy as np
import pytest
from dicom_phantoms import multi_frame, save, series_slices
from phantoms import affine_of, write_nifti

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry
from pipeline.io.dicom.grid import Grid, check_drawn_on, grid_of, voxels_of

SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)
ARRAY = np.zeros(SHAPE, np.int16)


def test_the_grid_of_a_series_a_multi_frame_file_and_a_nifti_volume_are_one(tmp_path):
    slices = series_slices(ARRAY, AFFINE)
    folder = save(tmp_path / "ct", slices)
    save(tmp_path / "mr", [multi_frame(ARRAY, AFFINE)])
    write_nifti(tmp_path / "a.nii.gz", ARRAY.astype(np.float32), AFFINE)
    grids = [grid_of(p) for p in (folder, tmp_path / "mr" / "000.dcm", tmp_path / "a.nii.gz")]
    for grid in grids:
        assert grid.geometry.shape == SHAPE
        np.testing.assert_allclose(grid.geometry.affine, AFFINE, atol=1e-5)
    assert grids[0].series_uid == slices[0].SeriesInstanceUID
    assert (grids[2].series_uid, grids[2].frame_uid) == ("", "")


def test_points_of_a_patient_become_voxels():
    voxels = np.array([[0, 0, 0], [5, 4, 3], [1.5, 2, 0.25]])
    ras_mm = voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    found = voxels_of(ras_mm * [-1.0, -1.0, 1.0], Geometry(SHAPE, AFFINE))
    np.testing.assert_allclose(found, voxels, atol=1e-12)


@pytest.mark.parametrize(
    ("series_uid", "frame_uid", "is_accepted"),
    [
        ("1.1", "1.2", True),
        ("1.1", "9", True),
        ("9", "1.2", True),
        ("", "", True),
        ("", "9", False),
        ("9", "", False),
        ("9", "9", False),
    ],
)
def test_a_label_of_another_image_is_refused(series_uid, frame_uid, is_accepted):
    grid = Grid(Geometry(SHAPE, AFFINE), "1.1", "1.2")
    here = Path("label.dcm")
    if is_accepted:
        check_drawn_on(grid, series_uid=series_uid, frame_uid=frame_uid, where=here)
        return
    with pytest.raises(FileFormatError) as info:
        check_drawn_on(grid, series_uid=series_uid, frame_uid=frame_uid, where=here)
    assert info.value.check_id == "G02"


def test_an_image_that_says_nothing_takes_any_label():
    grid = Grid(Geometry(SHAPE, AFFINE), "", "")
    check_drawn_on(grid, series_uid="9", frame_uid="9", where=Path("label.dcm"))
