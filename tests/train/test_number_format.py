"""The number format of a training is told, kept, and missed when it changes on the way."""

import pytest
import torch
from workfolders import audited, quick

from pipeline.artifacts import Plan
from pipeline.core.artifact import read_artifact
from pipeline.core.tracker import NullTracker
from pipeline.models.checkpoint import load_state
from pipeline.train.select import select_training
from pipeline.train.stage import train


def compute_in(monkeypatch, dtype: torch.dtype | None) -> None:
    """Let this machine be one that computes in a number format."""
    for module in ("models.device", "train.learner"):
        monkeypatch.setattr(f"pipeline.{module}.mixed_precision_dtype", lambda _: dtype)


@pytest.fixture
def workspace(tmp_path):
    return audited(tmp_path, n_cases=4)


def test_a_training_that_goes_on_in_other_numbers_says_so_and_is_not_begun_anew(
    workspace, monkeypatch, caplog
):
    compute_in(monkeypatch, torch.bfloat16)
    folder = workspace.fold_dir("0")
    config = quick(steps=2, n_validations=1, cleanup=False)
    card = train(select_training(config, workspace), workspace, NullTracker()).card
    plan = read_artifact(folder / "plan.json", Plan, made_by="train")
    assert any("convolutions in bfloat16, which this CPU" in reason for reason in plan.reasons)
    assert card.info.number_format == "bfloat16"
    assert "computed in bfloat16" in (folder / "model_card.md").read_text(encoding="utf-8")
    assert load_state(folder / "last.pt", torch.device("cpu"))["number_format"] == "bfloat16"
    assert "begun in" not in caplog.text
    # As if killed before the end, and taken up by an older machine.
    (folder / "model_card.json").unlink()
    compute_in(monkeypatch, None)
    training = select_training(config, workspace)
    assert training.status == "started"
    assert any("float32, because this CPU has no" in reason for reason in training.plan.reasons)
    train(training, workspace, NullTracker())
    assert "begun in bfloat16 and goes on in float32" in caplog.text
    assert "last bits" in caplog.text


def test_without_mixed_precision_the_plan_says_so(workspace):
    plan = select_training(quick(amp=False), workspace).plan
    assert "numbers: float32, as configured (train.amp)" in plan.reasons
