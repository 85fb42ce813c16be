"""`voxline infer` as a whole command: parts, ensembles, several models, refusals."""

import json

import pytest
from infer_builders import small_data, write_model

OFFLINE = ("--set", "tracking.enabled=false", "--device", "cpu")


@pytest.fixture
def folders(tmp_path):
    """A dataset, and a work folder with the models of two folds."""
    data = small_data(tmp_path / "heldout", 3)
    for fold in (0, 1):
        write_model(tmp_path / "work" / "train" / f"fold_{fold}" / "best.pt", fold)
    return data, tmp_path / "work"


def predictions_of(work):
    return json.loads((work / "infer" / "heldout" / "predictions.json").read_text())


def test_parts_are_gathered_by_the_run_without_a_part(folders, voxline):
    data, work = folders
    for part in ("1/2", "2/2"):
        status, _, err = voxline("infer", "--data", data, "--work", work, "--part", part, *OFFLINE)
        assert status == 0, err
        assert not (work / "infer" / "heldout" / "predictions.json").exists()
        name = part.replace("/", "-of-")
        result = work / "infer" / "heldout" / "parts" / name / "result.json"
        assert json.loads(result.read_text())["status"] == "done"
    status, _, err = voxline("infer", "--data", data, "--work", work, *OFFLINE)
    assert status == 0, err
    assert "kept 3 unchanged" in err
    assert len(predictions_of(work)["cases"]) == 3
    assert (work / "infer" / "heldout" / "report.html").is_file()
    status, _, err = voxline(
        *("evaluate", "--data", data, "--work", work, "--set", "parallel.part=1/2", *OFFLINE)
    )
    assert status == 3
    assert "needs all cases" in err


def test_an_ensemble_is_all_folds_of_the_work_folder(folders, voxline):
    data, work = folders
    status, _, err = voxline("infer", "--data", data, "--work", work, "--ensemble", *OFFLINE)
    assert status == 0, err
    found = predictions_of(work)
    folds = [work / "train" / f"fold_{n}" / "best.pt" for n in (0, 1)]
    assert found["model_files"] == [str(file) for file in folds]
    named = [part for file in folds for part in ("--model", file)]
    status, _, err = voxline("infer", "--data", data, "--work", work, *named, *OFFLINE)
    assert (status, predictions_of(work)) == (0, found)
    status, _, err = voxline(
        *("infer", "--data", data, "--work", work, "--ensemble", *named, *OFFLINE)
    )
    assert status == 3
    assert "--model several times" in err


def test_an_ensemble_of_one_fold_is_refused(folders, voxline):
    data, work = folders
    (work / "train" / "fold_1" / "best.pt").unlink()
    status, _, err = voxline("infer", "--data", data, "--work", work, "--ensemble", *OFFLINE)
    assert status != 0
    assert "two folds or more, there are 1" in err


def test_a_failed_case_is_the_exit_status(folders, voxline):
    data, work = folders
    (data / "imagesTr" / "case_001.nii.gz").write_bytes(b"no image")
    status, _, err = voxline("infer", "--data", data, "--work", work, *OFFLINE)
    assert status == 2
    assert "failed: case_001" in err
    statuses = [case["status"] for case in predictions_of(work)["cases"]]
    assert statuses == ["done", "failed", "done"]
