"""Progress always ends at 1 and the learning rate at 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.train.config import OptimizerConfig, TrainConfig
from pipeline.train.schedule import (
    ONE_CYCLE_START,
    Pace,
    RateState,
    begin_round,
    budget_seconds,
    current_rate,
    drop_rounds,
    fixed_steps,
    learning_rate,
    momentum,
    steps_in_time,
    steps_of_round,
)


@given(total=st.integers(1, 5000), n_rounds=st.integers(1, 40))
def test_rounds_add_up_to_the_steps_asked_for(total, n_rounds):
    pace = Pace(min(n_rounds, total))
    step, progress = 0, []
    while pace.round < pace.n_rounds:
        n_steps = steps_of_round(pace, total)
        assert n_steps >= 1
        begin_round(pace, step, n_steps)
        progress.append(pace.progress(step))
        step += n_steps
        assert pace.progress(step) == pytest.approx((pace.round + 1) / pace.n_rounds)
        pace.round += 1
    assert step == total
    assert progress == sorted(progress)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "one_cycle", "plateau"])
def test_learning_rate_rises_then_falls_to_zero(schedule):
    config = OptimizerConfig(schedule=schedule, warmup_fraction=0.1)
    rates = [learning_rate(i / 1000, 1e-3, config) for i in range(1001)]
    assert rates[100] == pytest.approx(1e-3)
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[0] > 0


@given(budget_s=st.floats(10, 1e5), step_s=st.floats(0.01, 10), validation_s=st.floats(0, 5))
def test_a_steady_machine_ends_inside_its_budget(budget_s, step_s, validation_s):
    pace, step, elapsed_s = Pace(10), 0, 0.0
    minimum_s = 2 * step_s + validation_s
    while pace.round < pace.n_rounds:
        drop_rounds(pace, budget_s - elapsed_s, step_s, validation_s)
        n_steps = steps_in_time(pace, budget_s - elapsed_s, step_s, validation_s)
        begin_round(pace, step, n_steps)
        step += n_steps
        elapsed_s += n_steps * step_s + validation_s
        pace.round += 1
    assert elapsed_s <= max(budget_s, minimum_s) + 1e-6
    if budget_s > 20 * minimum_s:
        assert elapsed_s > 0.9 * budget_s - 10 * step_s


def test_a_machine_that_slows_down_still_ends_in_time():
    pace, step, elapsed_s = Pace(20), 0, 0.0
    while pace.round < pace.n_rounds:
        believed_s = 0.1 if pace.round <= 10 else 0.3
        n_steps = steps_in_time(pace, 600 - elapsed_s, believed_s, 1.0)
        begin_round(pace, step, n_steps)
        elapsed_s += n_steps * (0.1 if pace.round < 10 else 0.3) + 1.0
        step += n_steps
        pace.round += 1
    # One round of the twenty was paced before the slowdown was seen.
    assert elapsed_s < 600 * 1.15


def test_a_round_that_costs_more_than_the_time_left_is_dropped():
    pace = Pace(20, round=10)
    drop_rounds(pace, 10.0, 0.1, 4.0)
    assert pace.n_rounds == 12
    drop_rounds(pace, -5.0, 0.1, 4.0)
    assert pace.n_rounds == 11


def test_lengths_of_training():
    assert fixed_steps(TrainConfig(steps=7), 10) == 7
    assert fixed_steps(TrainConfig(epochs=1.5), 10) == 15
    assert fixed_steps(TrainConfig(budget_minutes=2), 10) is None
    assert budget_seconds(TrainConfig(budget_minutes=2)) == 120


def test_one_cycle_rises_and_falls_as_a_cosine_and_momentum_mirrors_it():
    config = OptimizerConfig(schedule="one_cycle", warmup_fraction=0.3)
    progress = [i / 1000 for i in range(1001)]
    rates = [learning_rate(p, 1e-2, config) for p in progress]
    moments = [momentum(rate, 1e-2, config) for rate in rates]
    assert rates[0] == pytest.approx(1e-2 / ONE_CYCLE_START)
    # Half way up a cosine lies half of the rise.
    assert rates[150] == pytest.approx(1e-2 * (1 / ONE_CYCLE_START + 1) / 2)
    assert rates[650] == pytest.approx(1e-2 / 2)
    assert (moments[0], moments[300], moments[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert moments[:301] == sorted(moments[:301], reverse=True)
    assert moments[300:] == sorted(moments[300:])


@pytest.mark.parametrize("schedule", ["cosine", "poly", "plateau"])
def test_other_schedules_leave_the_momentum_alone(schedule):
    assert momentum(1e-3, 1e-2, OptimizerConfig(schedule=schedule)) is None


def test_a_plateau_is_flat_until_its_last_part():
    config = OptimizerConfig(schedule="plateau", warmup_fraction=0.1, anneal_fraction=0.25)
    assert learning_rate(0.1, 1e-3, config) == pytest.approx(1e-3)
    assert learning_rate(0.75, 1e-3, config) == pytest.approx(1e-3)
    assert learning_rate(0.875, 1e-3, config) == pytest.approx(0.5e-3)
    assert learning_rate(1.0, 1e-3, config) == 0


def test_steps_down_of_a_plateau_multiply_the_rate():
    config = OptimizerConfig(schedule="plateau")
    pace = Pace(10, round=4, first_step=40, end_step=50)
    assert current_rate(pace, RateState(factor=0.25), 45, 1e-3, config) == pytest.approx(0.25e-3)


@given(n_left=st.integers(1, 10), done=st.integers(1, 30))
def test_an_early_end_begins_at_the_present_rate_and_reaches_zero(n_left, done):
    config = OptimizerConfig(schedule="cosine")
    rates = RateState(stop_round=done, stop_rate=3e-4)
    pace = Pace(done + n_left, round=done, first_step=0, end_step=10)
    seen = []
    while pace.round < pace.n_rounds:
        seen += [current_rate(pace, rates, step, 1e-3, config) for step in range(11)]
        pace.round += 1
    assert seen[0] == pytest.approx(3e-4)
    assert seen == pytest.approx(sorted(seen, reverse=True))
    assert seen[-1] == pytest.approx(0, abs=1e-12)


def test_a_round_knows_where_it_lies():
    assert Pace(4, round=1).limits == (0.25, 0.5)
