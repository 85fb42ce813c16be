"""One case: turned to RAS, stored untouched; bad files are recorded, never raised."""

import tracemalloc

import nibabel as nib
import numpy as np
import phantoms
import pytest
from format_builders import nrrd_bytes, write_volume

from pipeline.core.geometry import orientation_of
from pipeline.ingest.conform import conform_case, source_stamps
from pipeline.io.pairing import CaseFiles
from pipeline.io.store import open_array

SPACING_MM = (1.0, 2.0, 3.0)


def conform(folder, files):
    work = folder / "work"
    return conform_case(files, root=folder, store_dir=work / "store", work_root=work), work


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_every_orientation_is_stored_as_the_same_arrays(tmp_path, orientation):
    expected, label, affine = phantoms.case(0, (20, 22, 24), SPACING_MM, "RAS")
    image_there, label_there, affine_there = phantoms.case(0, (20, 22, 24), SPACING_MM, orientation)
    files = CaseFiles(
        "a",
        (phantoms.write_nifti(tmp_path / "image.nii.gz", image_there, affine_there),),
        phantoms.write_nifti(tmp_path / "label.nii.gz", label_there, affine_there),
    )
    record, work = conform(tmp_path, files)
    assert record.status == "ready"
    assert record.problems == ()
    assert record.image.source_orientation == record.label.source_orientation == orientation
    np.testing.assert_array_equal(open_array(work, record.image), expected[np.newaxis])
    np.testing.assert_array_equal(open_array(work, record.label), label)
    np.testing.assert_allclose(np.array(record.image.affine), affine, atol=1e-5)
    assert orientation_of(np.array(record.label.affine)) == "RAS"
    assert orientation_of(np.array(record.image_files[0].affine)) == orientation


@pytest.fixture
def pair(tmp_path):
    image, label, affine = phantoms.case(0, (20, 20, 20), SPACING_MM)
    phantoms.write_nifti(tmp_path / "image.nii.gz", image, affine)
    phantoms.write_nifti(tmp_path / "label.nii.gz", label, affine)
    return CaseFiles("a", (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz")


@pytest.mark.parametrize("role", ["image", "label"])
def test_an_unreadable_file_is_recorded_with_its_role(tmp_path, pair, role):
    file = tmp_path / f"{role}.nii.gz"
    file.write_bytes(file.read_bytes()[:-100])
    record, work = conform(tmp_path, pair)
    assert (record.status, record.image, record.label) == ("unreadable", None, None)
    (problem,) = record.problems
    assert (problem.check_id, problem.file) == ("F03", f"{role}.nii.gz")
    assert problem.message.startswith(f"{role}: ")
    assert (len(record.image_files), record.label_file is None) == (
        (0, False) if role == "image" else (1, True)
    )
    assert not [*(work / "store").glob("*")]


def test_both_files_may_be_bad(tmp_path, pair):
    for file in (*pair.images, pair.label):
        file.write_text("no volume")
    record, _ = conform(tmp_path, pair)
    assert [p.check_id for p in record.problems] == ["F02", "F02"]


def test_label_values_and_grid_are_not_touched(tmp_path, pair):
    odd = np.full((7, 8, 9), 1.5, dtype=np.float64)
    odd[0, 0, 0] = -3
    phantoms.write_nifti(tmp_path / "label.nii.gz", odd, np.eye(4))
    record, work = conform(tmp_path, pair)
    assert record.status == "ready"
    np.testing.assert_array_equal(open_array(work, record.label), odd)


def test_channels_of_several_files(tmp_path, pair):
    image, _, affine = phantoms.case(1, (20, 20, 20), SPACING_MM, "LPS")
    other = phantoms.write_nifti(tmp_path / "other.nii.gz", image, affine)
    record, work = conform(tmp_path, CaseFiles("a", (*pair.images, other), pair.label))
    assert record.image.shape == (2, 20, 20, 20)
    assert len(record.image_files) == 2
    np.testing.assert_array_equal(open_array(work, record.image)[1], image[::-1, ::-1])
    moved = phantoms.write_nifti(tmp_path / "moved.nii.gz", image, affine + np.eye(4)[:, ::-1] * 5)
    record, _ = conform(tmp_path, CaseFiles("a", (*pair.images, moved), pair.label))
    assert record.status == "unreadable"
    (problem,) = record.problems
    assert (problem.check_id, problem.file) == ("G15", "moved.nii.gz")
    assert "channel 1" in problem.message


def test_nothing_personal_from_the_header_is_kept(tmp_path, pair):
    image = nib.load(pair.images[0])
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"Doe^Jane"
    nib.save(image, pair.images[0])
    record, work = conform(tmp_path, pair)
    assert record.status == "ready"
    assert "Doe" not in record.model_dump_json()
    stored = b"".join(f.read_bytes() for f in work.rglob("*") if f.is_file())
    assert b"Doe" not in stored


def test_stamps_see_missing_files(tmp_path, pair):
    pair.label.unlink()
    image, label = source_stamps(pair, tmp_path)
    assert image.n_bytes > 0
    assert label.n_bytes == -1


@pytest.mark.parametrize("suffix", [".nii.gz", ".img", ".nrrd", ".mha", ".mhd"])
def test_every_format_is_stored_as_the_same_arrays(tmp_path, pair, suffix):
    image, label, affine = phantoms.case(0, (20, 20, 20), SPACING_MM)
    files = CaseFiles(
        "b",
        (write_volume(tmp_path / f"i{suffix}", image, affine),),
        write_volume(tmp_path / f"l{suffix}", label, affine),
    )
    record, _ = conform(tmp_path, files)
    expected, _ = conform(tmp_path, pair)
    assert record.status == "ready"
    assert record.image.content_hash == expected.image.content_hash
    assert record.label.content_hash == expected.label.content_hash
    np.testing.assert_allclose(np.array(record.image.affine), affine, atol=1e-5)


def test_segments_get_the_values_of_their_names(tmp_path):
    extra = "Segment0_Name:=liver\nSegment0_LabelValue:=3\nSegment0_Layer:=0\n"
    label = np.full(120, 3, "<i2")
    (tmp_path / "image.nrrd").write_bytes(nrrd_bytes())
    (tmp_path / "label.seg.nrrd").write_bytes(nrrd_bytes(data=label.tobytes(), extra=extra))
    images, labels = (tmp_path / "image.nrrd",), tmp_path / "label.seg.nrrd"
    for values, expected in ((None, 3), ({"liver": (9,), "tumor": (2,)}, 9)):
        files = CaseFiles("a", images, labels, label_values=values)
        record, work = conform(tmp_path, files)
        assert record.label_file.segments == {"liver": expected}
        assert np.all(open_array(work, record.label) == expected)


def test_masks_of_a_case_are_one_label(tmp_path, pair):
    label = np.asanyarray(nib.load(pair.label).dataobj)
    affine = nib.load(pair.label).affine
    masks = tuple(
        phantoms.write_nifti(tmp_path / "masks" / f"{n}.nii.gz", (label == n).astype("u1"), affine)
        for n in (1, 2)
    )
    values = {"1": (1,), "2": (2,)}
    files = CaseFiles("a", pair.images, tmp_path / "masks", masks=masks, label_values=values)
    record, work = conform(tmp_path, files)
    expected, _ = conform(tmp_path, pair)
    assert np.array_equal(open_array(work, record.label), open_array(work, expected.label))
    assert [stamp.file for stamp in record.sources] == [
        "image.nii.gz",
        "masks/1.nii.gz",
        "masks/2.nii.gz",
    ]


def test_a_case_takes_no_more_memory_than_its_voxels_twice(tmp_path):
    """Voxels as read and as stored: the image is gone when the label is read."""
    shape = (96, 128, 160)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 500, shape, dtype=np.int16)
    label = rng.integers(0, 2, shape, dtype=np.int16)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    files = CaseFiles(
        "a",
        (phantoms.write_nifti(tmp_path / "i.nii.gz", image, affine),),
        phantoms.write_nifti(tmp_path / "l.nii.gz", label, affine),
    )
    n_file_bytes = (tmp_path / "i.nii.gz").stat().st_size
    tracemalloc.start()
    try:
        conform(tmp_path, files)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 * image.nbytes + n_file_bytes + (1 << 20)
