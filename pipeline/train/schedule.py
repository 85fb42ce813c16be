"""How far training has come, and the learning rate that goes with it."""

import math
from dataclasses import dataclass

from pipeline.train.config import OptimizerConfig, TrainConfig

# Length used when the user names none.
DEFAULT_BUDGET_MINUTES = 30.0
# A round needs at least this many steps to say anything about progress.
MIN_STEPS_PER_ROUND = 2


@dataclass
class Pace:
    """Rounds of steps: fixed in advance, or fitted to the time left.

    Progress runs from 0 to exactly 1 over all rounds, so the learning rate always reaches zero.
    Under a time budget the number of steps of a round is settled when it begins and is part of the
    checkpoint: a resumed round ends where it would have ended.
    """

    n_rounds: int
    round: int = 0
    first_step: int = 0
    end_step: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a round has begun and not ended yet."""
        return self.end_step > self.first_step

    def progress(self, step: int) -> float:
        """Share of the training done before a step, 0 to 1."""
        length = max(1, self.end_step - self.first_step)
        return min(1.0, (self.round + (step - self.first_step) / length) / self.n_rounds)


def fixed_steps(config: TrainConfig, steps_per_epoch: int) -> int | None:
    """Number of steps the user asked for; None if a time budget rules."""
    if config.steps is not None:
        return config.steps
    if config.epochs is not None:
        return max(1, round(config.epochs * steps_per_epoch))
    return None


def budget_seconds(config: TrainConfig) -> float:
    """Training time in seconds."""
    return 60 * (config.budget_minutes or DEFAULT_BUDGET_MINUTES)


def begin_round(pace: Pace, step: int, n_steps: int) -> None:
    """Set the limits of the current round."""
    pace.first_step, pace.end_step = step, step + n_steps


def close_round(pace: Pace, step: int) -> None:
    """Mark that no round is under way."""
    pace.first_step = pace.end_step = step


def drop_rounds(pace: Pace, left_s: float, step_s: float, validation_s: float) -> None:
    """Do with fewer rounds when the time left does not allow for all of them."""
    shortest_s = MIN_STEPS_PER_ROUND * step_s + validation_s
    n_possible = max(1, int(left_s / max(shortest_s, 1e-9)))
    pace.n_rounds = min(pace.n_rounds, pace.round + n_possible)


def steps_of_round(pace: Pace, total: int) -> int:
    """Steps of the current round when the total is fixed; they add up to it exactly."""
    done = total * pace.round // pace.n_rounds
    return total * (pace.round + 1) // pace.n_rounds - done


def steps_in_time(pace: Pace, left_s: float, step_s: float, validation_s: float) -> int:
    """Steps of the current round that leave every later round as much time.

    Args:
        pace: Where training is.
        left_s: Budget left, in seconds.
        step_s: Time of one step, in seconds.
        validation_s: Time of one validation, in seconds.

    Returns:
        At least MIN_STEPS_PER_ROUND.
    """
    share_s = left_s / (pace.n_rounds - pace.round) - validation_s
    return max(MIN_STEPS_PER_ROUND, int(share_s / step_s))


def learning_rate(progress: float, peak: float, config: OptimizerConfig) -> float:
    """Linear rise, then a fall to zero at the end of training.

    Args:
        progress: Share of the training done, 0 to 1.
        peak: Highest learning rate.
        config: Warm-up and shape of the fall.

    Returns:
        The learning rate of the next step.
    """
    warmup = config.warmup_fraction
    if progress < warmup:
        # Not from zero: the first step shall move the weights too.
        return peak * (0.01 + 0.99 * progress / warmup)
    rest = min(1.0, (progress - warmup) / (1 - warmup))
    if config.schedule == "poly":
        # Exponent of nnU-Net's schedule (Isensee et al. 2021).
        return peak * (1 - rest) ** 0.9
    return peak * 0.5 * (1 + math.cos(math.pi * rest))
