"""Datasets under pseudonyms: every format still reads the same, and no name shows."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its usual name
from phantoms import affine_of, write_dataset
from trees import touch

from pipeline.core.errors import DataError, UsageError
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.disguise import Naming, disguise, open_named, original_source
from pipeline.ingest.stage import ingest
from pipeline.io.discover import discover
from pipeline.io.load import load_volume

HIDDEN = IngestConfig(pseudonymize=True)


def ingested(data, workspace, config=HIDDEN):
    return ingest(config, TaskConfig(), data, workspace, NullTracker())


def original(workspace, pseudonym):
    lines = (workspace.root / "pseudonyms.csv").read_text().splitlines()
    return next(line.split(",")[1] for line in lines if line.startswith(f"{pseudonym},"))


def test_the_same_voxels_under_other_names(tmp_path):
    data = write_dataset(tmp_path / "set", 4, 0)
    plain = ingested(data, Workspace(tmp_path / "plain"), IngestConfig())
    workspace = Workspace(tmp_path / "work")
    hidden = ingested(data, workspace)
    assert hidden.digest == plain.digest
    assert [case.case_id for case in hidden.cases] == [f"case_{n:04d}" for n in range(1, 5)]
    hashes = {case.case_id: case.image.content_hash for case in plain.cases}
    for case in hidden.cases:
        assert case.image.content_hash == hashes[original(workspace, case.case_id)]
        assert [f.file for f in case.image_files] == [f"{case.case_id}/image.nii.gz"]
        assert case.label_file.file == f"{case.case_id}/label.nii.gz"
    assert hidden.root == tmp_path / "work" / "pseudonyms" / "set" / "files"
    assert hidden.source is None
    assert hidden.task == plain.task
    assert original_source(hidden.root) == data
    assert original_source(plain.root) is None


def test_pseudonyms_last_and_finished_cases_are_kept(tmp_path, caplog):
    data = write_dataset(tmp_path / "set", 3, 0)
    workspace = Workspace(tmp_path / "work")
    first = ingested(data, workspace)
    caplog.set_level("INFO")
    # Without being asked again: half the names in a work folder would be none hidden.
    assert ingested(data, workspace, IngestConfig()) == first
    assert "this work folder uses pseudonyms" in caplog.text
    assert "nothing changed" in caplog.text
    caplog.clear()
    for part in ("images", "labels"):
        file = data / f"{part}Tr" / "case_000.nii.gz"
        shutil.copy(file, file.with_name("aaa.nii.gz"))
    second = ingested(data, workspace)
    assert "1 cases read, 3 kept" in caplog.text
    assert second.cases[:3] == first.cases
    assert original(workspace, second.cases[3].case_id) == "aaa"
    # A dataset that has moved is the same one.
    shutil.move(data, tmp_path / "elsewhere" / "set")
    third = ingested(tmp_path / "elsewhere" / "set", workspace)
    assert [c.image for c in third.cases] == [c.image for c in second.cases]
    assert original_source(third.root) == tmp_path / "elsewhere" / "set"


def test_a_changed_file_is_read_again(tmp_path):
    data = write_dataset(tmp_path / "set", 2, 0)
    workspace = Workspace(tmp_path / "work")
    first = ingested(data, workspace)
    shutil.copy(data / "imagesTr/case_000.nii.gz", data / "imagesTr/case_001.nii.gz")
    shutil.copy(data / "labelsTr/case_000.nii.gz", data / "labelsTr/case_001.nii.gz")
    second = ingested(data, workspace)
    assert second.digest != first.digest
    assert len({case.image.content_hash for case in second.cases}) == 1


def test_a_work_folder_with_names_in_it_is_not_hidden_later(tmp_path):
    data = write_dataset(tmp_path / "set", 2, 0)
    workspace = Workspace(tmp_path / "work")
    ingested(data, workspace, IngestConfig())
    with pytest.raises(UsageError, match="under their own names") as raised:
        ingested(data, workspace)
    assert "--work" in raised.value.fix
    assert not (workspace.root / "pseudonyms.csv").exists()


def test_problems_are_counted_and_told_in_private(tmp_path):
    data = write_dataset(tmp_path / "set", 2, 0)
    shutil.copy(data / "labelsTr/case_000.nii.gz", data / "labelsTr/musterfrau.nii.gz")
    (data / "imagesTr" / "musterfrau.nii.gz").write_bytes(b"none")
    shutil.copy(data / "labelsTr/case_000.nii.gz", data / "labelsTr/mustermann.nii.gz")
    workspace = Workspace(tmp_path / "work")
    manifest = ingested(data, workspace)
    text = (workspace.root / "ingest" / "dataset.json").read_text()
    assert "muster" not in text
    assert "case_000." not in text
    (unreadable,) = [case for case in manifest.cases if case.status == "unreadable"]
    assert unreadable.problems[0].file == f"{unreadable.case_id}/image.nii.gz"
    # dataset.json promises fewer cases than there are labels, and one label has no image.
    assert [problem.check_id for problem in manifest.problems] == ["E12", "F01"]
    assert "problems.txt line 2" in manifest.problems[1].message
    lines = (workspace.root / "pseudonyms/set/problems.txt").read_text().splitlines()
    assert "no image for mustermann.nii.gz" in lines[1]


def test_a_dataset_that_cannot_be_opened_says_why_in_private(tmp_path):
    touch(tmp_path / "set", "musterfrau/notes.txt", "musterfrau.doc")
    workspace = Workspace(tmp_path / "work")
    with pytest.raises(DataError) as raised:
        ingested(tmp_path / "set", workspace)
    assert "musterfrau" not in str(raised.value)
    assert raised.value.where == str(workspace.root / "pseudonyms" / "error.txt")
    assert "musterfrau" in (workspace.root / "pseudonyms" / "error.txt").read_text()


@pytest.mark.parametrize("suffix", [".nii", ".img", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_every_format_reads_the_same_through_links(tmp_path, suffix):
    data = tmp_path / "set"
    array = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    for part in ("images", "labels"):
        (data / part).mkdir(parents=True)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 2.0, 3.0))
        image.SetOrigin((-4.0, 5.0, 6.0))
        sitk.WriteImage(image, data / part / f"musterfrau{suffix}")
    workspace = Workspace(tmp_path / "work")
    folder = disguise(discover(data), workspace)
    (case,) = folder.cases
    for link, part in ((case.images[0], "images"), (case.label, "labels")):
        facts, volume = load_volume(link, root=folder.root, role="image")
        known, expected = load_volume(data / part / f"musterfrau{suffix}", root=data, role="image")
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_array_equal(volume.affine, expected.affine)
        assert "musterfrau" not in facts.model_dump_json()
        assert facts.model_copy(update={"file": known.file, "n_bytes": known.n_bytes}) == known
    # A copied header is not copied again: its time would tell that the case has changed.
    times = [p.lstat().st_mtime_ns for p in sorted(folder.root.rglob("*"))]
    disguise(discover(data), workspace)
    assert [p.lstat().st_mtime_ns for p in sorted(folder.root.rglob("*"))] == times
    assert not list(folder.root.rglob("*muster*"))


def test_a_header_without_its_data_is_left_out_by_number(tmp_path):
    data = write_dataset(tmp_path / "set", 1, 0)
    shutil.copy(data / "labelsTr/case_000.nii.gz", data / "labelsTr/musterfrau.nii.gz")
    (data / "imagesTr/musterfrau.mhd").write_text("NDims = 3\n")
    folder = disguise(discover(data), Workspace(tmp_path / "work"))
    assert len(folder.cases) == 1
    assert folder.problems[-1].check_id == "F03"
    assert "musterfrau" in (tmp_path / "work/pseudonyms/set/problems.txt").read_text()


def test_masks_keep_the_names_of_their_classes(tmp_path):
    touch(tmp_path / "set", *(f"anna/{f}.nii" for f in ("ct", "masks/anna_liver", "masks/lung")))
    folder = discover(tmp_path / "set")
    hidden = disguise(folder, Workspace(tmp_path / "work"))
    (case,) = hidden.cases
    assert [mask.name for mask in case.masks] == ["liver.nii", "lung.nii"]
    assert case.label == hidden.root / "case_0001" / "label"
    assert hidden.class_values == folder.class_values
    assert case.label_values == folder.cases[0].label_values


def test_subjects_of_bids_stay_apart(tmp_path):
    names = [f"sub-{s}/ses-{v}/anat/sub-{s}_ses-{v}_T1w.nii" for s in ("x", "y") for v in (1, 2)]
    touch(tmp_path / "set", *names)
    hidden = disguise(discover(tmp_path / "set"), Workspace(tmp_path / "work"))
    prefixes = [case.case_id.split("_")[0] for case in hidden.cases]
    assert prefixes == ["sub-0001", "sub-0001", "sub-0002", "sub-0002"]


def test_other_datasets_of_a_work_folder_follow_its_own(tmp_path):
    workspace = Workspace(tmp_path / "work")
    other = touch(tmp_path / "other", "images/musterfrau.nii")
    open_it = lambda: discover(other)  # noqa: E731
    plain = Naming(workspace, is_wanted=False)
    assert open_named(plain, other, open_it).cases[0].case_id == "musterfrau"
    assert not (workspace.root / "pseudonyms").exists()
    wanted = Naming(workspace, is_wanted=True)
    assert open_named(wanted, other, open_it).cases[0].case_id == "case_0001"
    # Once seen under a pseudonym, always.
    assert open_named(plain, other, open_it).cases[0].case_id == "case_0001"
    third = touch(tmp_path / "third", "images/musterfrau.nii")
    assert open_named(plain, third, lambda: discover(third)).cases[0].case_id == "musterfrau"
    ingested(write_dataset(tmp_path / "set", 1, 0), workspace)
    assert open_named(plain, third, lambda: discover(third)).cases[0].case_id == "case_0003"


def test_dicom_files_are_named_by_number(tmp_path):
    dicom = pytest.importorskip("dicom_phantoms", exc_type=ImportError)
    shape = (5, 4, 3)
    array = np.arange(60, dtype=np.int16).reshape(shape)
    slices = dicom.series_slices(array, affine_of(shape, (1.0, 2.0, 3.0), "LPS"))
    dicom.save(tmp_path / "set" / "images" / "musterfrau", slices, "musterfrau_{:03d}.dcm")
    folder = disguise(discover(tmp_path / "set"), Workspace(tmp_path / "work"))
    series = folder.cases[0].images[0]
    assert sorted(file.name for file in series.iterdir()) == [f"{n:06d}.dcm" for n in range(3)]
    facts, volume = load_volume(series, root=folder.root, role="image")
    assert facts.file == "case_0001/image"
    np.testing.assert_array_equal(np.squeeze(volume.array), array)


def test_links_are_made_once(tmp_path):
    data = write_dataset(tmp_path / "set", 2, 0)
    workspace = Workspace(tmp_path / "work")
    folder = disguise(discover(data), workspace)
    before = [link.lstat().st_ctime_ns for link in sorted(folder.root.rglob("*.gz"))]
    assert disguise(discover(data), workspace) == folder
    assert [link.lstat().st_ctime_ns for link in sorted(folder.root.rglob("*.gz"))] == before
    assert json.dumps(folder.reason) == '"2 cases, 2 with a label; names are pseudonyms"'
