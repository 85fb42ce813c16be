"""The range test of learning rates: where it suggests, where it stops, what it leaves alone."""

import csv
import io

import numpy as np
import pytest
import torch
from workfolders import audited, quick

from pipeline.core.tracker import NullTracker
from pipeline.train import lr_find
from pipeline.train.data import Batch
from pipeline.train.learner import StepResult
from pipeline.train.lr_find import (
    RangePoint,
    curve_csv,
    find_learning_rate,
    range_test,
    suggest_rates,
)
from pipeline.train.select import select_training


class Recorder(NullTracker):
    """Keeps what is reported."""

    def __init__(self):
        self.params, self.curve, self.files = {}, [], []

    def log_params(self, params):
        self.params.update(params)

    def log_metrics(self, metrics, *, step=None, headline=True):
        self.curve.append((step, metrics))

    def log_file(self, file, *, folder="", headline=False):
        self.files.append(file.name)


def points(losses):
    rates = np.geomspace(1e-6, 1, len(losses)).tolist()
    return [RangePoint(r, float(v), float(v)) for r, v in zip(rates, losses, strict=True)]


def test_the_steepest_fall_and_a_tenth_of_the_minimum_are_found():
    exponents = np.linspace(-6, 0, 61)
    # Falls as a logistic around 1e-3 and rises again from 1e-1 on.
    losses = 1 / (1 + np.exp(4 * (exponents + 3))) + np.maximum(0, exponents + 1) ** 2
    steepest, tenth = suggest_rates(points(losses))
    assert steepest == pytest.approx(1e-3, rel=0.1)
    assert tenth == pytest.approx(10 ** (exponents[losses.argmin()] - 1), rel=1e-6)


@pytest.mark.parametrize("losses", [[], [1.0] * 4, list(range(1, 40))])
def test_a_loss_that_never_falls_suggests_nothing(losses):
    assert suggest_rates(points(losses)) == (None, None)


class Bowl:
    """A loss that falls with small rates and runs away with large ones."""

    def __init__(self, not_finite_at: float = float("inf")) -> None:
        self.distance, self.not_finite_at = 10.0, not_finite_at

    def step(self, batch, rate):
        loss = self.distance**2
        self.distance *= abs(1 - 40 * rate)
        is_finite = rate < self.not_finite_at
        return StepResult(loss if is_finite else float("nan"), 0.0, 0.0, 1.0, is_finite)


def no_batch(step):
    image = torch.zeros(2, 1, 1, 1, 1)
    return Batch(image, torch.zeros(2, 1, 1, 1, dtype=torch.int64), ("a", "b"))


def run_bowl(monkeypatch, bowl):
    # The learner is whatever takes steps: its weights do not matter to the bookkeeping.
    monkeypatch.setattr(lr_find.Learner, "__init__", lambda self: None)
    learner = lr_find.Learner()
    monkeypatch.setattr(learner, "step", bowl.step, raising=False)
    return range_test(learner, no_batch)


def test_divergence_ends_the_test(monkeypatch):
    result = run_bowl(monkeypatch, Bowl())
    assert result.diverged_at is not None
    assert result.points[-1].rate == result.diverged_at
    assert 1 / 40 < result.diverged_at < 1
    assert result.steepest < result.diverged_at


def test_a_loss_that_is_not_finite_ends_the_test_and_is_no_point(monkeypatch):
    result = run_bowl(monkeypatch, Bowl(not_finite_at=1e-3))
    assert result.diverged_at == pytest.approx(1e-3, rel=0.2)
    assert result.points[-1].rate < result.diverged_at
    assert all(np.isfinite(p.loss) for p in result.points)


def test_it_reports_curve_and_suggestion_and_begins_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(lr_find, "N_STEPS", 16)
    workspace, tracker = audited(tmp_path), Recorder()
    training = select_training(quick(), workspace)
    result = find_learning_rate(training, workspace, tracker)
    folder = workspace.stage_dir("train") / "lr_find"
    rows = list(csv.DictReader(io.StringIO((folder / "curve.csv").read_text())))
    assert len(rows) == len(result.points) <= 16
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-6)
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [step for step, _ in tracker.curve] == list(range(len(rows)))
    assert set(tracker.files) == {"curve.csv", "curve.png"}
    assert tracker.params.get("lr_find.suggestion") == result.steepest
    assert not workspace.fold_dir("0").exists()
    assert select_training(quick(), workspace).status == "new"
    again = find_learning_rate(training, workspace, NullTracker())
    assert again == result


def test_the_table_has_one_row_per_step():
    text = curve_csv(points([3.0, 2.0]))
    assert text.splitlines()[0] == "step,learning_rate,loss,smoothed_loss"
    assert text.splitlines()[2] == "1,1,2,2"
