import builtins
import zlib

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from pipeline.core.errors import FileFormatError, UsageError
from pipeline.io.dicom.elements import (
    count,
    has_dicom_name,
    is_dicom_file,
    items,
    numbers,
    read_dataset,
    text,
    vector,
    words,
)


def stored(keyword, value, *, little_endian=True):
    """A data set with one element as it lies in a file."""
    dataset = Dataset()
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, None, len(value), value, 0, True, little_endian)
    return dataset


HERE = __import__("pathlib").Path("file.dcm")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (rb"1\-2.5\3e1 ", (1, -2.5, 30)),
        (b"", ()),
        (b" \0", ()),
        (rb"7\ ", (7,)),
    ],
)
def test_decimal_numbers_are_read_from_text(value, expected):
    assert numbers(stored("ImagePositionPatient", value), "ImagePositionPatient", HERE) == expected


@pytest.mark.parametrize("value", [b"one", rb"1\x", b"nan", b"inf", b"1e999", b"1,5", b"\xff\xfe"])
def test_what_is_no_finite_number_is_refused_without_quoting_it(value):
    with pytest.raises(FileFormatError, match="RescaleSlope") as info:
        numbers(stored("RescaleSlope", value), "RescaleSlope", HERE)
    assert info.value.check_id == "F05"
    assert "one" not in str(info.value).replace("None", "")


def test_numbers_set_by_a_program_are_read_alike():
    dataset = Dataset()
    dataset.PixelSpacing, dataset.RescaleSlope = [0.5, 2], "3"
    assert numbers(dataset, "PixelSpacing", HERE) == (0.5, 2.0)
    assert numbers(dataset, "RescaleSlope", HERE) == (3.0,)
    assert numbers(dataset, "PatientWeight", HERE) == ()


def test_a_vector_has_its_length():
    dataset = stored("PixelSpacing", rb"1\2\3")
    assert vector(dataset, "PixelSpacing", 3, HERE) == (1, 2, 3)
    with pytest.raises(FileFormatError, match="PixelSpacing has 3 numbers instead of 2"):
        vector(dataset, "PixelSpacing", 2, HERE)
    with pytest.raises(FileFormatError, match="RescaleSlope is missing"):
        vector(dataset, "RescaleSlope", 1, HERE)


@pytest.mark.parametrize(
    ("keyword", "value", "little_endian", "expected"),
    [
        ("Rows", b"\x02\x01", True, 258),
        ("Rows", b"\x02\x01", False, 513),
        ("NumberOfFrames", b"12 ", True, 12),
        ("Rows", b"12", True, 12849),
    ],
)
def test_counts_are_read_by_their_representation(keyword, value, little_endian, expected):
    dataset = stored(keyword, value, little_endian=little_endian)
    assert count(dataset, keyword, HERE) == expected


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("Rows", b"\x01"), ("Rows", b"123456"), ("NumberOfFrames", b"-3"), ("NumberOfFrames", b"a")],
)
def test_what_is_no_count_is_refused(keyword, value):
    with pytest.raises(FileFormatError, match=f"{keyword} is no whole number"):
        count(stored(keyword, value), keyword, HERE)


def test_a_missing_count_takes_its_default_or_is_refused():
    assert count(Dataset(), "NumberOfFrames", HERE, default=1) == 1
    with pytest.raises(FileFormatError, match="Rows is missing"):
        count(Dataset(), "Rows", HERE)


@pytest.mark.parametrize(
    ("charset", "expected"),
    [("ISO_IR 192", "Säule"), ("ISO_IR 100", "Säule"), ("ISO_IR 144", "печень")],
)
def test_names_are_read_in_their_character_set(tmp_path, charset, expected):
    dataset = new_file(tmp_path / "a.dcm", SpecificCharacterSet=charset, SegmentLabel=expected)
    assert words(dataset, "SegmentLabel") == expected
    assert words(dataset, "PatientName") == ""


def new_file(file, syntax=None, **elements):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax or "1.2.840.10008.1.2.1"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(file, enforce_file_format=True)
    return read_dataset(file, with_pixels=True)


def test_codes_come_without_padding(tmp_path):
    dataset = new_file(tmp_path / "a.dcm", Modality="CT", StudyInstanceUID="1.2.3")
    assert text(dataset, "Modality") == "CT"
    assert text(dataset, "StudyInstanceUID") == "1.2.3"
    assert text(dataset, "PatientID") == ""
    assert items(dataset, "SegmentSequence") == []


def test_dicom_is_told_by_content(tmp_path):
    new_file(tmp_path / "a.txt")
    (tmp_path / "b.dcm").write_bytes(b"x" * 200)
    (tmp_path / "c.dcm").write_bytes(b"\x08\x00\x05\x00" + bytes(50))
    (tmp_path / "c.txt").write_bytes(b"\x08\x00\x05\x00" + bytes(50))
    (tmp_path / ".a").write_bytes((tmp_path / "a.txt").read_bytes())
    names = ["a.txt", "b.dcm", "c.dcm", "c.txt", ".a", "none.dcm"]
    found = [is_dicom_file(tmp_path / name) for name in names]
    assert found == [True, False, True, False, False, False]
    assert [has_dicom_name(tmp_path / name) for name in ("a.DCM", "a.ima", "a.nii")] == [1, 1, 0]


def test_a_missing_file_and_one_of_another_kind_are_named(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x" * 200)
    for name, check_id in (("none.dcm", "F01"), ("a.dcm", "F02")):
        with pytest.raises(FileFormatError) as info:
            read_dataset(tmp_path / name, with_pixels=True)
        assert info.value.check_id == check_id


def test_a_deflated_bomb_is_refused_by_its_possible_size(tmp_path, monkeypatch):
    new_file(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian, ImageComments="a" * 10_000)
    asked = []
    monkeypatch.setattr(
        "pipeline.io.dicom.elements.check_memory", lambda n_bytes, file: asked.append(n_bytes)
    )
    dataset = read_dataset(tmp_path / "a.dcm", with_pixels=False)
    assert text(dataset, "ImageComments") == "a" * 10_000
    assert max(asked) > 1000 * (tmp_path / "a.dcm").stat().st_size


def test_a_damaged_deflated_file_is_refused(tmp_path):
    new_file(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian, ImageComments="a" * 10_000)
    raw = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw[:-20] + zlib.compress(b"x"))
    with pytest.raises(FileFormatError) as info:
        read_dataset(tmp_path / "a.dcm", with_pixels=False)
    assert info.value.check_id == "F03"


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="'dicom'") as info:
        read_dataset(tmp_path / "a.dcm", with_pixels=True)
    assert "pip install 'voxline[dicom]'" in info.value.fix
