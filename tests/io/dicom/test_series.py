import contextlib
import warnings

import numpy as np
import pytest
import SimpleITK
from dicom_phantoms import multi_frame, rtstruct, save, series_slices, write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import affine_of
from pydicom.uid import RTDoseStorage

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.series import image_files, read_series, series_voxels

SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)


def some_array(dtype="i2", seed=0):
    return np.random.default_rng(seed).integers(0, 100, SHAPE).astype(dtype)


def loaded(path):
    series = read_series(path, with_pixels=True)
    voxels = series_voxels(series)
    return series, voxels, voxels.array.transpose(2, 1, 0)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_a_series_comes_back_voxel_by_voxel(tmp_path, dtype):
    array = some_array(dtype)
    series, voxels, found = loaded(write_series(tmp_path / "ct", array, AFFINE))
    np.testing.assert_array_equal(found, array)
    assert voxels.dtype == np.dtype(dtype).name
    assert series.shape == SHAPE
    assert series.modality == "CT"
    np.testing.assert_allclose(series.stack.affine, AFFINE, atol=1e-6)


def as_sitk(folder):
    """SimpleITK's answer: array (i, j, k) and RAS affine."""
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


@settings(max_examples=10)
@given(
    degrees=st.floats(-80, 80),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    orientation=st.sampled_from(["LPS", "RAS", "PIR", "ASL", "SRP"]),
)
def test_geometry_agrees_with_simpleitk(tmp_path_factory, degrees, spacing, orientation):
    folder = tmp_path_factory.mktemp("series")
    affine = affine_of(SHAPE, spacing, orientation, oblique_degrees=degrees, center_mm=(9, -70, 3))
    write_series(folder, some_array(), affine, rescale=(1, -1024))
    series, _, found = loaded(folder)
    array, expected = as_sitk(folder)
    np.testing.assert_allclose(series.stack.affine, expected, atol=1e-5)
    np.testing.assert_array_equal(found, array)


def test_whole_rescaling_stays_whole(tmp_path):
    folder = write_series(tmp_path / "ct", some_array("u2"), AFFINE, rescale=(1, -1024))
    _, voxels, found = loaded(folder)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, some_array("i2") - 1024)
    assert (voxels.dtype, voxels.slope, voxels.intercept) == ("uint16", 1.0, -1024.0)


def test_a_whole_result_too_large_for_the_stored_type_gets_a_wider_one(tmp_path):
    folder = write_series(tmp_path / "ct", some_array("u1"), AFFINE, rescale=(1000, 0))
    _, _, found = loaded(folder)
    np.testing.assert_array_equal(found, some_array("i8") * 1000)


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    slopes = [0.5, 0.25, 2.0, 1.5]

    def change(slices):
        for dataset, slope in zip(slices, slopes, strict=True):
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, 3

    folder = write_series(tmp_path / "pet", some_array(), AFFINE, change, modality="PT")
    _, voxels, found = loaded(folder)
    np.testing.assert_allclose(found, some_array() * np.array(slopes) + 3, rtol=1e-6)
    assert found.dtype == np.float32
    assert voxels.slope is None
    assert any("slice by slice" in note for note in voxels.notes)
    assert any("SUV" in note for note in voxels.notes)


def test_a_multi_frame_file_is_read_by_its_functional_groups(tmp_path):
    rescales = [(1.0, 10.0 * k) for k in range(4)]
    dataset = multi_frame(some_array(), AFFINE, order=[2, 0, 3, 1], rescales=rescales)
    save(tmp_path / "mr", [dataset])
    for path in (tmp_path / "mr", tmp_path / "mr" / "000.dcm"):
        series, _, found = loaded(path)
        np.testing.assert_array_equal(found, some_array() + 10 * np.arange(4))
        np.testing.assert_allclose(series.stack.affine, AFFINE, atol=1e-6)


def test_labels_and_other_formats_beside_a_series_are_left_out(tmp_path):
    slices = series_slices(some_array(), AFFINE)
    folder = save(tmp_path / "ct", slices)
    rtstruct(slices, {"a": []}).save_as(folder / "rs.dcm", enforce_file_format=True)
    dose = multi_frame(some_array(), AFFINE)
    dose.SOPClassUID, dose.Modality = RTDoseStorage, "RTDOSE"
    dose.save_as(folder / "rd.dcm", enforce_file_format=True)
    (folder / "README.txt").write_text("not DICOM")
    (folder / "._000.dcm").write_bytes(b"resource fork")
    (folder / "DICOMDIR").write_bytes(b"x")
    assert len(image_files(folder)) == 6
    np.testing.assert_array_equal(loaded(folder)[2], some_array())


def test_two_series_in_a_folder_are_counted_not_described(tmp_path):
    save(tmp_path, series_slices(some_array(), AFFINE), "a{}.dcm")
    save(tmp_path, series_slices(some_array(), AFFINE, modality="PT")[:3], "b{}.dcm")
    with pytest.raises(
        FileFormatError, match=r"2 series: CT with 4 files, PT with 3 files"
    ) as info:
        read_series(tmp_path, with_pixels=False)
    assert info.value.check_id == "F06"


def refused(path):
    with pytest.raises(FileFormatError) as info:
        loaded(path)
    return info.value.check_id


def test_an_empty_folder_is_refused(tmp_path):
    assert refused(tmp_path) == "F01"


@pytest.mark.parametrize("content", [b"", b"no DICOM at all"])
def test_a_file_that_is_dicom_by_name_alone_is_refused(tmp_path, content):
    folder = write_series(tmp_path / "ct", some_array(), AFFINE)
    (folder / "extra.dcm").write_bytes(content)
    assert refused(folder) == "F02"


def set_all(keyword, value):
    def change(slices):
        for dataset in slices:
            setattr(dataset, keyword, value)

    return change


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SamplesPerPixel", 3),
        ("PhotometricInterpretation", "RGB"),
        ("PhotometricInterpretation", "PALETTE COLOR"),
        ("BitsAllocated", 12),
        ("HighBit", 12),
        ("RescaleSlope", "0"),
    ],
)
def test_voxels_that_are_no_plain_numbers_are_refused(tmp_path, keyword, value):
    assert refused(write_series(tmp_path, some_array(), AFFINE, set_all(keyword, value))) == "F05"


@pytest.mark.parametrize("keyword", ["Rows", "PixelSpacing", "ImagePositionPatient", "PixelData"])
def test_a_missing_element_is_named(tmp_path, keyword):
    def change(slices):
        del slices[1][keyword]

    folder = write_series(tmp_path, some_array(), AFFINE, change)
    if keyword == "Rows":  # without it a file is no image: a slice is missing
        assert refused(folder) == "G07"
        return
    with pytest.raises(FileFormatError, match=keyword) as info:
        loaded(folder)
    assert info.value.check_id == "F05"


@pytest.mark.parametrize("n_bytes", [200, 700])
def test_a_truncated_slice_is_refused(tmp_path, n_bytes):
    folder = write_series(tmp_path, some_array(), AFFINE)
    file = folder / "001.dcm"
    file.write_bytes(file.read_bytes()[:n_bytes])
    assert refused(folder) in ("F01", "F03", "F04", "F05", "F06", "G07")


def test_huge_dimensions_are_refused_before_memory_is_taken(tmp_path):
    def change(slices):
        for dataset in slices:
            dataset.Rows = dataset.Columns = 65535

    assert refused(write_series(tmp_path, some_array(), AFFINE, change)) in ("F04", "F06")


def test_overflowing_slopes_are_no_crash(tmp_path):
    folder = write_series(tmp_path, some_array() + 1, AFFINE, rescale=(1e300, 0))
    assert not np.isfinite(loaded(folder)[2]).any()


@pytest.mark.parametrize("seed", range(24))
def test_damaged_bytes_end_in_a_named_problem(tmp_path, seed):
    rng = np.random.default_rng(seed)
    folder = write_series(tmp_path, some_array(), AFFINE)
    file = folder / "002.dcm"
    raw = bytearray(file.read_bytes())
    for at in rng.integers(128 if seed % 2 else 132, len(raw), 1 + seed % 7):
        raw[at] = rng.integers(256)
    file.write_bytes(bytes(raw[: len(raw) - (seed % 5) * 9]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(FileFormatError):
            loaded(folder)


def test_files_without_preamble_are_read(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    for n, dataset in enumerate(series_slices(some_array(), AFFINE)):
        del dataset.file_meta
        with (folder / f"{n}.ima").open("wb") as stream:
            dataset.save_as(stream, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(loaded(folder)[2], some_array())
