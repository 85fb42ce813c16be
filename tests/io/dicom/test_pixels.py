import numpy as np
import pytest
import SimpleITK
from dicom_phantoms import multi_frame, save, series_slices, write_series
from phantoms import affine_of
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.elements import read_dataset
from pipeline.io.dicom.pixels import is_compressed, stored_frames
from pipeline.io.dicom.series import read_series, series_voxels

SHAPE = (24, 20, 3)
AFFINE = affine_of(SHAPE, (1, 1, 2), "LPS")


def some_array(dtype="i2"):
    noise = np.random.default_rng(0).integers(0, 4000, SHAPE)
    return (noise - (1000 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)


def loaded(path):
    return series_voxels(read_series(path, with_pixels=True)).array.transpose(2, 1, 0)


def compress(datasets, syntax, folder):
    """Compress in place: with pydicom, or for what it cannot write, frame by frame with GDCM."""
    for dataset in datasets:
        if syntax not in GDCM_NAMES:
            dataset.compress(syntax, generate_instance_uid=False)
            continue
        frames = np.atleast_3d(dataset.pixel_array.T).T
        coded = [gdcm_frame(rows, syntax, folder / "one.dcm") for rows in frames]
        dataset.PixelData = encapsulate(coded)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax


GDCM_NAMES = {JPEGLosslessSV1: "JPEG", JPEG2000Lossless: "JPEG2000"}


def gdcm_frame(rows, syntax, file):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(file))
    writer.UseCompressionOn()
    writer.SetCompressor(GDCM_NAMES[syntax])
    writer.Execute(SimpleITK.GetImageFromArray(np.ascontiguousarray(rows)))
    dataset = dcmread(file)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    return first_frame(dataset)


def first_frame(dataset):
    return next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))


LOSSLESS = [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_lossless_compressions_change_no_voxel(tmp_path, syntax, dtype):
    slices = series_slices(some_array(dtype), AFFINE, rescale=(1, 0))
    compress(slices, syntax, tmp_path)
    folder = save(tmp_path / "series", slices)
    assert is_compressed(read_dataset(folder / "000.dcm", with_pixels=True))
    np.testing.assert_array_equal(loaded(folder), some_array(dtype))


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_frames_of_a_compressed_file_are_rescaled_one_by_one(tmp_path, syntax):
    array = some_array("u2")
    dataset = multi_frame(array, AFFINE, rescales=[(2.0, 7.0 * k) for k in range(3)])
    compress([dataset], syntax, tmp_path)
    found = loaded(save(tmp_path / "series", [dataset]))
    np.testing.assert_array_equal(found, array.astype(int) * 2 + 7 * np.arange(3))


def test_big_endian_is_read(tmp_path):
    array = some_array("i2")

    def change(slices):
        for dataset in slices:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            rows = np.frombuffer(dataset.PixelData, "<i2")
            dataset.PixelData = rows.astype(">i2").tobytes()

    np.testing.assert_array_equal(loaded(write_series(tmp_path, array, AFFINE, change)), array)


def refused(folder):
    with pytest.raises(FileFormatError) as info:
        loaded(folder)
    return info.value.check_id


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_damaged_compressed_voxels_are_refused(tmp_path, syntax):
    slices = series_slices(some_array("u2"), AFFINE)
    compress(slices, syntax, tmp_path)
    frame = first_frame(slices[1])
    slices[1].PixelData = encapsulate([frame[: len(frame) // 8]])
    assert refused(save(tmp_path / "series", slices)) == "F03"


def test_compressed_voxels_of_another_size_are_refused(tmp_path):
    slices = series_slices(some_array("u2"), AFFINE)
    compress(slices, JPEG2000Lossless, tmp_path)
    for dataset in slices:
        dataset.Rows = 30
    assert refused(save(tmp_path / "series", slices)) == "F03"


@pytest.mark.parametrize("is_known", [True, False])
def test_a_compression_nobody_can_read_is_refused(tmp_path, is_known):
    slices = series_slices(some_array("u2"), AFFINE)
    compress(slices, RLELossless, tmp_path)
    for dataset in slices:
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    folder = save(tmp_path / "series", slices)
    if not is_known:
        for file in folder.iterdir():
            file.write_bytes(
                file.read_bytes().replace(HTJ2KLossless.encode(), b"1.2.840.1.2.3.4.5.678.9")
            )
    assert refused(folder) == "F05"


def test_missing_voxels_are_refused(tmp_path):
    def change(slices):
        slices[2].PixelData = slices[2].PixelData[:-2]

    assert refused(write_series(tmp_path, some_array(), AFFINE, change)) == "F04"


def test_frames_of_an_uncompressed_file_are_views(tmp_path):
    folder = write_series(tmp_path, some_array(), AFFINE)
    dataset = read_dataset(folder / "000.dcm", with_pixels=True)
    (frame,) = stored_frames([dataset], [folder / "000.dcm"])
    assert frame.base is not None


@pytest.mark.parametrize("syntax", [None, RLELossless])
@pytest.mark.parametrize(("dtype", "junk"), [("i2", 0x0000), ("i2", 0xA000), ("u2", 0x8000)])
def test_bits_that_are_not_used_do_not_count(tmp_path, syntax, dtype, junk):
    array = np.clip(some_array(dtype), *((-2048, 2047) if dtype == "i2" else (0, 4095)))
    datasets = series_slices(array, AFFINE)
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF | junk
        dataset.PixelData = stored.astype("<u2").tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11
        if syntax is not None:
            dataset.compress(syntax, generate_instance_uid=False)
    folder = save(tmp_path / "ct", datasets)
    np.testing.assert_array_equal(loaded(folder), array)
    images = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(images).transpose(2, 1, 0), array)
