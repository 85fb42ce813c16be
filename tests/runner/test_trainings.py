"""Several trainings with one command, as a person runs them; and their runs in MLflow."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from phantoms import write_dataset

from pipeline.core.errors import ConfigError, UsageError
from pipeline.core.workspace import Workspace
from pipeline.experiment import load_experiment
from pipeline.runner import commands
from pipeline.runner.request import Many, make_request, split_folds, with_model, with_models
from pipeline.runner.trainings import parse_folds, run_many, with_train
from pipeline.tracking.listing import list_runs

QUICK = [
    *("--set", "train.steps=2", "--set", "train.device=cpu", "--set", "audit.max_pictures=0"),
    *("--set", "train.n_validations=1", "--set", "train.patch_size=[16,16,16]"),
    *("--set", "train.network.base_features=4", "--set", "train.network.max_features=8"),
]
TORCHRUN = Path(sys.executable).with_name("torchrun")
ROOT = Path(__file__).resolve().parents[2]
UNTRACKED = [*QUICK, "--set", "tracking.enabled=false"]


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("cv", ("0", "1", "2", "3", "4")),
        ("0,2,4", ("0", "2", "4")),
        ("4, 1", ("1", "4")),
        ("1..3", ("1", "2", "3")),
        ("0,2..3", ("0", "2", "3")),
    ],
)
def test_lists_of_folds(text, folds):
    assert split_folds(text) == (text, None)
    assert parse_folds(text, 5) == folds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,5", "there is no fold 5: the cases make 5 folds"),
        ("0,0", "named twice"),
        ("0..2,1", "named twice"),
        ("3..1", "none is"),
        ("0,all", "'all' is no fold that is scored"),
        ("0,", "'' is no fold"),
        ("-1,0", "'-1' is no fold"),
        ("0..", "is no fold"),
        ("0..99999999999999", "there is no fold 99999999999999"),
    ],
)
def test_what_is_no_list_of_folds_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_folds(text, 5)


def test_without_folds_there_is_nothing_to_cross_validate():
    with pytest.raises(UsageError, match="no folds to cross-validate"):
        parse_folds("cv", 0)


@pytest.mark.parametrize("name", ["0", "4", "all", "7", None])
def test_one_fold_stays_one_training(name):
    assert split_folds(name) == (None, name)


def test_choices_that_exclude_each_other_are_refused(tmp_path):
    request = make_request(None, tmp_path, None, [])
    for many in (Many("cv", 3), Many("0,1", None, "train.seed=0,1"), Many(None, 2, "x.yaml")):
        with pytest.raises(UsageError, match="cannot be combined"):
            run_many(request, many)
    assert not (tmp_path / "ingest").exists()
    everything = with_train(request, fold="all")
    with pytest.raises(UsageError, match="no Dice to compare between seeds"):
        run_many(everything, Many(n_seeds=2))


def test_what_cannot_be_trained_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "_ingest_again", lambda _: pytest.fail("read the data first"))
    request = make_request(None, tmp_path, None, ['train.fold="all"'])
    with pytest.raises(UsageError, match="no Dice to compare between seeds"):
        commands.run_train(request, Many(n_seeds=2))
    with pytest.raises(UsageError, match="no Dice to rank by"):
        commands.run_train(request, Many(sweep="train.seed=0,1"))
    with pytest.raises(ConfigError, match="unknown key 'sede'"):
        commands.run_train(make_request(None, tmp_path, None, []), Many(sweep="train.sede=0,1"))


def test_preflight_looks_at_one_training(voxline, tmp_path):
    status, _, err = voxline("train", "--preflight-only", "--fold", "cv", "--work", tmp_path)
    assert status == 3
    assert "the preflight looks at one training" in err


@pytest.mark.slow
def test_cross_validation_end_to_end(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 6, 0)
    work = tmp_path / "runs" / "Set"
    # A fold of before is taken up as it is, and comes below the cross-validation in MLflow.
    status, _, err = voxline("train", "--data", data, *QUICK, "--fold", "1")
    assert status == 0, err
    card = (work / "train" / "fold_1" / "model_card.json").read_bytes()
    status, out, err = voxline("train", "--data", data, *QUICK, "--fold", "0..1")
    assert status == 0, err
    assert "fold 1 is trained already" in err
    assert (work / "train" / "fold_1" / "model_card.json").read_bytes() == card
    splits = json.loads((work / "audit" / "splits.json").read_text())
    ids = sorted(case for fold in splits["folds"][:2] for case in fold["validation"])
    assert f"Dice on {len(ids)} cases of 2 of 5 folds" in out
    folder = work / "train" / "cross_validation"
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert sorted({row["case_id"] for row in rows}) == ids
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_cases"] == len(ids)
    page = (folder / "report.html").read_text()
    assert 'href="../fold_0/report.html"' in page
    assert "Over the cases of all trainings." in page

    lines = list_runs(work, make_request(None, work, None, []).experiment.tracking)
    (above,) = [line for line in lines if line.name.startswith("cross-validation")]
    assert above.dice["mean"] == pytest.approx(summary["mean_foreground_dice"])
    assert len(lines) == 3
    assert nested_below(work, above.run_id) == 2

    status, again, err = voxline("train", "--data", data, *QUICK, "--fold", "0..1")
    assert status == 0, err
    assert again == out
    assert len(list_runs(work, make_request(None, work, None, []).experiment.tracking)) == 3


def nested_below(work, run_id: str) -> int:
    """How many trainings lie below a run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{work.parent / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "voxline"]
    found = client.search_runs(
        [experiment.experiment_id],
        f"tags.`mlflow.parentRunId` = '{run_id}' and tags.stage = 'pipeline'",
    )
    return len(found)


@pytest.mark.slow
def test_another_configuration_keeps_the_first_result(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 5, 0)
    command = ("train", "--data", data, *UNTRACKED)
    assert voxline(*command, "--fold", "0,1")[0] == 0
    status, _, err = voxline(*command, "--fold", "0,1", "--set", "train.seed=5")
    assert status == 0, err
    shelf = tmp_path / "runs" / "Set" / "train" / "archive"
    assert (shelf / "cross_validation-001" / "summary.json").is_file()
    assert (shelf / "fold_0-001" / "best.pt").is_file()
    assert (shelf.parent / "cross_validation" / "summary.json").is_file()


def test_seeds_end_to_end(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 5, 0)
    command = ("train", "--data", data, *UNTRACKED, "--seeds", 2, "--set", "train.seed=3")
    status, out, err = voxline(*command)
    assert status == 0, err
    assert "Final Dice over 2 seeds, the same 1 validation cases of fold 0" in out
    train = tmp_path / "runs" / "Set" / "train"
    summary = json.loads((train / "seeds_fold_0" / "summary.json").read_text())
    assert summary["seeds"] == [3, 4]
    values = []
    for name, seed in (("fold_0", 3), ("fold_0_seed_4", 4)):
        card = json.loads((train / name / "model_card.json").read_text())
        values.append(card["validation"]["mean_foreground_dice"])
        assert load_experiment(train / name / "config.resolved.yaml").train.seed == seed
    assert summary["mean_foreground_dice"]["values"] == values
    assert summary["mean_foreground_dice"]["sd"] is not None
    page = (train / "seeds_fold_0" / "report.html").read_text()
    assert 'href="../fold_0/report.html"' in page
    assert 'href="../fold_0_seed_4/report.html"' in page
    before = {file: file.stat().st_mtime_ns for file in train.rglob("*.pt")}
    status, again, _ = voxline(*command)
    assert status == 0
    assert out.endswith(again)
    assert {file: file.stat().st_mtime_ns for file in train.rglob("*.pt")} == before


@pytest.mark.slow
@pytest.mark.skipif(not TORCHRUN.is_file(), reason="torch comes without torchrun here")
@pytest.mark.parametrize(
    ("choice", "left"),
    [
        (("--fold", "0,1"), "train/cross_validation/summary.json"),
        (("--seeds", "2"), "train/seeds_fold_0/summary.json"),
        (("--sweep", "train.seed=0,1"), "sweeps/seed-*/sweep.csv"),
    ],
)
def test_two_processes_share_every_one_of_many_trainings(tmp_path, choice, left):
    data = write_dataset(tmp_path / "Set", 5, 0)
    start = (TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "pipeline", "train")
    more = ("--set", "train.batch_size=2", *choice)
    done = subprocess.run(
        [*map(str, start), "--data", str(data), *UNTRACKED, *more],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    work = tmp_path / "runs" / "Set"
    assert len(list(work.glob(left))) == 1
    assert len(list(work.rglob("model_card.json"))) == 2
    # Once for each training: the second process says nothing.
    assert done.stderr.count("trained 2 steps") == 2


def test_repetitions_are_used_only_where_they_are_named(tmp_path):
    workspace = Workspace(tmp_path)
    for place in (workspace, replace(workspace, seed=1), replace(workspace, seed=2)):
        place.fold_dir("0").mkdir(parents=True)
        (place.fold_dir("0") / "best.pt").touch()
    request = make_request(None, tmp_path, None, ["infer.ensemble=true"])
    with pytest.raises(Exception, match="two folds or more, there are 1"):
        with_models(request, [])
    assert with_model(request, None)[1] == workspace.fold_dir("0") / "best.pt"
    named = replace(workspace, seed=2).fold_dir("0") / "best.pt"
    elsewhere = make_request(None, None, None, [])
    assert with_model(elsewhere, named)[0].work == tmp_path
