"""What a validation does to the rest of a training: a lower learning rate, or an early end."""

import logging

from pipeline.artifacts import ModelInfo
from pipeline.train import schedule
from pipeline.train.config import TrainConfig
from pipeline.train.growth import stage_at
from pipeline.train.state import LoopParts, LoopState

logger = logging.getLogger(__name__)

# Gain in smoothed Dice below which a round is not better: noise would postpone the end for ever.
MIN_GAIN = 1e-4


def judge_round(parts: LoopParts, state: LoopState, rate: float) -> dict[str, float]:
    """Look at the validation of the round that ends; may lower the rate or shorten the training.

    Rounds count once warm-up is over and patches have grown to their planned size: before that,
    standing still says little. To end early means to anneal first: the learning rate falls from
    its present value to zero over `anneal_fraction` of what was done, then training ends.

    Args:
        parts: What is trained.
        state: At the end of a round, before the next one is counted; changed in place.
        rate: Learning rate at this moment.

    Returns:
        What to add to the row of the round; empty where nothing depends on it.
    """
    optimizer, patience = parts.config.optimizer, parts.config.early_stop_rounds
    is_plateau = optimizer.schedule == "plateau"
    if state.smoothed_dice is None or not (is_plateau or patience):
        return {}
    rates = state.rates
    if rates.stop_round is None and _counts(parts, state):
        _count(state, state.smoothed_dice)
        if patience and rates.n_stale_in_all >= patience:
            _end_early(parts, state, rate)
        elif is_plateau and rates.n_stale >= optimizer.plateau_rounds:
            rates.factor *= optimizer.plateau_factor
            rates.n_stale = 0
            logger.info("validation stands still: learning rate %g times lower", 1 / rates.factor)
    return {
        "train/rounds_without_gain": float(rates.n_stale_in_all),
        "train/is_annealed_early": float(rates.stop_round is not None),
    }


def steps_of_round(state: LoopState, total: int) -> int:
    """Steps of the current round when steps are counted, also after an early end was decided.

    Args:
        state: Where training is.
        total: Steps the user asked for.

    Returns:
        At least 1; over all rounds they add up to the length of the training.
    """
    first, n_steps = state.rates.stop_round, state.rates.n_stop_steps
    if first is None or n_steps is None:
        return schedule.steps_of_round(state.pace, total)
    n_rounds, done = state.pace.n_rounds - first, state.pace.round - first
    return n_steps * (done + 1) // n_rounds - n_steps * done // n_rounds


def seconds_left(parts: LoopParts, state: LoopState) -> float:
    """Training time left, when time is counted."""
    budget_s = schedule.budget_seconds(parts.config)
    end_s = budget_s if state.rates.end_s is None else min(budget_s, state.rates.end_s)
    return end_s - state.elapsed_s


def _counts(parts: LoopParts, state: LoopState) -> bool:
    progress = (state.pace.round + 1) / state.pace.n_rounds
    growth = parts.info.plan.growth
    # Judged at the round's beginning: its gain must come from patches of the planned size.
    has_grown = not growth or stage_at(growth, state.pace.round / state.pace.n_rounds) == growth[-1]
    return progress > parts.config.optimizer.warmup_fraction and has_grown


def _count(state: LoopState, dice: float) -> None:
    rates = state.rates
    if dice > rates.best_dice + MIN_GAIN:
        rates.best_dice, rates.n_stale, rates.n_stale_in_all = dice, 0, 0
    else:
        rates.n_stale += 1
        rates.n_stale_in_all += 1


def _end_early(parts: LoopParts, state: LoopState, rate: float) -> None:
    """Shorten what is left, unless it is as short already."""
    pace, rates, fraction = state.pace, state.rates, parts.config.optimizer.anneal_fraction
    n_done = pace.round + 1
    n_left = max(1, round(fraction * n_done))
    if n_left >= pace.n_rounds - n_done:
        return
    n_planned = pace.n_rounds
    pace.n_rounds = n_done + n_left
    rates.stop_round, rates.stop_rate = n_done, rate
    if schedule.fixed_steps(parts.config, parts.source.steps_per_epoch) is None:
        rates.end_s = (1 + fraction) * state.elapsed_s
    else:
        rates.n_stop_steps = max(n_left, round(fraction * state.step))
    rates.reason = (
        f"no better validation than {rates.best_dice:.4f} smoothed Dice in "
        f"{rates.n_stale_in_all} rounds: from step {state.step} on the learning rate was annealed "
        f"to zero, and training ended after {pace.n_rounds} of {n_planned} rounds"
    )
    logger.info("early stop: %s", rates.reason)
    parts.tracker.set_tags({"early_stop": rates.reason})


def with_reason(info: ModelInfo, state: LoopState) -> ModelInfo:
    """Add to a model's description why its training ended early, if it did."""
    if not state.rates.reason:
        return info
    reasons = (*info.plan.reasons, f"early stop: {state.rates.reason}")
    return info.model_copy(update={"plan": info.plan.model_copy(update={"reasons": reasons})})


def reasons_without_validation(config: TrainConfig, n_validation: int) -> tuple[str, ...]:
    """Say which knobs cannot act on a training that keeps no case back.

    Args:
        config: May ask for a plateau or an early stop.
        n_validation: Validation cases of the fold.

    Returns:
        Lines for the plan.
    """
    if n_validation:
        return ()
    silent = ["early_stop_rounds"] if config.early_stop_rounds else []
    silent += ["schedule plateau"] if config.optimizer.schedule == "plateau" else []
    return tuple(f"{name} never acts: fold {config.fold} has no validation" for name in silent)
