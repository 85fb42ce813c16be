from pathlib import Path

import numpy as np
import pytest
from dicom_phantoms import multi_frame, series_slices
from phantoms import affine_of

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.planes import n_frames_of, planes_of

HERE = Path("file.dcm")
SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)
ARRAY = np.zeros(SHAPE, np.int16)


def test_classic_and_multi_frame_files_tell_the_same_planes():
    slices = series_slices(ARRAY, AFFINE)
    classic = [planes_of(dataset, HERE)[0] for dataset in slices]
    dataset = multi_frame(ARRAY, AFFINE, order=[3, 1, 0, 2])
    frames = planes_of(dataset, HERE)
    assert n_frames_of(dataset, HERE) == 4
    assert n_frames_of(slices[0], HERE) == 1
    assert frames == [classic[n] for n in (3, 1, 0, 2)]
    assert (frames[0].n_columns, frames[0].n_rows) == (6, 5)
    assert (frames[0].column_spacing_mm, frames[0].row_spacing_mm) == pytest.approx((0.7, 0.9))


def test_what_a_frame_says_itself_goes_before_what_is_shared():
    dataset = multi_frame(ARRAY, AFFINE)
    other = multi_frame(ARRAY, affine_of(SHAPE, (3, 3, 3), "LPS"))
    shared = other.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    dataset.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = shared
    assert [plane.row_spacing_mm for plane in planes_of(dataset, HERE)] == pytest.approx(
        [0.9, 3, 0.9, 0.9]
    )


def test_a_frame_without_position_is_refused():
    dataset = multi_frame(ARRAY, AFFINE)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    with pytest.raises(FileFormatError, match="ImagePositionPatient is missing"):
        planes_of(dataset, HERE)


def test_a_file_without_functional_groups_needs_its_own_elements():
    dataset = multi_frame(ARRAY, AFFINE)
    del dataset.PerFrameFunctionalGroupsSequence
    with pytest.raises(FileFormatError, match="ImagePositionPatient is missing"):
        planes_of(dataset, HERE)
