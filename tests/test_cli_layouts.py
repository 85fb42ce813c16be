"""Layouts and the section `task` on the command line: what was asked for is what is stored."""

import json

import numpy as np
import phantoms
import pytest

SHAPE = (16, 16, 16)


@pytest.fixture
def run(voxline):
    """A command without tracking, which takes most of the time and is not the matter here."""
    return lambda *args: voxline(*args, "--set", "tracking.enabled=false")


def manifest_of(work):
    return json.loads((work / "ingest" / "dataset.json").read_text())


def mask_cases(root, n_cases, **masks):
    """A folder per case with an image and masks."""
    for number in range(n_cases):
        image, _, affine = phantoms.case(number, SHAPE, (1, 1, 2))
        phantoms.write_nifti(root / f"p{number}" / "ct.nii.gz", image, affine)
        for name, mask in masks.items():
            file = root / f"p{number}" / "segmentations" / f"{name}.nii.gz"
            phantoms.write_nifti(file, mask.astype(np.uint8), affine)
    return root


def test_one_of_several_overlapping_structures_can_be_chosen(run, tmp_path):
    _, label, _ = phantoms.case(0, SHAPE, (1, 1, 2))
    data = mask_cases(
        tmp_path / "set", 2, body=np.ones(SHAPE), gtv=label == 1, ptv=label > 0, spine=label == 2
    )
    status, _, err = run("ingest", "--data", data, "--work", tmp_path / "all")
    assert status == 2
    assert "masks overlap" in err
    chosen = ("--set", "task.classes={tumor: [gtv, ptv]}")
    status, _, err = run("ingest", "--data", data, "--work", tmp_path / "one", *chosen)
    assert (status, "overlap" in err) == (0, False)
    manifest = manifest_of(tmp_path / "one")
    assert manifest["task"]["classes"] == [
        {"name": "tumor", "index": 1, "source_values": [2, 3]},
    ]
    assert manifest["task"]["background_values"] == [0, 1, 4]
    # Another choice is another label: the store notices.
    other = ("--set", "task.classes={spine: spine, tumor: gtv}")
    status, _, err = run("ingest", "--data", data, "--work", tmp_path / "one", *other)
    assert (status, "2 cases read" in err) == (0, True)


def test_the_layout_is_remembered_without_data(run, tmp_path):
    image, label, affine = phantoms.case(0, SHAPE, (1, 1, 2))
    for name in ("a", "b"):
        phantoms.write_nifti(tmp_path / "set" / "images" / f"{name}.nii.gz", image, affine)
        phantoms.write_nifti(tmp_path / "set" / "labels" / f"{name}.nii.gz", label, affine)
        phantoms.write_nifti(tmp_path / "set" / f"{name}x_image.nii.gz", image, affine)
        phantoms.write_nifti(tmp_path / "set" / f"{name}x_label.nii.gz", label, affine)
    work = tmp_path / "work"
    run("audit", "--data", tmp_path / "set", "--work", work, "--layout", "one_folder")
    first = manifest_of(work)
    assert [case["case_id"] for case in first["cases"]] == ["ax", "bx"]
    _, _, err = run("audit", "--work", work)
    assert "nothing changed" in err
    assert manifest_of(work) == first


def test_warnings_do_not_fail_ingest(run, tmp_path):
    data = phantoms.write_dataset(tmp_path / "set", 2, shape=SHAPE)
    file = data / "dataset.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | {"numTraining": 5}))
    status, _, err = run("ingest", "--data", data, "--work", tmp_path / "work")
    assert "numTraining promises 5" in err
    assert status == 0


def test_what_was_not_annotated_reaches_the_manifest(run, tmp_path):
    data = phantoms.write_dataset(tmp_path / "set", 3, shape=SHAPE)
    names = [c["name"] for c in _classes(run, data, tmp_path / "plain")]
    table = tmp_path / "table.csv"
    table.write_text(f"case_id,class,by\ncase_001,{names[0]},me\n")
    declared = ("--set", f"task.unannotated.csv={table}")
    status, _, _ = run("ingest", "--data", data, "--work", tmp_path / "work", *declared)
    assert status == 0
    found = {c["case_id"]: c["unannotated"] for c in manifest_of(tmp_path / "work")["cases"]}
    assert found == {"case_000": [], "case_001": [names[0]], "case_002": []}
    # Taken back, it is gone.
    run("ingest", "--data", data, "--work", tmp_path / "work")
    assert not any(c["unannotated"] for c in manifest_of(tmp_path / "work")["cases"])
    for text, words in (("case_001,x\n", "columns"), ("case_id,class\nnobody,a\n", "there is no")):
        table.write_text(text)
        status, _, err = run("ingest", "--data", data, "--work", tmp_path / "work", *declared)
        assert (status != 0, words in err) == (True, True)


def _classes(run, data, work):
    assert run("ingest", "--data", data, "--work", work)[0] == 0
    return manifest_of(work)["task"]["classes"]
