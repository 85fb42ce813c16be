import numpy as np
import pytest
from dicom_phantoms import multi_frame, save, write_series
from phantoms import affine_of

from pipeline.io.dicom.planes import planes_of
from pipeline.io.dicom.seg_source import seg_sources
from pipeline.io.dicom.series import read_series

SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)
ARRAY = np.zeros(SHAPE, np.int16)


def test_slices_come_in_order_with_what_the_source_says(tmp_path):
    def change(slices):
        for dataset in slices:
            dataset.PatientID, dataset.PatientName = "p7", "Test^Case"

    series = read_series(
        write_series(tmp_path, ARRAY, AFFINE, change), with_pixels=False, with_patient=True
    )
    sources = seg_sources(series)
    planes = [planes_of(dataset, tmp_path)[0] for dataset in sources]
    positions = np.array([plane.position_mm for plane in planes]) * [-1, -1, 1]
    np.testing.assert_allclose(
        positions, AFFINE[:3, 3] + np.outer(range(4), AFFINE[:3, 2]), atol=1e-5
    )
    assert {str(d.PatientName) for d in sources} == {"Test^Case"}
    assert [d.SOPInstanceUID for d in sources] == [
        series.datasets[n].SOPInstanceUID for n in series.stack.order
    ]
    assert [float(d.SliceThickness) for d in sources] == pytest.approx([2.5] * 4, abs=1e-5)


def test_what_a_stripped_source_lacks_is_empty_or_made_up(tmp_path):
    def change(slices):
        for dataset in slices:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                del dataset[keyword]
            dataset.SpecificCharacterSet = ""

    series = read_series(
        write_series(tmp_path, ARRAY, AFFINE, change), with_pixels=False, with_patient=True
    )
    sources = seg_sources(series)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({dataset[keyword].value for dataset in sources}) == 1
        assert keyword not in series.datasets[0]
    assert {dataset.PatientID for dataset in sources} == {""}
    assert "SpecificCharacterSet" not in sources[0]


def test_a_multi_frame_source_keeps_its_frames(tmp_path):
    dataset = multi_frame(ARRAY, AFFINE, order=[1, 0, 3, 2])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PixelMeasuresSequence
    series = read_series(save(tmp_path, [dataset]), with_pixels=False, with_patient=True)
    (source,) = seg_sources(series)
    assert "PixelMeasuresSequence" in source.SharedFunctionalGroupsSequence[0]
    assert "PixelMeasuresSequence" not in series.datasets[0].SharedFunctionalGroupsSequence[0]
    assert source.SOPInstanceUID == dataset.SOPInstanceUID
