import sys

import numpy as np
import pytest
import SimpleITK
from dicom_phantoms import series_slices
from phantoms import affine_of
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGLosslessSV1

from pipeline.io.dicom import gdcm

SHAPE = (24, 20, 3)


@pytest.fixture
def frames(tmp_path):
    """Three slices as lossless JPEG: the array (i, j, k) and each data set with its bytes."""
    array = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)
    found = []
    for dataset, rows in zip(
        series_slices(array, affine_of(SHAPE, (1, 1, 2)), rescale=(3, 1)), array.T, strict=True
    ):
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(tmp_path / "one.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(SimpleITK.GetImageFromArray(np.ascontiguousarray(rows)))
        coded = dcmread(tmp_path / "one.dcm")
        dataset.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        assert coded.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        found.append((dataset, next(generate_frames(coded.PixelData, number_of_frames=1))))
    return array, found


def test_frames_come_back_before_rescaling(frames):
    array, coded = frames
    for found, rows in zip(gdcm.gdcm_frames(coded), array.T, strict=True):
        np.testing.assert_array_equal(found, rows)


def test_a_damaged_frame_costs_only_itself(frames):
    array, coded = frames
    coded[1] = (coded[1][0], coded[1][1][:40])
    first, second, third = gdcm.gdcm_frames(coded)
    assert second is None
    np.testing.assert_array_equal(np.stack([first, third]), array.T[[0, 2]])


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 11)", "time.sleep(60)"])
def test_a_decoder_that_dies_or_hangs_takes_nobody_along(frames, tmp_path, monkeypatch, death):
    script = tmp_path / "decoder.py"
    script.write_text(f"import os, time\n{death}\n")
    monkeypatch.setattr(gdcm, "__file__", str(script))
    monkeypatch.setattr(gdcm, "_START_S", 0.3)
    monkeypatch.setattr(gdcm, "_FRAME_S", 0.01)
    assert list(gdcm.gdcm_frames(frames[1])) == [None, None, None]


def test_no_file_is_left_behind(frames, tmp_path, monkeypatch):
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    decoder = gdcm.gdcm_frames(frames[1])
    next(decoder)
    assert len(list(place.iterdir())) == 1
    decoder.close()
    assert list(place.iterdir()) == []


def test_the_child_decodes_a_folder(frames, tmp_path, monkeypatch):
    array, coded = frames
    folder = tmp_path / "frames"
    folder.mkdir()
    for n, (dataset, piece) in enumerate(coded):
        gdcm._write_single(dataset, piece, folder / f"{n}.dcm")
    monkeypatch.setattr(sys, "argv", ["gdcm.py", str(folder)])
    gdcm.decode_folder(folder)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["0.npy", "1.npy", "2.npy"]
    np.testing.assert_array_equal(np.load(folder / "2.npy"), array.T[2])
