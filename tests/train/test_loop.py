"""A time budget is kept: by a clock that only what is measured moves."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from workfolders import audited, quick

from pipeline.core.tracker import NullTracker
from pipeline.train import loop, stage
from pipeline.train.learner import Learner, StepResult
from pipeline.train.select import select_training
from pipeline.train.stage import train
from pipeline.train.validate import Validator

BUDGET_MINUTES = 10
STEP_S, CASE_S, PICTURE_S, FIRST_PICTURE_S = 2.0, 1.5, 3.0, 12.0


class Clock:
    """Seconds that work adds, and nothing else."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock, score = Clock(), Validator.score
    full = 2 * 24 * 24 * 16
    is_first = True

    def step(_learner, batch, *_args) -> StepResult:
        clock.now_s += STEP_S * batch.label.numel() / full
        return StepResult(1.0, 0.5, 0.5, 1.0, is_finite=True)

    def timed_score(*args):
        clock.now_s += CASE_S
        return score(*args)

    def picture(*_args) -> bytes:
        nonlocal is_first
        clock.now_s += FIRST_PICTURE_S if is_first else PICTURE_S
        is_first = False
        return b"a picture"

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(Validator, "score", timed_score)
    monkeypatch.setattr(Validator, "picture", picture)
    for module in ("loop", "rounds", "snapshot"):
        fake = SimpleNamespace(monotonic=clock.monotonic)
        monkeypatch.setattr(f"pipeline.train.{module}.time", fake)
    return clock


@pytest.mark.parametrize("growth", ["off", "patch"])
def test_a_budget_is_kept_within_two_percent_and_says_what_comes_after(
    tmp_path, monkeypatch, caplog, clock, growth
):
    workspace = audited(tmp_path)
    real, took_s = stage.run_loop, []

    def timed_loop(*args):
        began_s = clock.now_s
        state = real(*args)
        took_s.append(clock.now_s - began_s)
        assert state.elapsed_s == pytest.approx(took_s[0], rel=0.001)
        return state

    monkeypatch.setattr(stage, "run_loop", timed_loop)
    config = quick(
        steps=None,
        budget_minutes=BUDGET_MINUTES,
        patch_size=[24, 24, 16],
        batch_size=2,
        growth=growth,
        n_validations=9,
        cleanup=False,
    )
    with caplog.at_level("INFO", logger="pipeline"):
        train(select_training(config, workspace), workspace, NullTracker())
    assert took_s[0] == pytest.approx(60 * BUDGET_MINUTES, rel=0.02)
    assert "the final validation of 2 cases comes after it" in caplog.text


class Told:
    """A bar that remembers how much time it was told to be left."""

    def __init__(self) -> None:
        self.left_s: list[float | None] = []

    def advance(self, _amount: float = 1, _note: str = "", left_s: float | None = None) -> None:
        self.left_s.append(left_s)


@pytest.mark.parametrize("steps", [None, 6])
def test_under_a_budget_the_time_left_is_what_the_budget_leaves(
    tmp_path, monkeypatch, clock, steps
):
    bar = Told()
    monkeypatch.setattr(loop, "progress_bar", lambda *_, **__: nullcontext(bar))
    workspace = audited(tmp_path)
    config = quick(
        steps=steps,
        budget_minutes=None if steps else BUDGET_MINUTES,
        n_validations=4,
        cleanup=False,
    )
    train(select_training(config, workspace), workspace, NullTracker())
    if steps:
        assert set(bar.left_s) == {None}
        return
    left_s = [s for s in bar.left_s if s is not None]
    assert len(left_s) == len(bar.left_s)
    assert left_s == sorted(left_s, reverse=True)
    assert 0.8 * 60 * BUDGET_MINUTES < left_s[0] < 60 * BUDGET_MINUTES
    assert left_s[-1] < 0.1 * 60 * BUDGET_MINUTES
