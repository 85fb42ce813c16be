"""Sweeps: what stops them and what does not, and the table that comes of them."""

import csv
import json

import pytest
from phantoms import write_dataset

from pipeline.artifacts import Finding, Findings
from pipeline.core.errors import (
    ConfigError,
    DataError,
    InterruptedByUserError,
    TrainingError,
    UsageError,
)
from pipeline.core.workspace import write_json
from pipeline.runner import sweep
from pipeline.runner.request import Many, make_request
from pipeline.runner.sweep import run_sweep
from pipeline.train.ranks import Ranks

QUICK = [
    *("--set", "tracking.enabled=false", "--set", "train.steps=2", "--set", "train.device=cpu"),
    *("--set", "train.n_validations=1", "--set", "train.patch_size=[16,16,16]"),
    *("--set", "train.network.base_features=4", "--set", "train.network.max_features=8"),
    *("--set", "audit.max_pictures=0"),
]
RATES = "train.optimizer.learning_rate=1e-3,3e-3"


def test_every_combination_is_checked_before_the_first_is_trained(tmp_path, monkeypatch):
    def never(*_args):
        raise AssertionError

    monkeypatch.setattr(sweep, "train_one", never)
    request = make_request(None, tmp_path / "work", None, [])
    with pytest.raises(ConfigError, match="unknown key 'lerning_rate'"):
        run_sweep(request, "train.optimizer.lerning_rate=1,2")
    with pytest.raises(ConfigError, match="greater than 0"):
        run_sweep(request, "train.optimizer.learning_rate=1,-2")
    request = make_request(None, tmp_path / "work", None, ['train.fold="all"'])
    with pytest.raises(UsageError, match="keeps no cases back"):
        run_sweep(request, RATES)


def audited_request(tmp_path, *findings, settings=()):
    request = make_request(None, tmp_path / "work", None, list(settings))
    verdict = "errors" if findings else "clean"
    found = Findings(verdict=verdict, n_cases=1, findings=findings)
    write_json(request.workspace.findings_file, found)
    return request


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("loss is not finite"),
        ConfigError("loss is not finite", where="train.loss", fix="take another"),
        DataError("loss is not finite"),
    ],
)
def test_a_combination_that_fails_stops_no_other(tmp_path, monkeypatch, capsys, error):
    asked = []

    def fail(request, place, _label):
        asked.append((request.experiment.train.seed, request.experiment.train.steps))
        assert place.root == tmp_path / "work"
        raise error

    monkeypatch.setattr(sweep, "train_one", fail)
    request = audited_request(tmp_path, settings=["train.steps=9"])
    assert run_sweep(request, "train.seed=0,1") == 2
    assert asked == [(0, 9), (1, 9)]
    assert [row["failed"] for row in table_of(tmp_path)] == ["loss is not finite"] * 2
    assert [row["dice_mean"] for row in table_of(tmp_path)] == ["", ""]
    assert "failed" in capsys.readouterr().out
    (page,) = (tmp_path / "work" / "sweeps").rglob("report.html")
    assert "2 of 2 failed" in page.read_text()
    assert page.read_text().count("loss is not finite") == 2


def table_of(tmp_path):
    (file,) = (tmp_path / "work" / "sweeps").rglob("sweep.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


def test_what_is_known_when_a_sweep_is_stopped_is_in_its_table(tmp_path, monkeypatch):
    def stopped(request, _place, _label):
        if request.experiment.train.seed == 2:
            raise InterruptedByUserError("stopped at step 5")
        raise TrainingError("loss is not finite")

    monkeypatch.setattr(sweep, "train_one", stopped)
    with pytest.raises(InterruptedByUserError):
        run_sweep(audited_request(tmp_path), "train.seed=0,1,2,3")
    assert [row["train.seed"] for row in table_of(tmp_path)] == ["0", "1"]


def test_processes_that_lost_step_begin_no_other_training(tmp_path, monkeypatch):
    asked = []

    def fail(_request, _place, _label):
        asked.append(1)
        raise TrainingError("another process of this training has ended")

    monkeypatch.setattr(sweep, "train_one", fail)
    lost = Ranks(0, 2)
    monkeypatch.setattr(lost, "_is_joint_work_open", True)
    monkeypatch.setattr("pipeline.train.ranks.present_ranks", lambda: lost)
    with pytest.raises(TrainingError, match="has ended"):
        run_sweep(audited_request(tmp_path), "train.seed=0,1")
    assert asked == [1]


def test_errors_of_the_audit_are_said_once_and_not_for_every_combination(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "train_one", lambda *_: pytest.fail("trained on errors"))
    error = Finding(
        check_id="G01", severity="error", case_id="a", message="grids differ", fix="resample"
    )
    with pytest.raises(DataError, match=r"1 error\(s\)"):
        run_sweep(audited_request(tmp_path, error), "train.seed=0,1")


def test_one_training_is_not_many():
    assert Many().is_one
    assert Many(n_seeds=1).is_one
    assert not Many(sweep=RATES).is_one


@pytest.mark.slow
def test_a_sweep_end_to_end(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 5, 0)
    grid = tmp_path / "rates.yaml"
    grid.write_text("train.optimizer.learning_rate: [1e-3, 1e-9]\n")
    status, out, err = voxline("train", "--data", data, *QUICK, "--sweep", grid)
    assert status == 0, err
    assert "2 combinations by final mean foreground Dice" in out
    assert "same 1 validation cases" in out
    assert "optimistic" in out
    work = tmp_path / "runs" / "Set"
    folder = work / "sweeps" / "rates"
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert {row["train.optimizer.learning_rate"] for row in rows} == {"0.001", "1e-09"}
    scores = [float(row["dice_mean"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        card = json.loads((folder / row["folder"] / "model_card.json").read_text())
        rate = card["info"]["plan"]["learning_rate"]
        assert rate == float(row["train.optimizer.learning_rate"])
        assert not (folder / row["folder"]).parent.joinpath("prepared").exists()
    # One preparation for all, nothing that looks like a training of the work folder itself.
    assert len(list((work / "train" / "prepared").iterdir())) == 5
    page = (folder / "report.html").read_text()
    assert "learning_rate" in page
    for row in rows:
        assert f'href="{row["folder"]}/report.html"' in page
        assert (folder / row["folder"] / "report.html").is_file()
    assert not list(work.glob("train/fold_*"))

    status, again, err = voxline("train", "--data", data, *QUICK, "--sweep", grid)
    assert status == 0, err
    assert err.count("trained already") == 2
    assert out.endswith(again)
