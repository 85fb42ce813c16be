"""The end of a round: validate, judge, keep the best model, report."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.core.workspace import atomic_write, write_text
from pipeline.metrics.regions import unions_of
from pipeline.models.checkpoint import save_model
from pipeline.train import early_stop, schedule
from pipeline.train.collapse import answer_collapse
from pipeline.train.disk import try_to_write
from pipeline.train.growth import mean_cost
from pipeline.train.guard import ClassShares, in_few_words, watch_round, write_guard
from pipeline.train.page import write_page
from pipeline.train.schedule import Pace
from pipeline.train.snapshot import Clock, save
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.teamwork import score_cases
from pipeline.train.validate import pooled_dice, predicted_shares

logger = logging.getLogger(__name__)

# Weight of the newest validation in the average that chooses the best checkpoint.
SMOOTHING = 0.5
# Prediction pictures over the course of a training, the untrained network included.
N_PICTURE_ROUNDS = 5
N_PICTURE_CASES = 3
# Share of training after which a class that is never found is no longer normal.
BLANK_WARNING_PROGRESS = 0.3
# Below it a class is missing, or fills the whole volume: both look alike in Dice.
LOST_DICE = 0.1


def end_round(
    parts: LoopParts, state: LoopState, clock: Clock, stop_if_asked: Callable[[], None]
) -> None:
    """Close a round: validate, keep the best model, write a checkpoint, report.

    Args:
        parts: What is trained.
        state: Where training is; moved on to the next round.
        clock: Adds the time of the validation.
        stop_if_asked: Called after each validation case.
    """
    n = max(1, state.n_summed)
    row = {f"train/{name}": total / n for name, total in state.sums.items()}
    row["step"] = state.step
    rate = row["train/learning_rate"] = schedule.current_rate(
        state.pace,
        state.rates,
        state.step,
        parts.info.plan.learning_rate,
        parts.config.optimizer,
    )
    cost = mean_cost(parts.info.plan, *state.pace.limits)
    row["train/steps_per_s"] = 1 / max(state.step_s * cost, 1e-9)
    row["train/n_skipped"] = state.n_skipped
    row.update(parts.meter.end_round())
    is_best, shares = True, dict[str, ClassShares]()
    if parts.cases:
        scores, shares = _validate(parts, state, stop_if_asked)
        row.update(scores)
        is_best = (state.smoothed_dice or 0.0) >= state.best_dice
        state.best_dice = max(state.best_dice, state.smoothed_dice or 0.0)
    row.update(_guard_round(parts, state, shares))
    row.update(early_stop.judge_round(parts, state, rate))
    state.pace.round += 1
    state.is_finished = state.pace.round >= state.pace.n_rounds
    started_s = state.elapsed_s
    clock.tick()
    row["train/elapsed_min"] = state.elapsed_s / 60
    state.history.append(row)
    if is_best:
        write = partial(save_model, parts.best_file, parts.learner.weights(), parts.info)
        parts.outbox.put(parts.best_file, write)
    schedule.close_round(state.pace, state.step)
    save(parts, state, clock)
    write_history(parts, state)
    report_round(parts, row)
    clock.tick()
    state.validation_s = state.elapsed_s - started_s
    if is_picture_round(state.pace):
        log_pictures(parts, state)
    write_page(parts, state)
    clock.tick()


def _validate(
    parts: LoopParts, state: LoopState, stop_if_asked: Callable[[], None]
) -> tuple[dict[str, float], dict[str, ClassShares]]:
    scores = score_cases(parts, state.n_validation_cases, stop_if_asked)
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
    found = watch_round(
        state.guard,
        shares,
        progress,
        parts.suspects,
        class_names=parts.class_names,
        n_cases=parts.info.plan.n_train_cases,
    )
    for symptom, message, fix in in_few_words(found):
        logger.warning("guard: %s; %s", message, fix)
        parts.tracker.set_tags({f"guard.{symptom}": message})
    answer_collapse(parts, state, found)
    n_watched = min(len(parts.cases), state.n_validation_cases)
    file = parts.folder / "guard.json"
    try_to_write(partial(write_guard, file, state.guard, n_watched), file)
    row = {f"guard/predicted_share_{name}": share.predicted for name, share in shares.items()}
    row["guard/n_loss_spikes"] = float(state.guard.n_loss_spikes)
    row["guard/n_gradient_spikes"] = float(state.guard.n_gradient_spikes)
    return row


def report_round(parts: LoopParts, row: Mapping[str, float]) -> None:
    """Send the numbers of a round to the tracker."""
    metrics = {name: value for name, value in row.items() if name != "step"}
    parts.tracker.log_metrics(metrics, step=int(row["step"]))
    parts.tracker.flush()


def is_picture_round(pace: Pace) -> bool:
    """Whether pictures of predictions follow the rounds done so far."""
    every = max(1, pace.n_rounds // (N_PICTURE_ROUNDS - 1))
    return pace.round >= pace.n_rounds or pace.round % every == 0


def n_picture_rounds_left(pace: Pace) -> int:
    """Rounds still to be ended that pictures will follow."""
    ends = range(pace.round + 1, pace.n_rounds + 1)
    return sum(is_picture_round(replace(pace, round=end)) for end in ends)


def log_pictures(parts: LoopParts, state: LoopState) -> None:
    """Draw the predictions of the same few cases, and note how long that takes."""
    took_s: list[float] = []
    for case in parts.cases[:N_PICTURE_CASES]:
        started_s = time.monotonic()
        case_id = case.record.case_id
        file = parts.folder / "pictures" / f"{case_id}_step{state.step:06d}.png"
        picture = parts.validator.picture(parts.learner.averaged, case)
        if try_to_write(partial(_write_bytes, file, picture), file):
            parts.tracker.log_picture(file, key=case_id, step=state.step)
        took_s.append(time.monotonic() - started_s)
    # The first one ever drawn also loads what draws it.
    state.picture_s = len(took_s) * min(took_s, default=0.0)


def _write_bytes(file: Path, content: bytes) -> None:
    with atomic_write(file) as stream:
        stream.write(content)


def write_history(parts: LoopParts, state: LoopState) -> None:
    """Write the table of all rounds so far.

    Args:
        parts: Has the folder.
        state: Has the rounds.
    """
    file = parts.folder / "history.csv"
    try_to_write(partial(write_text, file, history_csv(state.history)), file)


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """All rounds as a table."""
    columns = ["step", *sorted({name for row in history for name in row} - {"step"})]
    lines = [",".join(columns)]
    lines += [",".join(f"{row[c]:.8g}" if c in row else "" for c in columns) for row in history]
    return "\n".join(lines) + "\n"
