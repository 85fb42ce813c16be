"""`voxline compare` as a person meets it: which scores are taken, what is refused, what remains."""

import json

import nibabel as nib
import numpy as np
import phantoms
import pytest
from compare_builders import cases_of, write_table
from mlflow import MlflowClient

from pipeline.io.discover import list_volumes
from pipeline.tracking.location import local_uri

BASE = [0.6, 0.65, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9]
BETTER = [b + 0.02 for b in BASE]
QUIET = ("--set", "tracking.enabled=false", "--set", "evaluate.n_bootstrap=200")


def evaluated(folder, name, values, dataset="heldout"):
    write_table(folder / name / "evaluate" / dataset, cases_of(x=values, y=BASE))


def test_two_work_folders(voxline, tmp_path):
    evaluated(tmp_path / "runs", "old", BASE)
    evaluated(tmp_path / "runs", "new", BETTER)
    status, out, err = voxline("compare", "runs/old", "runs/new", *QUIET)
    assert status == 0, err
    assert "new is better than old in Dice" in " ".join(out.split())
    assert "scores on heldout" in err
    folder = tmp_path / "runs" / "comparisons" / "compare" / "new-vs-old"
    found = json.loads((folder / "comparison.json").read_text())
    assert found["foreground"][0]["verdict"] == "better"
    assert (folder / "report.html").is_file()
    assert json.loads((folder / "result.json").read_text())["status"] == "done"


def test_other_cases_are_refused_and_leave_no_run(voxline, tmp_path):
    evaluated(tmp_path, "old", BASE)
    write_table(tmp_path / "new", cases_of(x=BASE[:7], y=BASE[:7]))
    status, _, err = voxline("compare", "old", "new", *QUIET)
    assert status == 2
    assert "not scored on the same cases" in err
    assert not (tmp_path / "comparisons").exists()
    status, out, err = voxline("compare", "old", "new", "--common", *QUIET)
    assert status == 0, err
    assert "Left out of old" in err
    assert "n = 7" in " ".join(out.split())


def test_bad_requests_are_explained(voxline, tmp_path):
    evaluated(tmp_path, "old", BASE)
    status, _, err = voxline("compare", "old", *QUIET)
    assert (status, "nothing to compare" in err) == (3, True)
    status, _, err = voxline("compare", "old", "old", "--metric", "dise", *QUIET)
    assert (status, "did you mean 'dice'" in err) == (3, True)
    status, _, err = voxline("compare", "old", "old", "--policy", "lenient", *QUIET)
    assert status == 3
    status, _, err = voxline("compare", "old", "nowhere", *QUIET)
    assert (status, "no such run" in err) == (3, True)


def test_folders_of_predictions_are_scored_first(voxline, tmp_path):
    data = phantoms.write_dataset(tmp_path / "data", 6, shape=(20, 22, 18))
    for name, shift in (("near", 1), ("far", 3)):
        for case_id, file in list_volumes(data / "labelsTr").items():
            image = nib.load(file)
            moved = np.roll(np.asarray(image.dataobj), shift, axis=0)
            phantoms.write_nifti(tmp_path / name / f"{case_id}.nii.gz", moved, image.affine)
    status, _, err = voxline("compare", "near", "far", *QUIET)
    assert status == 3
    assert "--ref" in err
    status, out, err = voxline("compare", "near", "far", "--ref", data / "labelsTr", *QUIET)
    assert status == 0, err
    assert "far is worse than near in Dice" in " ".join(out.split())


def test_folders_whose_names_look_alike_are_scored_apart(voxline, tmp_path):
    data = phantoms.write_dataset(tmp_path / "data", 2, shape=(20, 22, 18))
    for name, shift in (("a/b_c", 0), ("a_b/c", 3)):
        for case_id, file in list_volumes(data / "labelsTr").items():
            image = nib.load(file)
            moved = np.roll(np.asarray(image.dataobj), shift, axis=0)
            phantoms.write_nifti(tmp_path / name / f"{case_id}.nii.gz", moved, image.affine)
    status, _, err = voxline("compare", "a/b_c", "a_b/c/", "--ref", data / "labelsTr", *QUIET)
    assert status == 0, err
    (file,) = tmp_path.glob("**/comparison.json")
    perfect, moved = json.loads(file.read_text())["runs"]
    assert perfect["mean"] == 1
    assert moved["mean"] < 1


def test_patients_are_the_unit_when_they_are_named(voxline, tmp_path):
    evaluated(tmp_path, "old", BASE)
    evaluated(tmp_path, "new", BETTER)
    rows = "".join(f"c{n:02d},p{n // 2}\n" for n in range(8))
    (tmp_path / "patients.csv").write_text(f"case_id,patient\n{rows}")
    status, out, _ = voxline("compare", "old", "new", "--patients", "patients.csv", *QUIET)
    assert status == 0
    assert "n too small" in " ".join(out.split())


def test_a_comparison_is_a_run_and_runs_can_be_named_by_their_ids(voxline, tmp_path):
    evaluated(tmp_path, "old", BASE)
    evaluated(tmp_path, "new", BETTER)
    status, _, err = voxline("compare", "old", "new")
    assert status == 0, err
    client = MlflowClient(local_uri(tmp_path))
    experiment = client.get_experiment_by_name("voxline").experiment_id
    runs = client.search_runs([experiment])
    (parent,) = [r for r in runs if r.data.tags["stage"] == "pipeline"]
    assert [r.data.tags["stage"] for r in runs if r is not parent] == ["compare"]
    assert parent.info.run_name == "new-vs-old"
    assert parent.data.metrics["compare/dice_diff"] == pytest.approx(0.01)
    assert "new is better than old" in parent.data.tags["mlflow.note.content"]
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} >= {"report.html"}

    client.log_artifact(parent.info.run_id, str(tmp_path / "new/evaluate/heldout/scores.csv"))
    status, out, err = voxline("compare", "old", parent.info.run_id, *QUIET[2:])
    assert status == 0, err
    assert f"new-vs-old-{parent.info.run_id[:8]} is better than old" in " ".join(out.split())
    files = tmp_path.glob(f"**/new-vs-old-{parent.info.run_id[:8]}-vs-old/comparison.json")
    assert json.loads(next(files).read_text())["runs"][1]["mlflow_run_id"] == parent.info.run_id
