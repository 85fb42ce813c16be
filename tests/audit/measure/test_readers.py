import gzip
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from audit_builders import TASK
from phantoms import affine_of, write_nifti

from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measure.readers import compare_readers
from pipeline.audit.rows import open_view
from pipeline.ingest.conform import conform_case
from pipeline.io.discover import CaseFiles

SHAPE = (12, 14, 16)
BOTH = ImageLimits()
PIXDIM_K, SCL_SLOPE, QFORM_CODE = 76 + 12, 112, 252


def image_of(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(1, 99, shape).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    affine = affine_of(SHAPE, (1.0, 2.0, 3.0), "LPS", oblique_degrees=12.0)
    write_nifti(tmp_path / "image.nii.gz", image_of(), affine)
    write_nifti(tmp_path / "label.nii.gz", (image_of() > 50).astype(np.uint8), affine)
    return tmp_path


def view_of(folder, images=("image.nii.gz",)):
    files = CaseFiles(
        case_id="case",
        images=tuple(folder / name for name in images),
        label=folder / "label.nii.gz",
    )
    work = folder / "work"
    record = conform_case(files, root=folder, store_dir=work / "store", work_root=work)
    return open_view(record, TASK, work, folder)


def read_image(folder):
    return compare_readers(view_of(folder), BOTH)[0]


def patch(file, offset, form, *values):
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<" + form, content, offset, *values)
    file.write_bytes(gzip.compress(bytes(content), mtime=0))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_sound_files_read_alike(tmp_path, orientation, dtype):
    affine = affine_of(SHAPE, (0.7, 2.0, 3.3), orientation, oblique_degrees=20.0)
    write_nifti(tmp_path / "image.nii.gz", image_of().astype(dtype), affine)
    write_nifti(tmp_path / "label.nii.gz", (image_of(1) > 50).astype(np.uint8), affine)
    image, label = compare_readers(view_of(tmp_path), BOTH)
    assert (image.role, label.role) == ("image", "label")
    assert image.n_different_voxels == label.n_different_voxels == 0
    assert image.corner_shift_voxels == pytest.approx(0, abs=1e-4)
    assert image.shape == SHAPE


def test_channels_in_one_file_and_in_several(folder):
    affine = affine_of(SHAPE, (1.0, 2.0, 3.0), "LPS", oblique_degrees=12.0)
    write_nifti(folder / "both.nii.gz", np.stack([image_of(), image_of(1)], -1), affine)
    write_nifti(folder / "second.nii.gz", image_of(1), affine)
    (both, _) = compare_readers(view_of(folder, ("both.nii.gz",)), BOTH)
    assert (both.shape, both.n_different_voxels) == ((*SHAPE, 2), 0)
    readings = compare_readers(view_of(folder, ("image.nii.gz", "second.nii.gz")), BOTH)
    assert [r.n_different_voxels for r in readings] == [0, 0, 0]


def test_rounding_of_a_rescaled_image_is_no_difference(folder):
    patch(folder / "image.nii.gz", SCL_SLOPE, "ff", 0.37, -3.1)
    assert read_image(folder).n_different_voxels == 0


def test_nan_that_the_other_reader_zeroes_is_counted_with_its_place(folder):
    image = image_of().astype(np.float32)
    image[3, 4, 5] = np.nan
    image[8, 4, 5] = np.inf
    write_nifti(folder / "image.nii.gz", image, affine_of(SHAPE, (1.0, 2.0, 3.0), "RAS"))
    reading = read_image(folder)
    assert reading.n_different_voxels == 2
    assert reading.different_voxel == (3, 4, 5)
    assert reading.values == "nan here, 0 in SimpleITK"


def test_an_intercept_beside_a_slope_of_zero_is_applied_by_one_reader_only(folder):
    patch(folder / "image.nii.gz", SCL_SLOPE, "ff", 0.0, 3.0)
    assert read_image(folder).n_different_voxels == image_of().size


def test_a_file_without_position_lies_elsewhere(folder):
    patch(folder / "image.nii.gz", QFORM_CODE, "hh", 0, 0)
    assert read_image(folder).corner_shift_voxels > 10


def test_pixdim_that_contradicts_the_affine(folder):
    patch(folder / "image.nii.gz", PIXDIM_K, "f", 9.0)
    patch(folder / "image.nii.gz", QFORM_CODE, "h", 0)
    assert read_image(folder).corner_shift_voxels > 10


def test_shear_is_refused_with_a_reason_in_one_line(folder):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.1
    sheared = nib.Nifti1Image(image_of(), affine)
    sheared.set_sform(affine, 1)
    sheared.set_qform(None, 0)
    nib.save(sheared, folder / "image.nii.gz")
    reading = read_image(folder)
    assert "orthonormal" in reading.error
    assert "\n" not in reading.error
    assert ".cxx" not in reading.error


def test_a_truncated_file_that_we_refuse_is_taken_with_zeros(folder):
    raw = (folder / "image.nii.gz").read_bytes()
    (folder / "image.nii.gz").write_bytes(raw[: len(raw) // 2])
    (label, image) = compare_readers(view_of(folder), BOTH)
    assert (label.role, image.role) == ("label", "image")
    assert image.error == ""
    assert image.shape == SHAPE
    assert image.values.endswith("% of its voxels are 0")


def test_missing_voxels_and_a_wrong_name_are_tried_too(folder):
    content = gzip.decompress((folder / "image.nii.gz").read_bytes())
    (folder / "image.nii.gz").write_bytes(content)
    (folder / "label.nii.gz").write_bytes(gzip.compress(content[:-500]))
    by_role = {r.role: r for r in compare_readers(view_of(folder), BOTH)}
    assert set(by_role) == {"image", "label"}
    assert all(r.error == "" for r in by_role.values())


# Named, as a time stamp in the zipped one would give every collecting process another name for it.
@pytest.mark.parametrize(
    "content",
    [b"", b"hello" * 200, gzip.compress(b"hello" * 200, mtime=0), b"\x1f\x8b" + bytes(500)],
    ids=["empty", "text", "zipped text", "only the start of a zip"],
)
def test_what_is_no_volume_is_never_handed_over(folder, content):
    (folder / "image.nii.gz").write_bytes(content)
    assert [r.role for r in compare_readers(view_of(folder), BOTH)] == ["label"]


def test_a_header_that_promises_the_world_is_not_believed(folder):
    patch(folder / "image.nii.gz", 40, "8h", 3, 32000, 32000, 32000, 1, 1, 1, 1)
    assert [r.role for r in compare_readers(view_of(folder), BOTH)] == ["label"]


def test_more_than_four_axes_would_end_the_process(folder):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    write_nifti(folder / "image.nii.gz", np.stack([image_of()] * 2, -1)[..., None], affine)
    assert [r.role for r in compare_readers(view_of(folder), BOTH)] == ["label"]
    write_nifti(folder / "label.nii.gz", np.zeros((8, 8, 8, 1, 3), np.float32), affine)
    assert compare_readers(view_of(folder), BOTH) == ()


def test_nothing_is_read_if_not_wanted_or_not_there(folder):
    view = view_of(folder)
    assert compare_readers(view, ImageLimits(readers="own")) == ()
    assert compare_readers(replace(view, dataset_root=None), BOTH) == ()
    (folder / "image.nii.gz").unlink()
    assert [r.role for r in compare_readers(view, BOTH)] == ["label"]


def test_voxels_of_a_case_that_was_not_stored_are_not_compared(folder):
    view = replace(view_of(folder), image=None, label=None)
    assert [r.n_different_voxels for r in compare_readers(view, BOTH)] == [None, None]
    assert all(r.corner_shift_voxels is not None for r in compare_readers(view, BOTH))
