import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from phantoms import case, write_dataset, write_nifti

from pipeline.artifacts import DatasetManifest, Findings, read_artifact
from pipeline.audit.config import AuditConfig
from pipeline.audit.fix.stage import fix_dataset
from pipeline.audit.stage import audit
from pipeline.core.errors import UsageError
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest


def run_audit(
    data: Path, work: Path, *, allow_links: bool = False
) -> tuple[DatasetManifest, Findings]:
    workspace = Workspace(work)
    config = IngestConfig(allow_links=allow_links)
    ingest(config, TaskConfig(), data, workspace, NullTracker())
    findings = audit(AuditConfig(max_pictures=0), workspace, NullTracker())
    return read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest"), findings


def label_file(data: Path, number: int = 1) -> Path:
    return data / "labelsTr" / f"case_{number:03d}.nii.gz"


def rewrite(file: Path, change, move=None) -> None:
    image = nib.load(file)
    affine = image.affine if move is None else move(image.affine)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), affine), file)


def checks_of(findings: Findings) -> set[str]:
    return {f.check_id for f in findings.findings if f.severity != "info"}


def snapshot(data: Path) -> dict[str, bytes]:
    return {str(f.relative_to(data)): f.read_bytes() for f in data.rglob("*") if f.is_file()}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_dataset(tmp_path / "Set", 6, 0)


def one_class(data: Path) -> None:
    for number in range(6):
        rewrite(label_file(data, number), lambda a: (a > 0).astype(np.uint8))
    description = json.loads((data / "dataset.json").read_text())
    description["labels"] = {"0": "background", "1": "organ"}
    (data / "dataset.json").write_text(json.dumps(description))


def shift_mm(mm: float):
    def move(affine):
        moved = affine.copy()
        moved[0, 3] += mm
        return moved

    return move


def e02(data):
    one_class(data)
    rewrite(label_file(data), lambda a: (a * 255).astype(np.uint8))


SAFE = {
    "E02": e02,
    "E03": lambda d: rewrite(label_file(d), lambda a: a.astype(np.float32) * np.float32(1.004)),
    "G02": lambda d: rewrite(label_file(d), lambda a: a, shift_mm(0.1)),
    "F06": lambda d: rewrite(label_file(d), lambda a: a[..., None]),
}


@pytest.mark.parametrize("check_id", SAFE)
def test_safe_faults_are_gone_from_the_copy_and_the_source_is_as_it_was(check_id, data, tmp_path):
    SAFE[check_id](data)
    before = snapshot(data)
    manifest, findings = run_audit(data, tmp_path / "work")
    assert check_id in checks_of(findings)
    done = fix_dataset(manifest, findings, tmp_path / "copy", ())
    assert snapshot(data) == before
    assert [text[:3] for file in done.fixed for text in file.done] == [check_id]
    assert done.fixed[0].sha256_before != done.fixed[0].sha256_after
    _, again = run_audit(tmp_path / "copy", tmp_path / "work2")
    assert check_id not in checks_of(again)


def regrid(data):
    """A label drawn on a grid of its own: two slices fewer and 2 mm away, but right by affine."""

    def move(affine):
        moved = affine.copy()
        moved[:3, 3] += 2 * affine[:3, 2]
        return moved

    rewrite(label_file(data), lambda a: a[:, :, 2:], move)


UNSAFE = {
    "G01": regrid,
    "E01": lambda d: rewrite(label_file(d), lambda a: np.where(a == 2, 9, a).astype(np.uint8)),
    "G02": lambda d: rewrite(label_file(d), lambda a: a, shift_mm(4.0)),
}


@pytest.mark.parametrize("check_id", UNSAFE)
def test_unsafe_faults_are_left_unless_they_are_named(check_id, data, tmp_path):
    UNSAFE[check_id](data)
    manifest, findings = run_audit(data, tmp_path / "work")
    left = fix_dataset(manifest, findings, tmp_path / "timid", ())
    assert not left.fixed
    (item,) = {i.reason for i in left.left if i.check_id == check_id and i.case_id}
    assert f"--fix-unsafe {check_id}" in item
    done = fix_dataset(manifest, findings, tmp_path / "copy", (check_id,))
    assert len(done.fixed) == 1
    assert done.assumptions
    _, again = run_audit(tmp_path / "copy", tmp_path / "work2")
    assert check_id not in checks_of(again)


def test_regridding_puts_voxels_where_they_were_in_space(data, tmp_path):
    original = np.asarray(nib.load(label_file(data)).dataobj)
    regrid(data)
    manifest, findings = run_audit(data, tmp_path / "work")
    fix_dataset(manifest, findings, tmp_path / "copy", ("G01",))
    mended = np.asarray(nib.load(label_file(tmp_path / "copy")).dataobj)
    assert np.array_equal(mended[:, :, 2:], original[:, :, 2:])


def test_a_gz_in_name_only_is_renamed_everywhere(data, tmp_path):
    file = label_file(data)
    file.write_bytes(gzip.decompress(file.read_bytes()))
    manifest, findings = run_audit(data, tmp_path / "work")
    assert "F02" in checks_of(findings)
    done = fix_dataset(manifest, findings, tmp_path / "copy", ())
    assert (tmp_path / "copy" / "labelsTr" / "case_001.nii").is_file()
    assert not any(item.check_id == "F02" for item in done.left)
    _, again = run_audit(tmp_path / "copy", tmp_path / "work2")
    assert not checks_of(again)


def test_what_cannot_be_mended_says_why(data, tmp_path):
    rewrite(label_file(data), lambda a: a.astype(np.float32) * 1.3)
    manifest, findings = run_audit(data, tmp_path / "work")
    done = fix_dataset(manifest, findings, tmp_path / "copy", ())
    reasons = [item.reason for item in done.left if item.check_id == "E03"]
    assert reasons
    assert "export them again" in reasons[0]
    assert label_file(tmp_path / "copy").read_bytes() == label_file(data).read_bytes()


def test_places_that_could_harm_are_refused(data, tmp_path):
    manifest, findings = run_audit(data, tmp_path / "work")
    for out_dir in (data, data / "inside", data.parent):
        with pytest.raises(UsageError, match=r"outside its source"):
            fix_dataset(manifest, findings, out_dir, ())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        fix_dataset(manifest, findings, tmp_path / "full", ())
    with pytest.raises(UsageError, match="no unsafe repair"):
        fix_dataset(manifest, findings, tmp_path / "copy", ("G99",))
    assert not (tmp_path / "copy").exists()


def test_linked_folders_are_copied_and_a_link_to_itself_is_not_followed(data, tmp_path):
    kept = tmp_path / "elsewhere"
    (data / "labelsTr").rename(kept)
    (data / "labelsTr").symlink_to(kept)
    (data / "loop").symlink_to(data)
    rewrite(kept / "case_001.nii.gz", lambda a: a, shift_mm(0.3))
    manifest, findings = run_audit(data, tmp_path / "work", allow_links=True)
    before = snapshot(kept)
    fix_dataset(manifest, findings, tmp_path / "copy", ())
    copied = {f.name for f in (tmp_path / "copy" / "labelsTr").iterdir()}
    assert copied == set(before)
    assert not (tmp_path / "copy" / "loop").exists()
    assert snapshot(kept) == before


def test_a_label_without_position_is_placed_before_it_is_resampled(data, tmp_path):
    file = label_file(data)
    array = np.asarray(nib.load(file).dataobj)
    lost = nib.Nifti1Image(array, None)
    lost.header.set_zooms((1.0, 1.0, 1.0))
    lost.header["sform_code"] = lost.header["qform_code"] = 0
    nib.save(lost, file)
    manifest, findings = run_audit(data, tmp_path / "work")
    fix_dataset(manifest, findings, tmp_path / "copy", ("G01", "G02", "G05"))
    mended = nib.load(label_file(tmp_path / "copy"))
    image = nib.load(data / "imagesTr" / "case_001.nii.gz")
    assert np.array_equal(np.asarray(mended.dataobj), array)
    assert np.allclose(mended.affine, image.affine)


def test_masks_of_single_classes_are_copied_and_left(tmp_path):
    data = tmp_path / "masks"
    for number in range(2):
        image, label, affine = case(number, (16, 16, 16), (1, 1, 2))
        folder = data / f"p{number}"
        write_nifti(folder / "ct.nii.gz", image, affine)
        for value, name in enumerate(("liver", "tumor"), start=1):
            mask = (label == value).astype(np.uint8)
            write_nifti(folder / "seg" / f"{name}.nii.gz", mask[..., :-1], affine)
    before = snapshot(data)
    manifest, findings = run_audit(data, tmp_path / "work")
    done = fix_dataset(manifest, findings, tmp_path / "out", ["G01"])
    assert done.fixed == ()
    assert any("only labels that are one NIfTI file" in left.reason for left in done.left)
    assert snapshot(data) == before
    copied = snapshot(tmp_path / "out")
    assert {name: copied[name] for name in before} == before


@pytest.mark.parametrize("is_list_named", [True, False])
def test_files_outside_the_folder_are_never_written(data, tmp_path, is_list_named):
    one_class(data)
    rewrite(label_file(data), lambda a: a * 7)
    rows = [
        f"{data}/imagesTr/case_00{n}.nii.gz,{data}/labelsTr/case_00{n}.nii.gz" for n in range(6)
    ]
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "cases.csv").write_text("\n".join(["image,label", *rows]))
    before = snapshot(data)
    workspace = Workspace(tmp_path / "work")
    source = lists / "cases.csv" if is_list_named else lists
    ingest(IngestConfig(allow_links=True), TaskConfig(), source, workspace, NullTracker())
    findings = audit(AuditConfig(max_pictures=0), workspace, NullTracker())
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    with pytest.raises(UsageError, match="list of files" if is_list_named else "lies outside"):
        fix_dataset(manifest, findings, tmp_path / "out", ["G01"])
    assert snapshot(data) == before
