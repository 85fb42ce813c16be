"""Training end to end: what it leaves, that it resumes exactly, and when it refuses."""

import csv
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from pydantic import ValidationError
from workfolders import audited, quick, sharing

from pipeline.artifacts import Findings, ModelCard, Summary, read_artifact
from pipeline.core.errors import (
    CheckpointError,
    DataError,
    InterruptedByUserError,
    TrainingError,
    UsageError,
)
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_model, load_state
from pipeline.train import loop
from pipeline.train.config import TrainConfig
from pipeline.train.learner import Learner
from pipeline.train.meters import MEASURED
from pipeline.train.select import select_training
from pipeline.train.stage import train


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("train"))


@pytest.fixture
def workspace(pristine, tmp_path) -> Workspace:
    """A work folder of its own per test, sharing the ingested and prepared cases."""
    own = sharing(pristine, tmp_path / "work")
    prepared = pristine.root / "train" / "prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    (own.root / "train" / "prepared").symlink_to(prepared)
    return own


def run(workspace: Workspace, config: TrainConfig):
    return train(select_training(config, workspace), workspace, NullTracker())


def weights(workspace: Workspace, fold: str = "0") -> dict[str, torch.Tensor]:
    state = load_state(workspace.fold_dir(fold) / "last.pt", torch.device("cpu"))
    learner = state["learner"]
    return {**learner["network"], **{f"averaged.{k}": v for k, v in learner["averaged"].items()}}


def history(workspace: Workspace) -> list[dict[str, str]]:
    text = (workspace.fold_dir("0") / "history.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different


def test_training_leaves_model_card_scores_history_and_pictures(workspace):
    result = run(workspace, quick())
    folder = workspace.fold_dir("0")
    summary = read_artifact(folder / "validation" / "summary.json", Summary, made_by="train")
    assert summary.n_cases == 2
    assert set(summary.classes) == {"liver", "kidney"}
    card = read_artifact(folder / "model_card.json", ModelCard, made_by="train")
    assert card.n_steps == 6
    assert card.validation == summary
    rows = history(workspace)
    assert [row["step"] for row in rows] == ["3", "6"]
    assert float(rows[-1]["train/learning_rate"]) == pytest.approx(0, abs=1e-12)
    pictures = sorted(p.name for p in (folder / "pictures").iterdir())
    assert any("step000000" in name for name in pictures)
    assert result.model_file == folder / "best.pt"
    assert not list(workspace.root.rglob("*.part"))


def test_asking_again_trains_nothing_and_another_configuration_keeps_the_first(workspace, caplog):
    first = run(workspace, quick())
    again = run(workspace, quick())
    assert again.was_already_done
    assert again.card == first.card
    run(workspace, quick(seed=1))
    kept = list((workspace.root / "train" / "archive").iterdir())
    assert len(kept) == 1
    assert (kept[0] / "best.pt").is_file()


# The loop asks after each of three steps, then after each of two validation cases, and so on.
@pytest.mark.parametrize(("stop_at", "step"), [(1, 1), (3, 3), (4, 3), (7, 5)])
def test_a_stopped_training_goes_on_exactly(workspace, stop_at, step, monkeypatch):
    config = quick(steps=6)
    training = select_training(config, workspace)
    n_asked = 0

    def stop_once(parts, _should_stop):
        nonlocal n_asked

        def should_stop() -> bool:
            nonlocal n_asked
            n_asked += 1
            return n_asked == stop_at

        return loop.run_loop(parts, should_stop)

    monkeypatch.setattr("pipeline.train.stage.run_loop", stop_once)
    with pytest.raises(InterruptedByUserError, match=f"step {step};"):
        train(training, workspace, NullTracker())
    train(select_training(config, workspace), workspace, NullTracker())
    stopped = weights(workspace)
    other = Workspace(workspace.root.parent / "other")
    other.root.mkdir()
    for name in ("ingest", "audit"):
        (other.root / name).symlink_to(workspace.root / name)
    run(other, config)
    assert_same(stopped, weights(other))
    mine = (workspace.fold_dir("0") / "history.csv").read_text().splitlines()
    theirs = (other.fold_dir("0") / "history.csv").read_text().splitlines()
    # Time and speed differ; losses and Dice do not.
    timed = [i for i, c in enumerate(mine[0].split(",")) if c in MEASURED]
    for a, b in zip(mine, theirs, strict=True):
        pairs = zip(a.split(","), b.split(","), strict=True)
        assert [p for i, p in enumerate(pairs) if i not in timed and p[0] != p[1]] == []


def test_a_crash_between_checkpoints_costs_nothing_but_the_steps(workspace, monkeypatch):
    config = quick(steps=6)
    step, n_steps = Learner.step, 0

    def crash(self, batch, rate, *_):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 5:
            raise RuntimeError("power cut")
        return step(self, batch, rate)

    monkeypatch.setattr(Learner, "step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        run(workspace, config)
    run(workspace, config)
    crashed = weights(workspace)
    (workspace.fold_dir("0")).rename(workspace.root / "put_aside")
    run(workspace, config)
    assert_same(crashed, weights(workspace))


def test_deleting_the_state_does_not_pass_another_model_off_as_finished(workspace):
    first = run(workspace, quick(steps=2))
    folder = workspace.fold_dir("0")
    (folder / "last.pt").unlink()
    assert run(workspace, quick(steps=2)).was_already_done
    second = run(workspace, quick(steps=4))
    assert not second.was_already_done
    assert second.card.n_steps == 4
    kept = read_artifact(
        workspace.root / "train/archive/fold_0-001/model_card.json", ModelCard, made_by="train"
    )
    assert kept == first.card


def test_a_second_training_of_the_same_fold_is_refused(workspace):
    training = select_training(quick(), workspace)
    lock = FileLock(workspace.fold_dir("0").with_suffix(".lock"))
    with lock, pytest.raises(UsageError, match="another process is training this fold"):
        train(training, workspace, NullTracker())


def test_a_damaged_state_says_how_to_start_anew(workspace):
    run(workspace, quick())
    (workspace.fold_dir("0") / "model_card.json").unlink()
    last = workspace.fold_dir("0") / "last.pt"
    last.write_bytes(last.read_bytes()[:300])
    with pytest.raises(CheckpointError) as raised:
        select_training(quick(), workspace)
    assert "starts anew" in raised.value.fix


@pytest.mark.parametrize(
    "bad",
    [
        {"mirror_axes": [3]},
        {"patch_size": [0, 8, 8]},
        {"spacing_mm": [0, 1, 1]},
        {"budget_minutes": float("inf"), "steps": None},
        {"augmentation": {"scale": [1.25, 0.8]}},
        {"augmentation": {"blur_sigma_voxels": [0, 0]}},
    ],
)
def test_values_that_would_crash_later_are_refused_at_once(bad):
    with pytest.raises(ValidationError):
        quick(**bad)


def test_a_class_that_is_lost_is_named_with_advice(workspace, caplog, monkeypatch):
    # A learning rate of nothing leaves the network at its start; its answers are made blank.
    monkeypatch.setattr(
        "pipeline.train.validate.Validator.predict",
        lambda self, _network, case: np.zeros_like(self.reference(case)),
    )
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        run(workspace, quick(n_validations=3, loss={"kind": "dice"}))
    assert "validation Dice is still below 0.1 for liver, kidney" in caplog.text
    assert "train.loss.kind=dice_ce" in caplog.text
    assert "guard: class 'liver' was predicted nowhere in 2 validations in a row" in caplog.text
    guarded = read_artifact(workspace.fold_dir("0") / "guard.json", Findings, made_by="train")
    assert {f.class_name for f in guarded.findings} == {"liver", "kidney"}
    assert all(f.check_id == "P06" for f in guarded.findings)


def test_fold_all_trains_on_every_case(workspace):
    result = run(workspace, quick(fold="all"))
    assert result.card.validation is None
    assert result.card.info.plan.n_train_cases == 6
    assert result.model_file.is_file()


def test_a_time_budget_anneals_to_zero(workspace):
    result = run(workspace, quick(steps=None, budget_minutes=0.05, n_validations=4))
    rows = history(workspace)
    assert float(rows[-1]["train/learning_rate"]) == pytest.approx(0, abs=1e-12)
    assert result.card.n_steps >= 2


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    small = audited(tmp_path, n_cases=3)
    with pytest.raises(UsageError, match="no fold 4"):
        select_training(quick(fold="4"), small)


def test_errors_of_the_audit_stop_training(tmp_path):
    workspace = audited(tmp_path, n_cases=3)
    findings = json.loads(workspace.findings_file.read_text())
    finding = {
        "check_id": "E02",
        "severity": "error",
        "case_id": "case_001",
        "message": "label values are 0 and 255",
        "fix": "remap 255 to 1",
    }
    workspace.findings_file.write_text(json.dumps({**findings, "findings": [finding]}))
    with pytest.raises(DataError, match="E02 case_001: label values are 0 and 255"):
        select_training(quick(), workspace)
    waived = {**finding, "waived": "looked at it"}
    workspace.findings_file.write_text(json.dumps({**findings, "findings": [waived]}))
    select_training(quick(), workspace)


def test_one_non_finite_step_is_skipped_two_stop_with_the_checkpoint_safe(workspace, monkeypatch):
    step, poisoned = Learner.step, {2}

    def poison(self, batch, rate, *_):
        poison.n += 1
        if poison.n in poisoned:
            batch.image[:] = float("nan")
        return step(self, batch, rate)

    poison.n = 0
    monkeypatch.setattr(Learner, "step", poison)
    result = run(workspace, quick())
    rows = history(workspace)
    assert rows[-1]["train/n_skipped"] == "1"
    assert all(torch.isfinite(w).all() for w in weights(workspace).values())
    assert result.model_file.is_file()

    poison.n, poisoned = 0, {4, 5}
    monkeypatch.setattr(Learner, "step", poison)
    with pytest.raises(TrainingError, match="not finite in consecutive steps") as raised:
        run(workspace, quick(seed=3))
    assert "case_" in raised.value.where
    assert all(torch.isfinite(w).all() for w in weights(workspace).values())


def test_full_disk_keeps_the_last_checkpoint(workspace, tmp_path):
    run(workspace, quick())
    before = (workspace.fold_dir("0") / "last.pt").read_bytes()
    # A limit on file size fails writes exactly where a full disk does.
    script = f"""
import resource, signal
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import torch
from pipeline.models.checkpoint import save_state
from pipeline.core.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_state(Path({str(workspace.fold_dir("0") / "last.pt")!r}), {{"x": torch.zeros(100_000)}})
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "cannot write the checkpoint" in done.stdout
    assert "previous checkpoint is intact" in done.stdout
    assert (workspace.fold_dir("0") / "last.pt").read_bytes() == before
    assert not list(workspace.fold_dir("0").glob(".*.part"))


COMMAND = [sys.executable, "-m", "pipeline", "train", "--set", "tracking.enabled=false"]


def overrides(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"train.{key}={value}")]


def kill_after_a_checkpoint(command: list[str], last_file: Path, wait_s: float) -> None:
    """Start a training, let it write a checkpoint, and kill it a moment later."""
    before = last_file.stat().st_mtime_ns if last_file.is_file() else 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not last_file.is_file() or last_file.stat().st_mtime_ns == before:
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    time.sleep(wait_s)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_random_sigkills_end_with_the_weights_of_an_undisturbed_run(workspace):
    settings = overrides(
        steps=500, n_validations=20, device="cpu", patch_size="[16,16,16]", checkpoint_minutes=0.01
    )
    command = [*COMMAND, "--work", str(workspace.root), *settings]
    last_file = workspace.fold_dir("0") / "last.pt"
    rng = np.random.default_rng(7)
    for _ in range(4):
        kill_after_a_checkpoint(command, last_file, float(rng.uniform(0, 1.0)))
    subprocess.run(command, check=True, capture_output=True)
    killed = weights(workspace)
    workspace.fold_dir("0").rename(workspace.root / "put_aside")
    subprocess.run(command, check=True, capture_output=True)
    assert_same(killed, weights(workspace))


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_resume_and_exits_130(workspace):
    command = [
        *COMMAND,
        "--work",
        str(workspace.root),
        *overrides(steps=100_000, device="cpu", checkpoint_minutes=0.01),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    last_file = workspace.fold_dir("0") / "last.pt"
    while not last_file.is_file():
        assert process.poll() is None, "the training ended before it could be interrupted"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert (workspace.fold_dir("0") / "last.pt").is_file()


def test_the_model_file_tells_what_it_was_trained_on(workspace):
    result = run(workspace, quick())
    model = load_model(result.model_file, torch.device("cpu"))
    assert model.info == result.card.info
    assert model.card == (workspace.fold_dir("0") / "model_card.md").read_text()
    ranges = model.info.training_ranges
    assert ranges.n_cases == model.info.plan.n_train_cases == 4
    assert sum(ranges.orientations.values()) == 4
    assert set(ranges.volumes_ml) == {"liver", "kidney"}
    assert model.info.versions["torch"] == torch.__version__
    # Two validation cases say nothing about clean-up.
    assert model.info.cleanup == ()


def test_on_all_cases_nothing_is_scored_and_nothing_cleaned_up(workspace):
    result = run(workspace, quick(fold="all"))
    model = load_model(result.model_file, torch.device("cpu"))
    assert model.info.cleanup == ()
    assert model.info.training_ranges.n_cases == 6
    assert "Not measured" in model.card


def test_finishing_twice_leaves_the_same_model(workspace):
    first = run(workspace, quick(steps=2))
    model_file = first.model_file.read_bytes()
    (workspace.fold_dir("0") / "model_card.json").unlink()
    again = run(workspace, quick(steps=2))
    assert not again.was_already_done
    assert again.card.info == first.card.info
    assert first.model_file.read_bytes() == model_file


@pytest.mark.slow
def test_clean_up_is_chosen_on_validation_predictions_and_leaves_the_scores_alone(tmp_path):
    workspace = audited(tmp_path, 25)
    # Far too short a training: pieces are everywhere.
    card = run(workspace, quick(steps=60)).card
    rules = card.info.cleanup
    assert rules
    first = {rule.class_name: rule for rule in reversed(rules)}
    for name, rule in first.items():
        assert rule.dice_before == pytest.approx(card.validation.classes[name].dice.mean)
        assert rule.dice_after > rule.dice_before
    off = run(workspace, quick(steps=60, cleanup=False)).card
    assert off.info.cleanup == ()
    assert off.validation == card.validation
