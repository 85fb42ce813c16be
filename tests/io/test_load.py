"""Volumes come in one shape whatever the file looked like, and nothing is resampled."""

import nibabel as nib
import numpy as np
import phantoms
import pytest
from format_builders import write_volume

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import oblique_degrees
from pipeline.io.load import is_volume_file, load_volume, source_files, strip_suffix

SHAPE = (4, 5, 6)
AFFINE = phantoms.affine_of(SHAPE, (1.0, 2.0, 3.0), "PIR", oblique_degrees=10)


def save(file, array, affine=AFFINE, slope=None, inter=0.0):
    image = nib.Nifti1Image(array, affine)
    image.header.set_data_dtype(array.dtype)
    raw = bytearray(image.to_bytes())
    if slope is not None:  # nibabel would rescale the voxels: put the factors into the header only
        raw[112:120] = np.array([slope, inter], dtype="<f4").tobytes()
        raw[352:] = array.tobytes(order="F")
    file.write_bytes(raw)
    return file


def load(file, role="image"):
    return load_volume(file, root=file.parent, role=role)


@pytest.mark.parametrize(
    ("name", "stem", "is_volume"),
    [
        ("a.nii.gz", "a", True),
        ("a.1.NII.GZ", "a.1", True),
        ("a.nii", "a", True),
        ("._a.nii.gz", "._a", False),
        (".nii.gz", ".nii.gz", False),
        ("a.seg.nrrd", "a", True),
        ("a.nhdr", "a", True),
        ("a.mha", "a", True),
        ("a.img.gz", "a", True),
        ("a.mif.gz", "a", False),
        ("a.dcm", "a", False),
        ("notes.txt", "notes.txt", False),
    ],
)
def test_names(tmp_path, name, stem, is_volume):
    assert strip_suffix(name) == stem
    assert is_volume_file(tmp_path / name) == is_volume


def test_image_has_channels_first_and_label_has_none(tmp_path):
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    file = save(tmp_path / "a.nii", array)
    facts, image = load(file)
    np.testing.assert_array_equal(image.array, array[np.newaxis])
    assert image.array.dtype == np.int16
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(load(file, "label")[1].array, array)
    assert facts.n_nonfinite == 0


def test_last_axis_of_one_is_no_axis(tmp_path):
    array = np.arange(120, dtype=np.int16).reshape(*SHAPE, 1)
    file = save(tmp_path / "a.nii", array)
    assert load(file, "label")[1].array.shape == SHAPE
    assert load(file, "image")[1].array.shape == (1, *SHAPE)
    assert load(file)[0].shape == (*SHAPE, 1)
    more = save(tmp_path / "b.nii", array.reshape(*SHAPE, 1, 1))
    assert load(more)[1].array.shape == (1, *SHAPE)


def test_several_volumes_are_channels_of_an_image_but_no_label(tmp_path):
    array = np.arange(240, dtype=np.int16).reshape(*SHAPE, 2)
    file = save(tmp_path / "a.nii", array)
    np.testing.assert_array_equal(load(file)[1].array, np.moveaxis(array, 3, 0))
    with pytest.raises(FileFormatError) as caught:
        load(file, "label")
    assert caught.value.check_id == "F06"


def test_slope_is_applied_only_where_it_changes_values(tmp_path):
    array = np.arange(120, dtype=np.uint8).reshape(SHAPE)
    scaled = load(save(tmp_path / "a.nii", array, slope=0.5, inter=-10.0))[1].array
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled[0], array * np.float32(0.5) - 10)
    np.testing.assert_allclose(
        scaled[0], nib.load(tmp_path / "a.nii").get_fdata(), rtol=1e-6, atol=1e-5
    )
    for slope, inter in ((1.0, 0.0), (0.0, 5.0), (np.nan, np.nan)):
        same = load(save(tmp_path / "b.nii", array, slope=slope, inter=inter))[1].array
        assert same.dtype == np.uint8
        np.testing.assert_array_equal(same[0], array)


def test_voxels_that_are_not_finite_are_kept_and_counted(tmp_path):
    array = np.ones(SHAPE, dtype=np.float32)
    array[0, 0, :2] = np.nan, np.inf
    facts, volume = load(save(tmp_path / "a.nii", array))
    assert facts.n_nonfinite == 2
    np.testing.assert_array_equal(volume.array[0], array)


def test_overflow_by_the_slope_is_counted(tmp_path):
    array = np.full(SHAPE, 1e30, dtype=np.float64)
    facts, _ = load(save(tmp_path / "a.nii", array, slope=1e20))
    assert facts.n_nonfinite == array.size


@pytest.mark.parametrize("name", ["a.nii", "a.mgz", "a", "a.dcm"])
def test_a_wrong_path_is_not_called_a_wrong_format(tmp_path, name):
    with pytest.raises(FileFormatError, match="no such file") as caught:
        load_volume(tmp_path / name, root=tmp_path, role="image")
    assert caught.value.check_id == "F01"


@pytest.mark.parametrize("name", ["a.mgz", "a.mnc", "a.mif", "a.txt"])
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(FileFormatError, match="not supported") as caught:
        load(tmp_path / name)
    assert caught.value.check_id == "F05"


def test_of_a_pair_the_voxels_count_and_a_lone_header_is_reported(tmp_path):
    image_file = write_volume(tmp_path / "a.img", np.zeros(SHAPE, np.uint8), AFFINE)
    assert is_volume_file(image_file)
    assert not is_volume_file(tmp_path / "a.hdr")
    (tmp_path / "b.hdr").write_bytes((tmp_path / "a.hdr").read_bytes())
    assert is_volume_file(tmp_path / "b.hdr")
    with pytest.raises(FileFormatError, match=r"b\.img, is not beside it") as caught:
        load(tmp_path / "b.hdr")
    assert caught.value.check_id == "F01"


def test_all_files_of_a_volume_are_its_sources(tmp_path):
    array = np.zeros(SHAPE, np.uint8)
    names = {
        "a.nii.gz": ["a.nii.gz"],
        "b.img": ["b.img", "b.hdr"],
        "c.mhd": ["c.mhd", "c.raw"],
        "d.nhdr": ["d.nhdr", "d.raw"],
    }
    for name, expected in names.items():
        file = write_volume(tmp_path / name, array, AFFINE, packed=False)
        assert [path.name for path in source_files(file)] == expected
    assert len(source_files(tmp_path)) == 7
    assert source_files(tmp_path / "gone.mhd") == (tmp_path / "gone.mhd",)


@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_a_dicom_label_needs_its_image(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(FileFormatError, match="no image is known"):
        load(tmp_path / name, "label")


def test_counting_in_slabs_finds_every_voxel_that_is_not_finite(tmp_path, monkeypatch):
    array = np.ones(SHAPE, dtype=np.float32)
    array[0, 0, :] = np.nan
    array[1, 1, 1] = -np.inf
    monkeypatch.setattr("pipeline.io.load._SLAB_VOXELS", 10)
    assert load(save(tmp_path / "a.nii", array))[0].n_nonfinite == 7


@pytest.mark.parametrize("suffix", [".nii.gz", ".img", ".nrrd", ".mha"])
def test_any_format_gives_the_same_channels(tmp_path, suffix):
    array = np.arange(240, dtype=np.int16).reshape(*SHAPE, 2)
    facts, image = load(write_volume(tmp_path / f"a{suffix}", array, AFFINE))
    np.testing.assert_array_equal(image.array, np.moveaxis(array, 3, 0))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert facts.shape == (*SHAPE, 2)
    assert facts.oblique_degrees == pytest.approx(oblique_degrees(AFFINE), abs=1e-3)
    assert facts.shear_degrees == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(FileFormatError) as caught:
        load(tmp_path / f"a{suffix}", "label")
    assert caught.value.check_id == "F06"


def test_singular_affine_places_nothing(tmp_path):
    affine = np.diag([1.0, 1.0, 0.0, 1.0])
    header = nib.Nifti1Header()
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None, header)
    image.header.set_sform(affine, 1)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    with pytest.raises(FileFormatError) as caught:
        load(tmp_path / "a.nii")
    assert caught.value.check_id == "G07"
