"""Checkpoints of a training: written at any step, read when it goes on."""

import json
import logging
import time
from dataclasses import asdict
from functools import partial
from typing import Any

from pipeline.core.errors import TrainingError
from pipeline.models.checkpoint import load_state, save_state
from pipeline.train.disk import try_to_write, write_patiently
from pipeline.train.guard import GuardState
from pipeline.train.schedule import Pace, RateState
from pipeline.train.state import LoopParts, LoopState

logger = logging.getLogger(__name__)


class Clock:
    """Adds real time to the state; knows when the last checkpoint was, and if it was written."""

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._now_s = self.saved_at_s = time.monotonic()
        self.is_saved = True

    def tick(self) -> float:
        """Seconds since the last tick, added to the state."""
        now_s = time.monotonic()
        passed_s, self._now_s = now_s - self._now_s, now_s
        self._state.elapsed_s += passed_s
        return passed_s


def resume(parts: LoopParts) -> LoopState | None:
    """Take up the last checkpoint.

    Args:
        parts: What is trained; the learner gets its state back.

    Returns:
        Where training was; None if there is no checkpoint.

    Raises:
        TrainingError: If the checkpoint is of another training.
    """
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
    _warn_of_other_numbers(content.get("number_format"), parts.learner.number_format)
    values = json.loads(content["loop"])
    state = LoopState(
        **{
            **values,
            "pace": Pace(**values["pace"]),
            "guard": GuardState(**values["guard"]),
            "rates": RateState(**values["rates"]),
        }
    )
    logger.info("resuming at step %d after %.1f min", state.step, state.elapsed_s / 60)
    return state


def _warn_of_other_numbers(before: str | None, now: str) -> None:
    """Checkpoints of earlier versions do not say what they were made with."""
    if before not in {None, now}:
        logger.warning(
            "this training was begun in %s and goes on in %s, as this machine computes with other "
            "numbers: its results will differ in the last bits from those of a training that "
            "stayed on one machine",
            before,
            now,
        )


def save(parts: LoopParts, state: LoopState, clock: Clock) -> None:
    """Write a checkpoint; on a full disk warn, and leave the last one as it is.

    Args:
        parts: What is trained.
        state: Where training is.
        clock: Learns whether it was written.

    Raises:
        TrainingError: If training is finished and the disk stays full.
    """
    clock.tick()
    content: dict[str, Any] = {
        "run_key": parts.run_key,
        "learner": parts.learner.state(),
        "loop": json.dumps(asdict(state)),
        "info": parts.info.model_dump_json(),
        "number_format": parts.learner.number_format,
    }
    write = partial(save_state, parts.last_file, content)
    clock.is_saved = False
    if parts.outbox.send(is_final=state.is_finished):
        if state.is_finished:
            write_patiently(write, parts.last_file)
            clock.is_saved = True
        else:
            clock.is_saved = try_to_write(write, parts.last_file)
    # Also after a failure: the next try is at the next checkpoint, not after the next step.
    clock.saved_at_s = time.monotonic()
