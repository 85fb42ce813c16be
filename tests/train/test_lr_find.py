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
    find_valley,
    range_test,
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


def test_the_middle_of_the_fall_is_suggested():
    exponents = np.linspace(-6, 0, 101)
    # Flat below 1e-4, falling to 1e-1, rising from there on.
    losses = 2 - np.clip(exponents + 4, 0, 3) + 5 * np.maximum(0, exponents + 1)
    first, last = find_valley(points(losses))
    assert first == pytest.approx(1e-4, rel=0.2)
    assert last == pytest.approx(1e-1, rel=0.2)


def test_noise_on_the_way_down_does_not_cut_the_fall_into_pieces():
    rng = np.random.default_rng(0)
    falling = np.linspace(2, 1, 100) + rng.normal(0, 0.02, 100)
    first, last = find_valley(points(falling))
    assert last > 0.3
    assert first < 1e-3


def test_noise_alone_suggests_nothing():
    rng = np.random.default_rng(0)
    found = [find_valley(points(rng.normal(1, 0.1, 100))) for _ in range(20)]
    assert found == [None] * 20


def test_what_trains_on_hippocampus_is_suggested_there():
    # Smoothed losses of a real test (100 steps of AdamW, Voxline's planned network, seed 0), every
    # fifth step. Whole trainings end best at 0.003 to 0.006 and not at 0.09.
    tenths = (
        *(29.6, 29.64, 29.56, 29.48, 29.54, 29.46, 29.24, 28.82, 28.1, 26.87, 25.19, 23.03),
        *(20.96, 18.79, 16.68, 13.98, 10.7, 8.68, 7.93, 8.0),
    )
    steps = np.interp(np.arange(100), np.arange(0, 100, 5), np.array(tenths) / 10)
    first, last = find_valley(points(steps))
    assert 1e-3 < np.sqrt(first * last) < 9e-3


@pytest.mark.parametrize("losses", [[], [1.0] * 4, [1.0] * 100, list(range(1, 40))])
def test_a_loss_that_never_falls_suggests_nothing(losses):
    assert find_valley(points(losses)) is None


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
    assert result.falls_from < result.suggestion < result.falls_until < result.diverged_at


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
    assert tracker.params.get("lr_find.suggestion") == result.suggestion
    assert tracker.params["lr_find.planned"] == training.plan.learning_rate
    assert not workspace.fold_dir("0").exists()
    assert select_training(quick(), workspace).status == "new"
    again = find_learning_rate(training, workspace, NullTracker())
    assert again == result


def test_the_table_has_one_row_per_step():
    text = curve_csv(points([3.0, 2.0]))
    assert text.splitlines()[0] == "step,learning_rate,loss,smoothed_loss"
    assert text.splitlines()[2] == "1,1,2,2"
