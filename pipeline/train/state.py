"""Where a training is, and what it works with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import Finding, ModelInfo
from pipeline.core.tracker import Tracker
from pipeline.train.config import TrainConfig
from pipeline.train.data import BatchSource
from pipeline.train.disk import Outbox
from pipeline.train.guard import GuardState
from pipeline.train.learner import Learner
from pipeline.train.meters import RoundMeter
from pipeline.train.schedule import Pace, RateState
from pipeline.train.validate import ValidationCase, Validator


@dataclass
class LoopState:
    """Where training is; everything here is in the checkpoint.

    Args:
        pace: Rounds and progress.
        step: Optimization steps done.
        elapsed_s: Training time used, over all resumes, validations included.
        step_s: Measured time of one step with patches of the planned size.
        validation_s: Measured time between two rounds: validation, checkpoint, reports.
        picture_s: Measured time of drawing pictures, which only some rounds end with.
        n_validation_cases: Cases per validation round.
        sums: Sums of step results since the round began.
        n_summed: Steps in the sums.
        n_skipped: Steps skipped because of non-finite values.
        skipped_in_a_row: The same, since the last good step.
        smoothed_dice: Averaged pooled Dice, None before the first validation.
        best_dice: Highest smoothed Dice so far, -1 before the first.
        history: One row per round.
        is_finished: All rounds are done.
        guard: What the guard remembers.
        rates: What validation has done to the learning rate.
        out_of_memory_step: Where memory ran out, None if it never did.
        reduced_batch: Patches per step since then.
        reduced_patch: Largest patch since then.
    """

    pace: Pace
    step: int = 0
    elapsed_s: float = 0.0
    step_s: float = 0.0
    validation_s: float = 0.0
    picture_s: float = 0.0
    n_validation_cases: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    n_summed: int = 0
    n_skipped: int = 0
    skipped_in_a_row: int = 0
    smoothed_dice: float | None = None
    best_dice: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    is_finished: bool = False
    guard: GuardState = field(default_factory=GuardState)
    rates: RateState = field(default_factory=RateState)
    out_of_memory_step: int | None = None
    reduced_batch: int | None = None
    reduced_patch: list[int] | None = None


@dataclass(frozen=True)
class LoopParts:
    """What the loop works with.

    Args:
        config: Length, checkpoints, safety.
        info: Goes into every model file.
        learner: Network and optimizer.
        source: Batches.
        validator: Whole-volume validation.
        cases: Validation cases in a fixed random order; empty when training on all.
        folder: Where checkpoints go.
        run_key: Identifies data, plan and configuration; a checkpoint of another key is not ours.
        tracker: Where curves and pictures go.
        suspects: Findings of audit and preflight, for the guard to point at.
        outbox: Files that a full disk refused.
        meter: Speed and memory of the rounds.
    """

    config: TrainConfig
    info: ModelInfo
    learner: Learner
    source: BatchSource
    validator: Validator
    cases: Sequence[ValidationCase]
    folder: Path
    run_key: str
    tracker: Tracker
    suspects: tuple[Finding, ...] = ()
    outbox: Outbox = field(default_factory=Outbox)
    meter: RoundMeter = field(default_factory=RoundMeter)

    @property
    def last_file(self) -> Path:
        """Training state to resume from."""
        return self.folder / "last.pt"

    @property
    def best_file(self) -> Path:
        """Model with the best validation so far."""
        return self.folder / "best.pt"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Foreground classes."""
        return self.info.task.class_names
