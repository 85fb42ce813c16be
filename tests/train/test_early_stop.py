"""Rounds without a better validation lower the rate or end the training, and resume exactly."""

import pytest
import torch
from workfolders import audited, quick, sharing

from pipeline.artifacts import GrowthStage, ModelCard, read_artifact
from pipeline.core.tracker import NullTracker
from pipeline.models.checkpoint import load_state
from pipeline.train import early_stop
from pipeline.train.config import TrainConfig
from pipeline.train.early_stop import judge_round, reasons_without_validation, steps_of_round
from pipeline.train.learner import Learner
from pipeline.train.schedule import Pace
from pipeline.train.select import select_training
from pipeline.train.snapshot import resume
from pipeline.train.stage import _parts, _prepare, train
from pipeline.train.state import LoopState

CPU = torch.device("cpu")
# A rate that moves nothing: every validation says what the first one said.
STILL = {"learning_rate": 1e-12, "warmup_fraction": 0.1}
STEPS = {"steps": 20, "n_validations": 20, "n_validation_cases": 1}


class Tags(NullTracker):
    """Keeps the tags."""

    def __init__(self):
        self.tags = {}

    def set_tags(self, tags):
        self.tags.update(tags)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("stop"))


@pytest.fixture
def fresh(pristine, tmp_path):
    """Work folders of their own that share what was ingested."""

    def make(name="work"):
        return sharing(pristine, tmp_path / name)

    return make


def parts_of(workspace, **changes):
    training = select_training(quick(**{**STEPS, **changes}), workspace)
    cases = _prepare(training, workspace)
    return _parts(training, workspace, cases, NullTracker())


def state_of(workspace):
    return load_state(workspace.fold_dir("0") / "last.pt", CPU)


def test_a_training_that_stands_still_is_annealed_and_ends(fresh, caplog):
    workspace, tracker = fresh(), Tags()
    config = quick(**STEPS, early_stop_rounds=4, optimizer=STILL)
    with caplog.at_level("INFO"):
        result = train(select_training(config, workspace), workspace, tracker)
    # Rounds 1 and 2 are warm-up, 3 is the best, 4 to 7 are not better; a fifth of 7 is 1 round.
    assert result.card.n_steps == 7 + 1
    assert any(r.startswith("early stop: no better") for r in result.card.info.plan.reasons)
    assert "8 of 20 rounds" in tracker.tags["early_stop"]
    assert "early stop" in caplog.text
    card = read_artifact(workspace.fold_dir("0") / "model_card.json", ModelCard, made_by="train")
    assert card.info.plan.reasons == result.card.info.plan.reasons
    history = (workspace.fold_dir("0") / "history.csv").read_text().splitlines()
    rows = [dict(zip(history[0].split(","), r.split(","), strict=True)) for r in history[1:]]
    assert float(rows[-1]["train/learning_rate"]) == 0
    assert float(rows[-1]["train/is_annealed_early"]) == 1
    assert [float(r["train/rounds_without_gain"]) for r in rows[2:7]] == [0, 1, 2, 3, 4]


@pytest.mark.slow  # four trainings, each with a validation after every step
@pytest.mark.parametrize("step", [3, 7])
def test_it_resumes_exactly_before_and_during_the_annealing(fresh, monkeypatch, step):
    config = quick(**STEPS, early_stop_rounds=4, optimizer=STILL)
    states = []
    for name in ("whole", "cut"):
        workspace = fresh(name)
        if name == "cut":
            with monkeypatch.context() as patch:
                real, count = Learner.step, iter(range(step))

                def dying(self, batch, rate, *_, real=real, count=count):
                    if next(count, None) is None:
                        raise KeyboardInterrupt
                    return real(self, batch, rate)

                patch.setattr(Learner, "step", dying)
                with pytest.raises(KeyboardInterrupt):
                    train(select_training(config, workspace), workspace, NullTracker())
        train(select_training(config, workspace), workspace, NullTracker())
        states.append(state_of(workspace)["learner"]["network"])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_plateau_lowers_the_rate_and_is_part_of_the_checkpoint(fresh):
    workspace = fresh()
    plateau = {**STILL, "schedule": "plateau", "plateau_rounds": 2, "plateau_factor": 0.5}
    config = quick(**STEPS, optimizer=plateau)
    train(select_training(config, workspace), workspace, NullTracker())
    parts = parts_of(workspace, optimizer=plateau)
    state = resume(parts)
    rates = [row["train/learning_rate"] / 1e-12 for row in state.history]
    # Best in round 3: a step down after rounds 5 and 7, seen by the next; the last fifth falls.
    assert rates[2:8] == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25])
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert state.rates.factor < 0.25


def test_a_time_budget_is_shortened_too(fresh):
    parts = parts_of(fresh(), steps=None, budget_minutes=10, early_stop_rounds=1, optimizer=STILL)
    state = LoopState(Pace(20, round=9), step=100, elapsed_s=300.0, smoothed_dice=0.5)
    state.rates.best_dice = 0.6
    judge_round(parts, state, 1e-4)
    assert state.pace.n_rounds == 12
    assert state.rates.end_s == pytest.approx(360)
    assert early_stop.seconds_left(parts, state) == pytest.approx(60)
    assert state.rates.stop_rate == 1e-4


def test_the_shortened_rounds_add_up(fresh):
    parts = parts_of(fresh(), steps=1000, early_stop_rounds=1, optimizer=STILL)
    state = LoopState(Pace(20, round=9), step=500, smoothed_dice=0.5)
    state.rates.best_dice = 0.6
    judge_round(parts, state, 1e-4)
    lengths = []
    for number in range(10, state.pace.n_rounds):
        state.pace.round = number
        lengths.append(steps_of_round(state, 1000))
    assert sum(lengths) == 100
    assert len(lengths) == 2


def test_near_the_end_nothing_is_shortened(fresh):
    parts = parts_of(fresh(), early_stop_rounds=1, optimizer=STILL)
    state = LoopState(Pace(20, round=16), step=34, smoothed_dice=0.5)
    state.rates.best_dice = 0.6
    judge_round(parts, state, 1e-4)
    assert state.pace.n_rounds == 20
    assert state.rates.stop_round is None


def test_small_patches_are_not_held_against_a_training(fresh):
    parts = parts_of(fresh(), early_stop_rounds=1, optimizer=STILL)
    plan = parts.info.plan
    stages = (
        GrowthStage(until=0.5, patch_size=(8, 8, 8)),
        GrowthStage(until=1.0, patch_size=plan.patch_size),
    )
    grown = plan.model_copy(update={"growth": stages})
    object.__setattr__(parts, "info", parts.info.model_copy(update={"plan": grown}))
    for number, n_stale in ((8, 0), (10, 1)):
        state = LoopState(Pace(20, round=number), step=20, smoothed_dice=0.5)
        state.rates.best_dice = 0.6
        judge_round(parts, state, 1e-4)
        assert state.rates.n_stale_in_all == n_stale


def test_without_validation_it_is_said_that_nothing_acts(fresh):
    config = quick(fold="all", early_stop_rounds=2, optimizer={"schedule": "plateau"})
    plan = select_training(config, fresh()).plan
    assert sum("never acts" in reason for reason in plan.reasons) == 2
    assert reasons_without_validation(TrainConfig(early_stop_rounds=2), 3) == ()
