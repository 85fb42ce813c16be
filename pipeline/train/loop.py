"""The training loop: rounds of steps, each ending with a validation and a checkpoint."""

import logging
import math
import time
from collections.abc import Callable
from functools import partial

from pipeline.artifacts import GrowthStage
from pipeline.core.errors import InterruptedByUserError, TrainingError
from pipeline.core.log import Bar, format_duration, progress_bar
from pipeline.train import early_stop, schedule
from pipeline.train.data import Batch
from pipeline.train.growth import mean_cost, stage_at
from pipeline.train.guard import name_causes, watch_patches, watch_step
from pipeline.train.learner import Learner, StepResult, nothing
from pipeline.train.oom import restore_size, start_within_memory, within_memory
from pipeline.train.page import PAGE, page_of_a_stop, write_page
from pipeline.train.rounds import (
    end_round,
    is_picture_round,
    log_pictures,
    n_picture_rounds_left,
    report_round,
    write_history,
)
from pipeline.train.schedule import Pace
from pipeline.train.snapshot import Clock, resume, save
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.teamwork import share_start

logger = logging.getLogger(__name__)

# One odd batch is survived; two in a row mean that training has gone wrong.
MAX_SKIPPED_IN_A_ROW = 1
# Share of a time budget that may go into watching: validations, and pictures.
WATCHING_FRACTION = 0.1


def run_loop(parts: LoopParts, should_stop: Callable[[], bool]) -> LoopState:
    """Train to the end, from the last checkpoint if there is one.

    Args:
        parts: What to train, on what.
        should_stop: Asked after every step.

    Returns:
        The final state.

    Raises:
        InterruptedByUserError: When asked to stop; the state is saved.
        TrainingError: When loss or gradients stay non-finite; the last good state is saved.
    """
    state = resume(parts) or start_within_memory(parts, _start)
    restore_size(parts, state)
    share_start(parts)
    _catch_up(parts, state)
    write_page(parts, state)
    logger.info("curves and pictures: %s", parts.folder / PAGE)
    clock = Clock(state)
    with (
        page_of_a_stop(parts, state),
        progress_bar("train", 100, done=_percent(state)) as bar,
    ):
        while not state.is_finished:
            if not state.pace.is_open:
                _begin_round(parts, state)
            stop_if_asked = partial(_stop_if_asked, parts, state, clock, should_stop)
            _run_steps(parts, state, clock, bar, stop_if_asked)
            end_round(parts, state, clock, stop_if_asked)
    return state


def _catch_up(parts: LoopParts, state: LoopState) -> None:
    """Repeat what a kill right after a checkpoint may have cut off; repeats change nothing."""
    if not state.history:
        return
    write_history(parts, state)
    for row in state.history:
        report_round(parts, row)
    if not state.pace.is_open and is_picture_round(state.pace):
        log_pictures(parts, state)


def _start(parts: LoopParts) -> LoopState:
    started_s = time.monotonic()
    total = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    n_rounds = parts.config.n_validations
    n_cases = min(len(parts.cases), parts.config.n_validation_cases or 16)
    if total is not None:
        state = LoopState(Pace(min(n_rounds, total)), n_validation_cases=n_cases)
    else:
        state = _calibrate(parts, n_rounds, n_cases)
    log_pictures(parts, state)
    state.elapsed_s = time.monotonic() - started_s
    return state


def _calibrate(parts: LoopParts, n_rounds: int, n_cases: int) -> LoopState:
    """Measure a step and a validation on throw-away weights, and share out the time."""
    budget_s = schedule.budget_seconds(parts.config)
    probe = Learner(parts.info.plan, parts.info.task, parts.config, parts.validator.device)
    step_s = min(_timed(lambda: probe.step(parts.source.batch(0), 1e-4)) for _ in range(5))
    case_s = 0.0
    if parts.cases:
        case_s = min(
            _timed(lambda: parts.validator.score(probe.averaged, parts.cases[0])) for _ in range(2)
        )
        # Fewer cases first, then fewer rounds.
        affordable = WATCHING_FRACTION * budget_s / max(case_s, 1e-6)
        if parts.config.n_validation_cases is None:
            n_cases = max(min(2, n_cases), min(n_cases, int(affordable / n_rounds)))
        n_rounds = max(min(4, n_rounds), min(n_rounds, int(affordable / n_cases)))
    logger.info(
        "budget: %s for %d rounds of training, validation and pictures; the final validation of "
        "%d cases comes after it, about %s in one process",
        format_duration(budget_s),
        n_rounds,
        len(parts.cases),
        format_duration(case_s * len(parts.cases)),
    )
    # The probe drew from the global generator; the learner's weights were drawn before it.
    state = LoopState(Pace(n_rounds), step_s=step_s, n_validation_cases=n_cases)
    state.validation_s = case_s * n_cases
    return state


def _timed(action: Callable[[], object]) -> float:
    started_s = time.monotonic()
    action()
    return time.monotonic() - started_s


def _begin_round(parts: LoopParts, state: LoopState) -> None:
    total = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    if total is not None:
        n_steps = early_stop.steps_of_round(state, total)
    else:
        left_s = early_stop.seconds_left(parts, state) - _pictures_s(parts, state)
        step_s = state.step_s * mean_cost(parts.info.plan, *state.pace.limits)
        schedule.drop_rounds(state.pace, left_s, step_s, state.validation_s)
        n_steps = schedule.steps_in_time(state.pace, left_s, step_s, state.validation_s)
    schedule.begin_round(state.pace, state.step, n_steps)
    state.sums, state.n_summed = {}, 0


def _pictures_s(parts: LoopParts, state: LoopState) -> float:
    """Time that the pictures to come will take; a budget of seconds is not spent on them alone."""
    expected_s = n_picture_rounds_left(state.pace) * state.picture_s
    return min(expected_s, WATCHING_FRACTION * schedule.budget_seconds(parts.config))


def _stop_if_asked(
    parts: LoopParts, state: LoopState, clock: Clock, should_stop: Callable[[], bool]
) -> None:
    """Save and leave, if the user wants to; the round stays open and is ended after resuming."""
    if not should_stop():
        return
    save(parts, state, clock)
    if not clock.is_saved:
        raise InterruptedByUserError(
            f"stopped at step {state.step}; the disk is full: only the checkpoint before is kept",
            where=str(parts.last_file),
            fix="free disk space and run the same command again; it goes on from that checkpoint",
        )
    raise InterruptedByUserError(
        f"stopped at step {state.step}; everything is kept",
        where=str(parts.last_file),
        fix="run the same command again to go on from here",
    )


def _run_steps(
    parts: LoopParts,
    state: LoopState,
    clock: Clock,
    bar: Bar,
    stop_if_asked: Callable[[], None],
) -> None:
    peak, optimizer = parts.info.plan.learning_rate, parts.config.optimizer
    round_s, round_first = 0.0, state.step
    begun = state.pace.progress(round_first)
    while state.step < state.pace.end_step:
        before = _percent(state)
        rate = schedule.current_rate(state.pace, state.rates, state.step, peak, optimizer)
        momentum = schedule.momentum(rate, peak, optimizer)
        if momentum is not None:
            parts.learner.set_momentum(momentum)
        stage = stage_at(parts.info.plan.growth, state.pace.progress(state.step))
        batch, result = within_memory(
            parts,
            state,
            partial(_take_step, parts, state, stage, rate),
            partial(save, parts, state, clock),
        )
        state.step += 1
        round_s += clock.tick()
        _account(parts, state, result, batch)
        bar.advance(_percent(state) - before, _note(state), _seconds_left(parts, state))
        stop_if_asked()
        if time.monotonic() - clock.saved_at_s > 60 * parts.config.checkpoint_minutes:
            save(parts, state, clock)
    if state.step > round_first:
        cost = mean_cost(parts.info.plan, begun, state.pace.limits[1])
        state.step_s = round_s / (state.step - round_first) / cost


def _take_step(
    parts: LoopParts, state: LoopState, stage: GrowthStage | None, rate: float
) -> tuple[Batch, StepResult]:
    with parts.meter.waiting():
        batch = parts.source.batch(state.step, stage)
    following = state.step + 1
    # After the last step of a round comes a validation, which may need the memory.
    draw_next = (
        partial(parts.source.draw_ahead, following, stage)
        if following < state.pace.end_step
        else nothing
    )
    result = parts.learner.step(batch, rate, draw_next)
    parts.meter.step_done(len(batch.case_ids))
    return batch, result


def _account(parts: LoopParts, state: LoopState, result: StepResult, batch: Batch) -> None:
    """Add up what a step said; stop when non-finite steps follow each other."""
    if result.is_finite:
        state.skipped_in_a_row = 0
        watch_step(state.guard, result.loss, result.gradient_norm, batch.case_ids)
        watch_patches(state.guard, len(batch.case_ids), result.n_patches_of)
        for name in ("loss", "dice_loss", "cross_entropy", "gradient_norm"):
            value = getattr(result, name)
            # With float16 a gradient may overflow now and then without harm.
            state.sums[name] = state.sums.get(name, 0.0) + (value if math.isfinite(value) else 0.0)
        state.n_summed += 1
        return
    state.n_skipped += 1
    state.skipped_in_a_row += 1
    where = f"step {state.step}, cases {', '.join(batch.case_ids)}"
    logger.warning("loss or gradient is not finite; step skipped (%s)", where)
    if state.skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
        raise TrainingError(
            "loss or gradient is not finite in consecutive steps; the last checkpoint is safe",
            where=where,
            fix=name_causes("not_finite", parts.suspects)[0],
        )


def _percent(state: LoopState) -> float:
    return 100.0 if state.is_finished else 100 * state.pace.progress(state.step)


def _seconds_left(parts: LoopParts, state: LoopState) -> float | None:
    """What a budget leaves; None where steps are counted."""
    if schedule.fixed_steps(parts.config, parts.source.steps_per_epoch) is not None:
        return None
    return max(0.0, early_stop.seconds_left(parts, state))


def _note(state: LoopState) -> str:
    loss = state.sums.get("loss", 0.0) / max(1, state.n_summed)
    dice = "" if state.smoothed_dice is None else f"  Dice {state.smoothed_dice:.3f}"
    return f"step {state.step}  loss {loss:.3f}{dice}"
