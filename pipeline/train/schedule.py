"""How far training has come, and the learning rate that goes with it."""

import math
from dataclasses import dataclass

from pipeline.train.config import OptimizerConfig, TrainConfig

# Length used when the user names none.
DEFAULT_BUDGET_MINUTES = 30.0
# A round needs at least this many steps to say anything about progress.
MIN_STEPS_PER_ROUND = 2
# Peak over first rate of one_cycle, as in fastai and PyTorch.
ONE_CYCLE_START = 25.0
# Lowest and highest momentum of one_cycle.
ONE_CYCLE_MOMENTUM = (0.85, 0.95)


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

    @property
    def limits(self) -> tuple[float, float]:
        """Progress where the round begins and ends."""
        return self.round / self.n_rounds, (self.round + 1) / self.n_rounds

    def progress(self, step: int) -> float:
        """Share of the training done before a step, 0 to 1."""
        length = max(1, self.end_step - self.first_step)
        return min(1.0, (self.round + (step - self.first_step) / length) / self.n_rounds)


@dataclass
class RateState:
    """What validation has done to the learning rate; part of the checkpoint.

    Args:
        best_dice: Smoothed Dice that counts as the best so far, -1 before the first.
        n_stale: Rounds since then, or since the last step down of a plateau.
        n_stale_in_all: Rounds since then, which an early stop counts.
        factor: Product of the steps down.
        stop_round: Round in which annealing for an early end began; None: none did.
        stop_rate: Learning rate at its beginning.
        n_stop_steps: Steps of the annealing, if steps are counted.
        end_s: Training time at which it ends, if time is.
        reason: Why training ends early, in words.
    """

    best_dice: float = -1.0
    n_stale: int = 0
    n_stale_in_all: int = 0
    factor: float = 1.0
    stop_round: int | None = None
    stop_rate: float = 0.0
    n_stop_steps: int | None = None
    end_s: float | None = None
    reason: str = ""


def epoch_steps(n_cases: int, batch_size: int) -> int:
    """Steps until every case has given about one patch."""
    return max(1, round(n_cases / batch_size))


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
    """The curve of a schedule, which ends at zero; without what validation does to it.

    Args:
        progress: Share of the training done, 0 to 1.
        peak: Highest learning rate.
        config: Warm-up and shape of the fall.

    Returns:
        The learning rate of the next step.
    """
    warmup = config.warmup_fraction
    if config.schedule == "plateau":
        # Both factors at once: a short training may have to fall before it has risen.
        return peak * _rise(progress, config) * min(1.0, (1 - progress) / config.anneal_fraction)
    if progress < warmup:
        return peak * _rise(progress, config)
    rest = min(1.0, (progress - warmup) / (1 - warmup))
    if config.schedule == "poly":
        # Exponent of nnU-Net's schedule (Isensee et al. 2021).
        return peak * (1 - rest) ** 0.9
    return peak * 0.5 * (1 + math.cos(math.pi * rest))


def current_rate(
    pace: Pace, rates: RateState, step: int, peak: float, config: OptimizerConfig
) -> float:
    """Learning rate of a step: the schedule, and what validation has done to it.

    Args:
        pace: Where training is.
        rates: Steps down of a plateau, and an early end.
        step: Optimization steps done.
        peak: Highest learning rate.
        config: The schedule.

    Returns:
        The learning rate of the next step; zero at the end of training.
    """
    progress = pace.progress(step)
    if rates.stop_round is None:
        return rates.factor * learning_rate(progress, peak, config)
    # From the rate it had then; a round that is dropped later only makes the fall steeper.
    begun = rates.stop_round / pace.n_rounds
    return rates.stop_rate * max(0.0, 1 - (progress - begun) / (1 - begun))


def momentum(rate: float, peak: float, config: OptimizerConfig) -> float | None:
    """Momentum that mirrors the learning rate of one_cycle: low where the rate is high.

    It follows from the rate itself, so that it keeps doing so when training ends early.

    Args:
        rate: Learning rate of the step.
        peak: Highest learning rate.
        config: The schedule.

    Returns:
        Momentum (SGD) or first beta (AdamW); None where the schedule leaves it alone.

    Source:
        Smith 2018 (arXiv 1803.09820), with the range of its section 4.
    """
    if config.schedule != "one_cycle":
        return None
    start = peak / ONE_CYCLE_START
    share = min(1.0, max(0.0, (rate - start) / (peak - start)))
    low, high = ONE_CYCLE_MOMENTUM
    return high - (high - low) * share


def _rise(progress: float, config: OptimizerConfig) -> float:
    """Share of the peak during warm-up; not from zero: the first step shall move weights too."""
    if progress >= config.warmup_fraction:
        return 1.0
    share = progress / config.warmup_fraction
    if config.schedule == "one_cycle":
        return 1 / ONE_CYCLE_START + (1 - 1 / ONE_CYCLE_START) * (1 - math.cos(math.pi * share)) / 2
    return 0.01 + 0.99 * share
