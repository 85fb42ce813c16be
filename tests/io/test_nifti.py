"""The byte-level reader agrees with nibabel or says, with a check id, why it refuses."""

import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from format_builders import write_volume
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import FileFormatError, GeometryError, UsageError
from pipeline.core.geometry import orientation_of, spacing_of
from pipeline.core.volume import Volume, to_ras
from pipeline.io.load import load_volume
from pipeline.io.nifti import pair_files, read_nifti, read_nifti_pair, write_nifti

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]


def read(file: Path):
    return read_nifti(file, root=file.parent)


def check_id_of(file: Path) -> str:
    with pytest.raises(FileFormatError) as caught:
        read(file)
    assert caught.value.where == str(file)
    assert caught.value.fix
    return caught.value.check_id


@pytest.fixture
def plain(tmp_path) -> Path:
    """A small uncompressed int16 file."""
    array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    affine = phantoms.affine_of((6, 5, 4), (1.0, 2.0, 3.0), "LPS")
    return phantoms.write_nifti(tmp_path / "plain.nii", array, affine)


def patched(file: Path, offset: int, content: bytes) -> Path:
    raw = bytearray(file.read_bytes())
    raw[offset : offset + len(content)] = content
    file.write_bytes(raw)
    return file


# --- parity -----------------------------------------------------------------------------------


def test_one_brain_in_48_axis_orders_is_one_brain(shared_data):
    folder = shared_data / "weird_nifti" / "niivue_tests" / "nifti_space"
    files = sorted(folder.glob("*.nii.gz"))
    assert len(files) == 48
    reference = None
    for file in files:
        facts, volume = load_volume(file, root=folder, role="label")
        assert orientation_of(np.array(facts.affine)) == file.name[:3]
        array = to_ras(volume).array
        reference = array if reference is None else reference
        np.testing.assert_array_equal(array, reference)


def test_affine_without_codes_is_nibabels_centred_grid(plain):
    patched(plain, 252, bytes(4))  # qform_code, sform_code
    facts = read(plain).facts
    assert facts.affine_source == "pixdim"
    assert facts.sform is None
    assert facts.qform is None
    np.testing.assert_array_equal(np.array(facts.affine), nib.load(plain).affine)


def test_qform_is_used_where_there_is_no_sform(plain):
    patched(plain, 254, bytes(2))  # sform_code
    facts = read(plain).facts
    assert (facts.affine_source, facts.sform, facts.sform_code) == ("qform", None, 0)
    np.testing.assert_allclose(np.array(facts.affine), nib.load(plain).affine)


def test_voxels_are_a_read_only_view(plain):
    array = read(plain).array
    assert array.base is not None
    assert array.flags.f_contiguous
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_versions_and_byte_orders(tmp_path, kind, order):
    array = np.arange(24, dtype=f"{order}i4").reshape(2, 3, 4)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    file = tmp_path / "a.nii"
    file.write_bytes(kind(array, np.diag([2.0, 3, 4, 1]), header).to_bytes())
    raw = read(file)
    np.testing.assert_array_equal(raw.array, array)
    assert raw.facts.format == ("nifti2" if kind is nib.Nifti2Image else "nifti1")
    assert raw.facts.dtype == "int32"
    assert spacing_of(np.array(raw.facts.affine)) == (2.0, 3.0, 4.0)


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_number_type_in_both_byte_orders_keeps_its_extremes(tmp_path, dtype, kind):
    limits = np.finfo(dtype) if dtype[0] == "f" else np.iinfo(dtype)
    array = np.array([limits.min, limits.max, 0, 1] * 6, dtype).reshape(2, 3, 4)
    for order in "<>":
        header = kind.header_class(endianness=order)
        header.set_data_dtype(array.dtype)
        file = tmp_path / "a.nii"
        file.write_bytes(kind(array, np.eye(4), header).to_bytes())
        raw = read(file)
        assert raw.facts.dtype == array.dtype.name
        np.testing.assert_array_equal(raw.array, array)


@pytest.mark.parametrize("extra", [(), (1,), (1, 1), (1, 1, 1, 1), (3,), (3, 1, 1)])
def test_axes_of_one_behind_the_volume_are_kept_as_facts(tmp_path, extra):
    array = np.arange(24 * max(1, *extra, 1), dtype=np.int16).reshape(2, 3, 4, *extra)
    file = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), file)
    facts, volume = load_volume(file, root=tmp_path, role="image")
    assert facts.shape == array.shape
    expected = array.reshape(2, 3, 4, -1)
    np.testing.assert_array_equal(volume.array, np.moveaxis(expected, 3, 0))


def test_a_large_compressed_file_is_streamed_to_the_same_result(tmp_path, monkeypatch, plain):
    zipped = plain.with_suffix(".nii.gz")
    zipped.write_bytes(gzip.compress(plain.read_bytes() + b"12345", 0))
    expected = read(zipped)
    monkeypatch.setattr("pipeline.io.nifti._STREAM_ABOVE_BYTES", 100)
    streamed = read(zipped)
    assert streamed.facts == expected.facts
    np.testing.assert_array_equal(streamed.array, expected.array)
    monkeypatch.setattr("pipeline.io.nifti._HEAD_BYTES", 360)
    zipped.write_bytes(zipped.read_bytes()[:-20])
    assert check_id_of(zipped) == "F03"


# --- pairs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.img", "a.img.gz"])
def test_a_pair_is_read_from_either_file(tmp_path, name):
    array = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    affine = phantoms.affine_of((6, 5, 4), (1.0, 2.0, 3.0), "PIR", oblique_degrees=10)
    file = write_volume(tmp_path / name, array, affine)
    for half in pair_files(file):
        raw = read_nifti_pair(half, root=tmp_path)
        np.testing.assert_array_equal(raw.array, array)
        np.testing.assert_array_equal(np.array(raw.facts.affine), nib.load(file).affine)
        assert raw.facts.file == name
        assert raw.facts.n_bytes == sum(path.stat().st_size for path in pair_files(file))


def test_halves_of_a_pair_may_differ_in_packing_and_case(tmp_path):
    file = write_volume(tmp_path / "a.img", np.ones((2, 3, 4), np.uint8), np.eye(4))
    packed = tmp_path / "a.img.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert read_nifti_pair(tmp_path / "a.hdr", root=tmp_path).array.sum() == 24
    (tmp_path / "B.HDR").write_bytes((tmp_path / "a.hdr").read_bytes())
    (tmp_path / "B.IMG").write_bytes(gzip.decompress(packed.read_bytes()))
    assert read_nifti_pair(tmp_path / "B.IMG", root=tmp_path).array.sum() == 24


@pytest.mark.parametrize(
    ("magic", "words"), [(bytes(4), "Analyze 7.5"), (b"n+1\0", "single"), (b"what", "magic")]
)
def test_pairs_of_other_kinds_are_refused(tmp_path, magic, words):
    file = write_volume(tmp_path / "a.img", np.ones((2, 3, 4), np.uint8), np.eye(4))
    patched(tmp_path / "a.hdr", 344, magic)
    with pytest.raises(FileFormatError, match=words) as caught:
        read_nifti_pair(file, root=tmp_path)
    assert caught.value.check_id == "F05"


def test_half_a_pair_is_named(tmp_path):
    file = write_volume(tmp_path / "a.img", np.ones((2, 3, 4), np.uint8), np.eye(4))
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(FileFormatError, match=r"its header, a\.hdr") as caught:
        read_nifti_pair(file, root=tmp_path)
    assert caught.value.check_id == "F01"


# --- planted faults ---------------------------------------------------------------------------


def test_truncated_files_are_refused(plain):
    zipped = plain.with_suffix(".nii.gz")
    zipped.write_bytes(gzip.compress(plain.read_bytes())[:-12])
    assert check_id_of(zipped) == "F03"
    plain.write_bytes(plain.read_bytes()[:-1])
    assert check_id_of(plain) == "F04"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert check_id_of(zipped) == "F04"


def test_truncation_inside_the_header_is_still_truncation(plain):
    zipped = plain.with_suffix(".nii.gz")
    zipped.write_bytes(gzip.compress(np.random.default_rng(0).bytes(5000))[:200])
    assert check_id_of(zipped) == "F03"


def test_bytes_after_the_voxels_are_counted_not_refused(plain):
    plain.write_bytes(plain.read_bytes() + b"12345")
    assert read(plain).facts.n_trailing_bytes == 5
    zipped = plain.with_suffix(".nii.gz")
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    raw = read(zipped)
    assert raw.facts.n_trailing_bytes == 5
    assert raw.array[5, 4, 3] == 119


def test_names_that_lie_are_refused(tmp_path, plain):
    text = tmp_path / "text.nii.gz"
    text.write_text("this is a text file\n" * 100)
    assert check_id_of(text) == "F02"
    unzipped = plain.rename(tmp_path / "unzipped.nii.gz")
    assert check_id_of(unzipped) == "F02"
    zipped = tmp_path / "zipped.nii"
    zipped.write_bytes(gzip.compress(unzipped.read_bytes()))
    assert check_id_of(zipped) == "F02"
    short = tmp_path / "short.nii.gz"
    short.write_bytes(gzip.compress(b"short"))
    assert check_id_of(short) == "F02"


@pytest.mark.parametrize(
    ("offset", "content", "check_id"),
    [
        (0, b"\x00\x00\x00\x00", "F05"),  # sizeof_hdr
        (344, b"ni1\0", "F05"),  # magic of a pair
        (344, b"\0\0\0\0", "F05"),  # Analyze 7.5
        (70, (1536).to_bytes(2, "little"), "F05"),  # float128
        (70, (4711).to_bytes(2, "little"), "F05"),
        (40, (2).to_bytes(2, "little"), "F06"),  # two axes
        (40, (9).to_bytes(2, "little"), "F06"),
        (42, (-6).to_bytes(2, "little", signed=True), "F06"),
        (42, (0).to_bytes(2, "little"), "F06"),
        (42, (30000).to_bytes(2, "little"), "F04"),  # more voxels than bytes
        (108, np.float32(10).tobytes(), "F05"),  # voxels inside the header
        (108, np.float32(np.nan).tobytes(), "F05"),
        (116, np.float32(np.nan).tobytes(), "F05"),  # scl_inter beside a slope
    ],
)
def test_headers_that_cannot_be_trusted_are_refused(plain, offset, content, check_id):
    patched(plain, 112, np.float32(2).tobytes())  # scl_slope
    assert read(plain).facts.scl_slope == 2.0
    patched(plain, offset, content)
    assert check_id_of(plain) == check_id


@given(st.data())
def test_no_damaged_header_ever_crashes_the_reader(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "fuzzed.nii"
    affine = np.diag([1.0, 2, 3, 1])
    phantoms.write_nifti(file, np.zeros((4, 4, 4), np.int16), affine)
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw)
    refusals = []
    try:
        load_volume(file, root=file.parent, role="image")
    except FileFormatError as error:
        refusals.append(error.check_id)
    assert set(refusals) <= {"F04", "F05", "F06", "G07"}


def test_affine_that_is_not_finite_gives_facts_but_no_volume(plain):
    patched(plain, 280, np.float32(np.nan).tobytes())  # srow_x[0]
    facts = read(plain).facts
    assert np.all(np.array(facts.affine) == 0)
    assert facts.sform is None
    with pytest.raises(FileFormatError) as caught:
        load_volume(plain, root=plain.parent, role="image")
    assert caught.value.check_id == "G07"


# --- writing ----------------------------------------------------------------------------------


@given(
    st.sampled_from(ORIENTATIONS),
    st.floats(0, 40),
    st.sampled_from([".nii", ".nii.gz"]),
    st.tuples(*[st.floats(0.3, 8.0)] * 3),
)
def test_what_is_written_is_read_back(tmp_path_factory, orientation, angle, suffix, spacing_mm):
    folder = tmp_path_factory.getbasetemp()
    shape = (4, 5, 6)
    affine = phantoms.affine_of(shape, spacing_mm, orientation, oblique_degrees=angle)
    array = np.arange(120, dtype=np.int64).reshape(shape)
    for like in (None, "first"):
        file = folder / f"round_{like}{suffix}"
        facts = None if like is None else read_nifti(folder / f"round_None{suffix}", root=folder)
        write_nifti(file, Volume(array, affine), like=facts.facts if facts else None)
        raw = read_nifti(file, root=folder)
        np.testing.assert_array_equal(raw.array, array)
        np.testing.assert_allclose(np.array(raw.facts.affine), affine, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(np.array(raw.facts.qform), affine, rtol=1e-4, atol=1e-3)
        assert raw.facts.dtype == "uint8"


def test_prediction_lies_like_its_image_in_every_header_field(shared_data, tmp_path):
    root = shared_data / "weird_nifti"
    for name in (
        "nibabel/anatomical.nii",  # big-endian, both codes 2
        "nifti_rs/minimal.nii.gz",  # no codes
        "nifti_jl/avg152T1_LR_nifti.nii.gz",  # sform only
        "nifti_rs/zstat1.nii.gz",  # qform only
        "dipy/aniso_vox.nii.gz",  # oblique
        "nibabel/example_nifti2.nii.gz",  # 4-D
    ):
        facts = read_nifti(root / name, root=root).facts
        label = np.zeros(facts.shape[:3], dtype=np.uint8)
        file = tmp_path / "label.nii.gz"
        write_nifti(file, Volume(label, np.array(facts.affine)), like=facts)
        written = read_nifti(file, root=tmp_path).facts
        for field in ("affine_source", "sform_code", "qform_code", "sform"):
            assert getattr(written, field) == getattr(facts, field), (name, field)
        for field in ("affine", "qform", "pixdim_mm"):
            expected = getattr(facts, field)
            if expected is not None:
                np.testing.assert_allclose(
                    np.array(getattr(written, field)), np.array(expected), rtol=1e-4, atol=1e-3
                )


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 1], "uint8"),
        ([0, 255], "uint8"),
        ([0, 256], "uint16"),
        ([0, 70000], "uint32"),
        ([-1, 100], "int8"),
        ([0.5, 1.0], "float64"),
    ],
)
def test_smallest_number_type_without_rescaling(tmp_path, values, dtype):
    array = np.array(values * 4).reshape(2, 2, 2)
    write_nifti(tmp_path / "a.nii.gz", Volume(array, np.eye(4)), like=None)
    raw = read(tmp_path / "a.nii.gz")
    assert raw.facts.dtype == dtype
    assert raw.facts.scl_slope in (None, 1.0)
    np.testing.assert_array_equal(raw.array, array)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(), array)


def test_channels_become_the_fourth_axis(tmp_path):
    array = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    write_nifti(tmp_path / "a.nii", Volume(array, np.eye(4)), like=None)
    assert read(tmp_path / "a.nii").facts.shape == (2, 3, 4, 2)
    volume = load_volume(tmp_path / "a.nii", root=tmp_path, role="image")[1]
    np.testing.assert_array_equal(volume.array, array)


def test_a_long_axis_needs_nifti2(tmp_path):
    array = np.zeros((40000, 1, 1), dtype=np.uint8)
    write_nifti(tmp_path / "a.nii", Volume(array, np.eye(4)), like=None)
    assert read(tmp_path / "a.nii").facts.format == "nifti2"


def test_wrong_grid_or_name_is_refused_and_nothing_is_left(tmp_path, plain):
    facts = read(plain).facts
    affine = np.array(facts.affine)
    file = tmp_path / "out.nii.gz"
    with pytest.raises(GeometryError, match="shape"):
        write_nifti(file, Volume(np.zeros((5, 6, 4), np.uint8), affine), like=facts)
    with pytest.raises(GeometryError, match="affine"):
        write_nifti(file, Volume(np.zeros((6, 5, 4), np.uint8), np.eye(4)), like=facts)
    with pytest.raises(UsageError, match="NIfTI name"):
        write_nifti(tmp_path / "out.mha", Volume(np.zeros((6, 5, 4), np.uint8), affine), like=None)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.nii"]


def test_same_content_gives_same_bytes(tmp_path):
    volume = Volume(np.ones((3, 3, 3), np.uint8), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, volume, like=None)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
