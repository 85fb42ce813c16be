import highdicom as hd
import numpy as np
import pytest
from dicom_phantoms import multi_frame, plant_identifiers, save, series_slices, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import affine_of

from pipeline.core.errors import GeometryError, UsageError, VoxlineError
from pipeline.core.volume import Volume
from pipeline.io.dicom.load import load_dicom_label, load_series
from pipeline.io.dicom.write_seg import write_dicom_seg
from pipeline.io.load import LabelContext

SHAPE = (7, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)
NAMES = ("liver", "left kidney", "tumor")


def some_label(values=(0, 1, 2, 3), seed=0):
    return np.random.default_rng(seed).choice(np.array(values, np.uint16), SHAPE)


def written(folder, label, values=(1, 2, 3), affine=AFFINE):
    file = folder.parent / "out.seg.dcm"
    write_dicom_seg(
        file,
        Volume(label, affine),
        source_folder=folder,
        class_names=NAMES,
        values=values,
        model_name="hippocampus fold 0",
    )
    return file


def read_back(file, folder, class_values=None):
    context = LabelContext(folder, class_values)
    return load_dicom_label(file, root=file.parent, context=context)


@settings(max_examples=8)
@given(
    degrees=st.floats(-80, 80),
    orientation=st.sampled_from(["LPS", "PIR", "ASL", "SPR"]),
    tilt_mm=st.sampled_from([0.0, 1.3]),
    seed=st.integers(0, 99),
)
def test_labels_come_back_identical(tmp_path_factory, degrees, orientation, tilt_mm, seed):
    affine = affine_of(SHAPE, (0.7, 0.9, 2.5), orientation, oblique_degrees=degrees)
    affine[:3, 2] += tilt_mm * affine[:3, 1]
    folder = write_series(tmp_path_factory.mktemp("w") / "ct", np.zeros(SHAPE, np.int16), affine)
    grid = load_series(folder, root=folder)[1].affine
    label = some_label(seed=seed)
    if np.linalg.det(affine[:3, :3]) < 0:
        label = label[:, :, ::-1]
    file = written(folder, label, affine=grid)
    facts, found = read_back(file, folder)
    np.testing.assert_array_equal(found.array, label)
    np.testing.assert_array_equal(found.affine, grid)
    assert facts.segments == {"liver": 1, "left kidney": 2, "tumor": 3}


def test_values_of_any_size_come_back_by_name(tmp_path):
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    label = some_label((0, 5, 255, 4000))
    file = written(folder, label, values=(5, 255, 4000))
    table = dict(zip(NAMES, ((5,), (255,), (4000, 1)), strict=True))
    np.testing.assert_array_equal(read_back(file, folder, table)[1].array, label)


def test_a_multi_frame_source_gets_its_frames_back(tmp_path):
    dataset = multi_frame(np.zeros(SHAPE, np.int16), AFFINE, order=[2, 0, 3, 1])
    folder = save(tmp_path / "mr", [dataset])
    label = some_label()
    np.testing.assert_array_equal(read_back(written(folder, label), folder)[1].array, label)


def test_an_empty_label_is_an_empty_segmentation(tmp_path):
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    file = written(folder, np.zeros(SHAPE, np.uint8))
    facts, found = read_back(file, folder)
    assert found.array.max() == 0
    assert len(facts.segments) == 3


def test_highdicom_reads_the_same_segments(tmp_path):
    slices = series_slices(np.zeros(SHAPE, np.int16), AFFINE)
    for dataset in slices:
        dataset.PatientID = "p7"
    folder = save(tmp_path / "ct", slices)
    label = some_label()
    seg = hd.seg.segread(written(folder, label))
    uids = [dataset.SOPInstanceUID for dataset in slices]
    pixels = seg.get_pixels_by_source_instance(uids, combine_segments=True, relabel=False)
    np.testing.assert_array_equal(pixels, label.transpose(2, 1, 0))
    assert [d.segment_label for d in (seg.get_segment_description(n) for n in (1, 2, 3))] == list(
        NAMES
    )
    assert (seg.PatientID, seg.FrameOfReferenceUID) == ("p7", slices[0].FrameOfReferenceUID)
    assert seg.StudyInstanceUID == slices[0].StudyInstanceUID
    assert seg.SegmentSequence[0].SegmentAlgorithmName == "hippocampus fold 0"


def test_free_text_of_the_source_is_not_carried(tmp_path):
    slices = series_slices(np.zeros(SHAPE, np.int16), AFFINE)
    for dataset in slices:
        plant_identifiers(dataset)
        dataset.PatientID = "p7"
    folder = save(tmp_path / "ct", slices)
    seg = hd.seg.segread(written(folder, some_label()))
    for keyword in ("SeriesDescription", "StudyDescription", "InstitutionName", "ImageComments"):
        assert "Geheimrat" not in str(seg.get(keyword, ""))
    assert seg.PatientName == slices[0].PatientName


@pytest.mark.parametrize(
    "grid", [AFFINE @ np.diag([1, 1, 1.01, 1]), AFFINE @ np.diag([-1, 1, 1, 1])]
)
def test_a_label_on_another_grid_is_refused(tmp_path, grid):
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    with pytest.raises(GeometryError, match="grid"):
        written(folder, some_label(), affine=grid)
    with pytest.raises(GeometryError, match="shape"):
        written(folder, some_label()[:-1])
    assert not (tmp_path / "out.seg.dcm").exists()


def test_names_and_values_must_match(tmp_path):
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE)
    with pytest.raises(UsageError, match="3 class names for 2 values"):
        written(folder, some_label(), values=(1, 2))


def test_a_source_that_breaks_the_standard_is_no_traceback(tmp_path):
    def change(slices):
        for dataset in slices:
            dataset.PatientSex = "WRONG"

    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), AFFINE, change)
    with pytest.raises(VoxlineError) as info:
        written(folder, some_label())
    assert "WRONG" not in str(info.value)
