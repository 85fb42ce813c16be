"""MetaImage: equal to SimpleITK wherever SimpleITK is right; refused by name elsewhere."""

import gzip
import zlib

import numpy as np
import pytest
from format_builders import VOXELS, meta_bytes, simpleitk_view, write_volume

from pipeline.core.errors import FileFormatError
from pipeline.io.load import load_volume
from pipeline.io.metaimage import metaimage_data_file, read_metaimage

PACKED = zlib.compress(VOXELS)
ZIPPED = {"CompressedData": "True", "CompressedDataSize": str(len(PACKED))}
FOUR_AXES = {
    "NDims": "4",
    "DimSize": "2 3 4 5",
    "ElementSpacing": "1 2 3 4",
    "Offset": "1 2 3 4",
    "TransformMatrix": "0 1 0 0 0 0 1 0 1 0 0 0 0 0 0 1",
}
EQUAL = {
    "plain": ({}, VOXELS),
    "size for want of spacing": ({"ElementSpacing": None, "ElementSize": "4 5 6"}, VOXELS),
    "spacing before size": ({"ElementSize": "4 5 6"}, VOXELS),
    "no origin": ({"Offset": None}, VOXELS),
    "other word for origin": ({"Offset": None, "Position": "4 5 6"}, VOXELS),
    "other word for directions": (
        {"TransformMatrix": None, "Rotation": "0 1 0 0 0 1 1 0 0"},
        VOXELS,
    ),
    "no directions": ({"TransformMatrix": None}, VOXELS),
    "directions of length 2": ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, VOXELS),
    "sheared": ({"TransformMatrix": "1 0 0 0.2 1 0 0 0 1"}, VOXELS),
    "center of rotation": ({"CenterOfRotation": "5 5 5"}, VOXELS),
    "orientation in words": ({"AnatomicalOrientation": "RAS"}, VOXELS),
    "negative spacing": ({"ElementSpacing": "1 -2 3"}, VOXELS),
    "rescaling is not applied": ({"ElementToIntensityFunctionSlope": "2"}, VOXELS),
    "big-endian": ({"BinaryDataByteOrderMSB": "True"}, VOXELS),
    "other word for byte order": (
        {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"},
        VOXELS,
    ),
    "no byte order": ({"BinaryDataByteOrderMSB": None}, VOXELS),
    "long is four bytes": ({"ElementType": "MET_LONG", "DimSize": "4 5 3"}, VOXELS),
    "eight bytes": ({"ElementType": "MET_ULONG_LONG", "DimSize": "2 3 5"}, VOXELS),
    "compressed": (ZIPPED, PACKED),
    "compressed by gzip": (
        {"CompressedData": "True", "CompressedDataSize": str(len(gzip.compress(VOXELS)))},
        gzip.compress(VOXELS),
    ),
    "all but the voxels": ({"HeaderSize": "-1"}, b"some text" + VOXELS),
    "two channels": ({"ElementNumberOfChannels": "2", "DimSize": "4 5 3"}, VOXELS),
    "four axes": (FOUR_AXES, VOXELS),
    "windows line ends": ({"NDims": "3\r", "DimSize": "4 5 6\r"}, VOXELS),
}
REFUSED = {
    "nothing": (b"", "F05"),
    "other text": (b"this is no header\n" * 10_000, "F05"),
    "a field twice": (meta_bytes({"DimSize ": "6 5 4"}), "F05"),
    "a damaged field": (meta_bytes().replace(b"Offset", b"Off\xffset"), "F05"),
    "no image": (meta_bytes({"ObjectType": "Tube"}), "F05"),
    "no type": (meta_bytes({"ElementType": None}), "F05"),
    "arrays": (meta_bytes({"ElementType": "MET_FLOAT_ARRAY"}), "F05"),
    "text": (meta_bytes({"BinaryData": "False"}), "F05"),
    "bytes between header and voxels": (meta_bytes({"HeaderSize": "6"}), "F05"),
    "two axes": (meta_bytes({"NDims": "2", "DimSize": "4 30"}), "F06"),
    "five axes": (meta_bytes({"NDims": "5", "DimSize": "2 3 2 2 5"}), "F06"),
    "negative size": (meta_bytes({"DimSize": "4 -5 6"}), "F06"),
    "number of axes and sizes differ": (meta_bytes({"NDims": "4"}), "F06"),
    "no channels": (meta_bytes({"ElementNumberOfChannels": "0"}), "F06"),
    "channels and a fourth axis": (
        meta_bytes({**FOUR_AXES, "ElementNumberOfChannels": "2", "DimSize": "2 3 2 5"}),
        "F06",
    ),
    "too few voxels": (meta_bytes(data=VOXELS[:-1]), "F04"),
    "more voxels than memory": (meta_bytes({"DimSize": "40000 50000 60000"}), "F04"),
    "bomb": (meta_bytes(ZIPPED, zlib.compress(bytes(40 << 20))), "F04"),
    "no spacing": (meta_bytes({"ElementSpacing": None}), "G07"),
    "a spacing too few": (meta_bytes({"ElementSpacing": "1 2"}), "G07"),
    "spacing of nothing": (meta_bytes({"ElementSpacing": "1 0 3"}), "G07"),
    "directions of NaN": (meta_bytes({"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}), "G07"),
    "several data files": (meta_bytes({"ElementDataFile": "LIST"}), "F05"),
    "numbered data files": (meta_bytes({"ElementDataFile": "a%03d.raw 1 6 1"}), "F05"),
    "data in another folder": (meta_bytes({"ElementDataFile": "../a.raw"}), "F05"),
    "data of the system": (meta_bytes({"ElementDataFile": "/etc/passwd"}), "F05"),
    "data that are not there": (meta_bytes({"ElementDataFile": "gone.raw"}), "F01"),
}


def load(file, role="image"):
    return load_volume(file, root=file.parent, role=role)


def check_id_of(file) -> str:
    with pytest.raises(FileFormatError) as caught:
        load(file)
    assert caught.value.where
    assert caught.value.fix
    return caught.value.check_id


@pytest.mark.parametrize(("changes", "data"), EQUAL.values(), ids=EQUAL.keys())
def test_equals_simpleitk(tmp_path, changes, data):
    file = tmp_path / "a.mha"
    file.write_bytes(meta_bytes(changes, data))
    facts, volume = load(file)
    array, affine = simpleitk_view(file)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-12)
    assert facts.format == "metaimage"


@pytest.mark.parametrize(("content", "check_id"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name(tmp_path, content, check_id):
    (tmp_path / "a.mha").write_bytes(content)
    assert check_id_of(tmp_path / "a.mha") == check_id


@pytest.mark.parametrize(
    "changes",
    [{"CompressedData": "True"}, {"CompressedData": "True", "CompressedDataSize": "0"}],
)
def test_where_simpleitk_returns_whatever_is_in_memory_we_read_the_voxels(tmp_path, changes):
    """SimpleITK 2.5 trusts CompressedDataSize and returns unset memory without an error."""
    (tmp_path / "a.mha").write_bytes(meta_bytes(changes, PACKED))
    _, volume = load(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.array.ravel(order="F"), np.arange(120))


def test_damage_that_simpleitk_does_not_see_is_refused(tmp_path):
    values = np.random.default_rng(0).integers(-1000, 1000, 120, dtype="<i2")
    packed = bytearray(zlib.compress(values.tobytes(), 0))
    packed[100] ^= 1
    fields = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    file = tmp_path / "a.mha"
    file.write_bytes(meta_bytes(fields, bytes(packed)))
    array, _ = simpleitk_view(file)
    assert not np.array_equal(array.ravel(), values)
    assert check_id_of(file) == "F03"
    file.write_bytes(meta_bytes(fields, bytes(packed[:-20])))
    assert check_id_of(file) == "F03"


def test_what_was_resolved_by_rule_is_noted(tmp_path):
    file = tmp_path / "a.mha"
    for changes, word in (
        ({"ElementSpacing": None, "ElementSize": "1 2 3"}, "ElementSize counts"),
        ({"TransformMatrix": None}, "no directions"),
        ({"Offset": None}, "no origin"),
        ({"ElementToIntensityFunctionSlope": "2"}, "rescaled"),
    ):
        file.write_bytes(meta_bytes(changes))
        assert word in " ".join(read_metaimage(file, root=tmp_path).facts.notes)
    file.write_bytes(meta_bytes())
    assert read_metaimage(file, root=tmp_path).facts.notes == ()


def test_a_detached_header_finds_its_data_beside_it(tmp_path):
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for name, packed in (("plain.mhd", False), ("packed.mhd", True)):
        file = write_volume(tmp_path / name, array, np.diag([1.0, 2, 3, 1]), packed=packed)
        facts, volume = load(file, "label")
        np.testing.assert_array_equal(volume.array, array)
        data_file = metaimage_data_file(file)
        assert data_file is not None
        assert facts.n_bytes == file.stat().st_size + data_file.stat().st_size
    assert metaimage_data_file(tmp_path / "gone.mhd") is None
    (tmp_path / "local.mhd").write_bytes(meta_bytes())
    assert metaimage_data_file(tmp_path / "local.mhd") is None


def test_bytes_before_the_voxels_of_a_data_file_are_skipped(tmp_path):
    header = meta_bytes({"HeaderSize": "5", "ElementDataFile": "a.raw"}, b"")
    (tmp_path / "a.mhd").write_bytes(header)
    (tmp_path / "a.raw").write_bytes(b"12345" + VOXELS)
    np.testing.assert_array_equal(load(tmp_path / "a.mhd")[1].array.ravel(order="F"), range(120))


def test_a_link_to_data_elsewhere_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "a.raw").write_bytes(VOXELS)
    (tmp_path / "data" / "a.mhd").write_bytes(meta_bytes({"ElementDataFile": "a.raw"}, b""))
    (tmp_path / "data" / "a.raw").symlink_to(tmp_path / "a.raw")
    assert check_id_of(tmp_path / "data" / "a.mhd") == "F05"


def test_free_text_of_the_header_goes_nowhere(tmp_path):
    file = tmp_path / "a.mha"
    file.write_bytes(meta_bytes(extra="PatientName = Jane Doe\nComment = Jane Doe\n"))
    assert "Jane" not in load(file)[0].model_dump_json()
