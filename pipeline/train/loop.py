"""The training loop: rounds of steps, each ending with a validation and a checkpoint."""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from pipeline.core.errors import InterruptedByUserError, TrainingError
from pipeline.core.log import Bar, progress_bar
from pipeline.core.workspace import atomic_write, write_text
from pipeline.metrics.regions import unions_of
from pipeline.models.checkpoint import load_state, save_model, save_state
from pipeline.train import schedule
from pipeline.train.data import Batch
from pipeline.train.guard import (
    ClassShares,
    GuardState,
    in_few_words,
    name_causes,
    watch_round,
    watch_step,
    write_guard,
)
from pipeline.train.learner import Learner, StepResult
from pipeline.train.schedule import Pace
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.validate import pooled_dice, predicted_shares

logger = logging.getLogger(__name__)

# Weight of the newest validation in the average that chooses the best checkpoint.
SMOOTHING = 0.5
# One odd batch is survived; two in a row mean that training has gone wrong.
MAX_SKIPPED_IN_A_ROW = 1
# Prediction pictures over the course of a training, the untrained network included.
N_PICTURE_ROUNDS = 5
N_PICTURE_CASES = 3
# Share of training after which a class that is never found is no longer normal.
BLANK_WARNING_PROGRESS = 0.3
# Below it a class is missing, or fills the whole volume: both look alike in Dice.
LOST_DICE = 0.1


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
    state = _resume(parts) or _start(parts)
    _catch_up(parts, state)
    clock = _Clock(state)
    with progress_bar("train", 100, done=_percent(state)) as bar:
        while not state.is_finished:
            if not state.pace.is_open:
                _begin_round(parts, state)
            stop_if_asked = partial(_stop_if_asked, parts, state, clock, should_stop)
            _run_steps(parts, state, clock, bar, stop_if_asked)
            _end_round(parts, state, clock, stop_if_asked)
    return state


def _catch_up(parts: LoopParts, state: LoopState) -> None:
    """Repeat what a kill right after a checkpoint may have cut off; repeats change nothing."""
    if not state.history:
        return
    write_text(parts.folder / "history.csv", _history_csv(state.history))
    for row in state.history:
        _report(parts, row)
    if not state.pace.is_open and _is_picture_round(state):
        _log_pictures(parts, state)


class _Clock:
    """Adds real time to the state; knows when the last checkpoint was."""

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._now_s = self.saved_at_s = time.monotonic()

    def tick(self) -> float:
        """Seconds since the last tick, added to the state."""
        now_s = time.monotonic()
        passed_s, self._now_s = now_s - self._now_s, now_s
        self._state.elapsed_s += passed_s
        return passed_s


def _resume(parts: LoopParts) -> LoopState | None:
    if not parts.last_file.is_file():
        return None
    content = load_state(parts.last_file, parts.validator.device)
    if content["run_key"] != parts.run_key:
        raise TrainingError(
            "the checkpoint belongs to another configuration or other data",
            where=str(parts.last_file),
            fix="give another --work folder",
        )
    parts.learner.restore(content["learner"])
    values = json.loads(content["loop"])
    state = LoopState(
        **{**values, "pace": Pace(**values["pace"]), "guard": GuardState(**values["guard"])}
    )
    logger.info("resuming at step %d after %.1f min", state.step, state.elapsed_s / 60)
    return state


def _start(parts: LoopParts) -> LoopState:
    total = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    n_rounds = parts.config.n_validations
    n_cases = min(len(parts.cases), parts.config.n_validation_cases or 16)
    if total is not None:
        state = LoopState(Pace(min(n_rounds, total)), n_validation_cases=n_cases)
    else:
        state = _calibrate(parts, n_rounds, n_cases)
    _log_pictures(parts, state)
    return state


def _calibrate(parts: LoopParts, n_rounds: int, n_cases: int) -> LoopState:
    """Measure a step and a validation on throw-away weights, and share out the time."""
    started_s = time.monotonic()
    probe = Learner(parts.info.plan, parts.info.task, parts.config, parts.validator.device)
    step_s = min(_timed(lambda: probe.step(parts.source.batch(0), 1e-4)) for _ in range(5))
    case_s = 0.0
    if parts.cases:
        case_s = min(
            _timed(lambda: parts.validator.score(probe.averaged, parts.cases[0])) for _ in range(2)
        )
        # A tenth of the time may go into watching: fewer cases first, then fewer rounds.
        affordable = 0.1 * schedule.budget_seconds(parts.config) / max(case_s, 1e-6)
        if parts.config.n_validation_cases is None:
            n_cases = max(min(2, n_cases), min(n_cases, int(affordable / n_rounds)))
        n_rounds = max(min(4, n_rounds), min(n_rounds, int(affordable / n_cases)))
    # The probe drew from the global generator; the learner's weights were drawn before it.
    state = LoopState(Pace(n_rounds), step_s=step_s, n_validation_cases=n_cases)
    state.validation_s = case_s * n_cases
    state.elapsed_s = time.monotonic() - started_s
    return state


def _timed(action: Callable[[], object]) -> float:
    started_s = time.monotonic()
    action()
    return time.monotonic() - started_s


def _begin_round(parts: LoopParts, state: LoopState) -> None:
    total = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    if total is not None:
        n_steps = schedule.steps_of_round(state.pace, total)
    else:
        left_s = schedule.budget_seconds(parts.config) - state.elapsed_s
        schedule.drop_rounds(state.pace, left_s, state.step_s, state.validation_s)
        n_steps = schedule.steps_in_time(state.pace, left_s, state.step_s, state.validation_s)
    schedule.begin_round(state.pace, state.step, n_steps)
    state.sums, state.n_summed = {}, 0


def _stop_if_asked(
    parts: LoopParts, state: LoopState, clock: _Clock, should_stop: Callable[[], bool]
) -> None:
    """Save and leave, if the user wants to; the round stays open and is ended after resuming."""
    if not should_stop():
        return
    _save(parts, state, clock)
    raise InterruptedByUserError(
        f"stopped at step {state.step}; everything is kept",
        where=str(parts.last_file),
        fix="run the same command again to go on from here",
    )


def _run_steps(
    parts: LoopParts,
    state: LoopState,
    clock: _Clock,
    bar: Bar,
    stop_if_asked: Callable[[], None],
) -> None:
    peak, optimizer = parts.info.plan.learning_rate, parts.config.optimizer
    round_s, round_first = 0.0, state.step
    while state.step < state.pace.end_step:
        before = _percent(state)
        rate = schedule.learning_rate(state.pace.progress(state.step), peak, optimizer)
        batch = parts.source.batch(state.step)
        result = parts.learner.step(batch, rate)
        state.step += 1
        round_s += clock.tick()
        _account(parts, state, result, batch)
        bar.advance(_percent(state) - before, _note(state))
        stop_if_asked()
        if time.monotonic() - clock.saved_at_s > 60 * parts.config.checkpoint_minutes:
            _save(parts, state, clock)
    if state.step > round_first:
        state.step_s = round_s / (state.step - round_first)


def _account(parts: LoopParts, state: LoopState, result: StepResult, batch: Batch) -> None:
    """Add up what a step said; stop when non-finite steps follow each other."""
    if result.is_finite:
        state.skipped_in_a_row = 0
        watch_step(state.guard, result.loss, result.gradient_norm, batch.case_ids)
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


def _end_round(
    parts: LoopParts, state: LoopState, clock: _Clock, stop_if_asked: Callable[[], None]
) -> None:
    n = max(1, state.n_summed)
    row = {f"train/{name}": total / n for name, total in state.sums.items()}
    row["step"] = state.step
    row["train/learning_rate"] = schedule.learning_rate(
        state.pace.progress(state.step), parts.info.plan.learning_rate, parts.config.optimizer
    )
    row["train/steps_per_s"] = 1 / max(state.step_s, 1e-9)
    row["train/n_skipped"] = state.n_skipped
    is_best, shares = True, dict[str, ClassShares]()
    if parts.cases:
        scores, shares = _validate(parts, state, stop_if_asked)
        row.update(scores)
        is_best = (state.smoothed_dice or 0.0) >= state.best_dice
        state.best_dice = max(state.best_dice, state.smoothed_dice or 0.0)
    row.update(_guard_round(parts, state, shares))
    state.pace.round += 1
    state.is_finished = state.pace.round >= state.pace.n_rounds
    started_s = state.elapsed_s
    clock.tick()
    row["train/elapsed_min"] = state.elapsed_s / 60
    state.history.append(row)
    if is_best:
        save_model(parts.best_file, parts.learner.weights(), parts.info)
    schedule.close_round(state.pace, state.step)
    _save(parts, state, clock)
    write_text(parts.folder / "history.csv", _history_csv(state.history))
    _report(parts, row)
    if _is_picture_round(state):
        _log_pictures(parts, state)
    clock.tick()
    state.validation_s = state.elapsed_s - started_s


def _validate(
    parts: LoopParts, state: LoopState, stop_if_asked: Callable[[], None]
) -> tuple[dict[str, float], dict[str, ClassShares]]:
    scores = []
    for case in parts.cases[: state.n_validation_cases]:
        scores.append(parts.validator.score(parts.learner.averaged, case))
        stop_if_asked()
    pooled = pooled_dice(scores, parts.class_names)
    previous = pooled if state.smoothed_dice is None else state.smoothed_dice
    state.smoothed_dice = SMOOTHING * pooled + (1 - SMOOTHING) * previous
    row = {"val/dice_pooled": pooled, "val/dice_smoothed": state.smoothed_dice}
    for name in (*parts.class_names, *unions_of(parts.info.task)):
        values = [s.dice.value for case in scores if (s := case.of_class(name)) is not None]
        defined = [v for v in values if v is not None]
        if defined:
            row[f"val/dice_{name}"] = sum(defined) / len(defined)
    _warn_of_lost_classes(parts, state, row)
    shares = predicted_shares(scores, parts.cases[: len(scores)], parts.class_names)
    return row, shares


def _warn_of_lost_classes(parts: LoopParts, state: LoopState, row: Mapping[str, float]) -> None:
    """Say once, in the middle of training, which classes the network does not find."""
    rounds_before = math.ceil(BLANK_WARNING_PROGRESS * state.pace.n_rounds)
    if state.pace.round != rounds_before:
        return
    lost = [n for n in parts.class_names if row.get(f"val/dice_{n}", 1.0) < LOST_DICE]
    if not lost:
        return
    if parts.config.loss.kind == "dice":
        advice = (
            "Dice alone gives a class that fell to zero no gradient: try train.loss.kind=dice_ce"
        )
    else:
        advice = (
            f"{state.step} steps may be too few; if not, look at this class in the audit report "
            "(label values, size, alignment)"
        )
    logger.warning(
        "validation Dice is still below %g for %s; %s", LOST_DICE, ", ".join(lost), advice
    )


def _guard_round(
    parts: LoopParts, state: LoopState, shares: Mapping[str, ClassShares]
) -> dict[str, float]:
    """Let the guard judge the round; what it has to say goes to the log, the run and a file."""
    progress = (state.pace.round + 1) / state.pace.n_rounds
    found = watch_round(state.guard, shares, progress, parts.suspects)
    for symptom, message, fix in in_few_words(found):
        logger.warning("guard: %s; %s", message, fix)
        parts.tracker.set_tags({f"guard.{symptom}": message})
    n_watched = min(len(parts.cases), state.n_validation_cases)
    write_guard(parts.folder / "guard.json", state.guard, n_watched)
    row = {f"guard/predicted_share_{name}": share.predicted for name, share in shares.items()}
    row["guard/n_loss_spikes"] = float(state.guard.n_loss_spikes)
    row["guard/n_gradient_spikes"] = float(state.guard.n_gradient_spikes)
    return row


def _report(parts: LoopParts, row: Mapping[str, float]) -> None:
    metrics = {name: value for name, value in row.items() if name != "step"}
    parts.tracker.log_metrics(metrics, step=int(row["step"]))
    parts.tracker.flush()


def _is_picture_round(state: LoopState) -> bool:
    every = max(1, state.pace.n_rounds // (N_PICTURE_ROUNDS - 1))
    return state.is_finished or state.pace.round % every == 0


def _log_pictures(parts: LoopParts, state: LoopState) -> None:
    for case in parts.cases[:N_PICTURE_CASES]:
        case_id = case.record.case_id
        file = parts.folder / "pictures" / f"{case_id}_step{state.step:06d}.png"
        with atomic_write(file) as stream:
            stream.write(parts.validator.picture(parts.learner.averaged, case))
        parts.tracker.log_picture(file, key=case_id, step=state.step)


def _save(parts: LoopParts, state: LoopState, clock: _Clock) -> None:
    clock.tick()
    content: dict[str, Any] = {
        "run_key": parts.run_key,
        "learner": parts.learner.state(),
        "loop": json.dumps(asdict(state)),
        "info": parts.info.model_dump_json(),
    }
    save_state(parts.last_file, content)
    clock.saved_at_s = time.monotonic()


def _percent(state: LoopState) -> float:
    return 100.0 if state.is_finished else 100 * state.pace.progress(state.step)


def _note(state: LoopState) -> str:
    loss = state.sums.get("loss", 0.0) / max(1, state.n_summed)
    dice = "" if state.smoothed_dice is None else f"  Dice {state.smoothed_dice:.3f}"
    return f"step {state.step}  loss {loss:.3f}{dice}"


def _history_csv(history: Sequence[Mapping[str, float]]) -> str:
    columns = ["step", *sorted({name for row in history for name in row} - {"step"})]
    lines = [",".join(columns)]
    lines += [",".join(f"{row[c]:.8g}" if c in row else "" for c in columns) for row in history]
    return "\n".join(lines) + "\n"
