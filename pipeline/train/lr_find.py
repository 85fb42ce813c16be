"""Look for a learning rate: raise it step by step on throw-away weights, and watch the loss."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.log import progress_bar
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import Workspace, atomic_write, write_text
from pipeline.models.device import use_all_cores
from pipeline.reporting.range_plot import draw_range
from pipeline.train.data import Batch, BatchSource
from pipeline.train.learner import Learner
from pipeline.train.prepare import prepare_cases
from pipeline.train.select import Training

logger = logging.getLogger(__name__)

N_STEPS = 100
MIN_RATE = 1e-6
MAX_RATE = 1.0
# Weight of the past in the smoothed loss: about the last ten batches.
SMOOTHING = 0.9
# Times the lowest smoothed loss that count as divergence.
DIVERGENCE = 4.0
# The first smoothed losses are single batches still.
N_UNSURE = 5
# Times the square root of the steps that a fall must be long. Noise alone, smoothed as above, was
# as long in 1 of 300 simulated tests; on real data falls are more than twice as long.
MIN_FALL_FACTOR = 3.0


@dataclass(frozen=True)
class RangePoint:
    """One step of the test.

    Args:
        rate: Learning rate of the step.
        loss: Loss of its batch, before the step.
        smoothed: Exponential average of the losses so far.
    """

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class RangeResult:
    """What the test found.

    Args:
        points: All steps, by rising rate.
        suggestion: Middle of the longest fall of the smoothed loss; None if it does not fall.
        falls_from: Rate at which that fall begins; None likewise.
        falls_until: Rate at which it ends, None likewise.
        diverged_at: Rate at which the test was stopped; None if it came to its end.
    """

    points: tuple[RangePoint, ...]
    suggestion: float | None
    falls_from: float | None
    falls_until: float | None
    diverged_at: float | None


def find_learning_rate(training: Training, workspace: Workspace, tracker: Tracker) -> RangeResult:
    """Run the test on the training fold; no training is touched or begun.

    Args:
        training: From `select_training`; its network, loss, patches and batches are used.
        workspace: Gets train/lr_find/curve.csv and curve.png.
        tracker: Where the curve and the suggestion are reported.

    Returns:
        The curve and the suggestion.
    """
    use_all_cores()
    plan, task, config = training.plan, training.info.task, training.config
    cases = prepare_cases(training.train_records, plan.preprocessing, task, workspace)
    source = BatchSource(cases, plan, config, training.device)
    learner = Learner(plan, task, config, training.device)
    with progress_bar("learning rates", N_STEPS) as bar:
        result = range_test(learner, source.batch, advance=bar.advance)
    _report(result, plan.learning_rate, workspace, tracker)
    return result


def range_test(
    learner: Learner, batch_of: Callable[[int], Batch], advance: Callable[[], None] | None = None
) -> RangeResult:
    """Take steps with exponentially rising learning rate until the loss diverges.

    Args:
        learner: Changed; to be thrown away.
        batch_of: The batch of a step.
        advance: Called after every step.

    Returns:
        The curve and the suggestion.

    Source:
        Smith 2017 (WACV, Cyclical Learning Rates), section 3.3.
    """
    points: list[RangePoint] = []
    average, diverged_at = 0.0, None
    for step, value in enumerate(np.geomspace(MIN_RATE, MAX_RATE, N_STEPS)):
        rate = float(value)
        taken = learner.step(batch_of(step), rate)
        if not taken.is_finite or not math.isfinite(taken.loss):
            diverged_at = rate
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * taken.loss
        smoothed = average / (1 - SMOOTHING ** (step + 1))
        points.append(RangePoint(rate, taken.loss, smoothed))
        lowest = min(p.smoothed for p in points)
        if smoothed > lowest + (DIVERGENCE - 1) * abs(lowest):
            diverged_at = rate
            break
        if advance is not None:
            advance()
    valley = find_valley(points)
    first, last = valley or (None, None)
    return RangeResult(tuple(points), _middle(valley), first, last, diverged_at)


def find_valley(points: Sequence[RangePoint]) -> tuple[float, float] | None:
    """Find where the loss falls: over the most steps, each lower than all of them before.

    Steps in between may be higher, so that noise does not cut a long fall into pieces. The fall
    begins as many steps before its end as are lower, so that those which are not, as in the flat
    part at small rates, do not count.

    Args:
        points: By rising rate.

    Returns:
        Rates at which the longest fall begins and ends; None if no fall is longer than chance.

    Source:
        fastai 2.7, callback/schedule.py, `valley`, which suggests the middle of this fall. Their
        older rules do worse with AdamW, which bears rates for a hundred steps that ruin a training:
        on Hippocampus the steepest fall is at 0.09 and a tenth of the lowest loss at 0.08, while
        whole trainings are best at 0.003 to 0.006 (benchmarks/ladder.md).
    """
    sure = points[N_UNSURE:]
    losses = [p.smoothed for p in sure]
    # For each step, how many steps the longest fall has that ends there.
    lengths: list[int] = []
    for last, loss in enumerate(losses):
        before = (lengths[n] for n in range(last) if losses[n] > loss)
        lengths.append(1 + max(before, default=0))
    n_falling = max(lengths, default=0)
    if n_falling <= MIN_FALL_FACTOR * math.sqrt(len(sure)):
        return None
    end = lengths.index(n_falling)
    return sure[end + 1 - n_falling].rate, sure[end].rate


def _middle(valley: tuple[float, float] | None) -> float | None:
    """The middle of two rates, as the logarithmic axis shows it."""
    return None if valley is None else math.sqrt(valley[0] * valley[1])


def curve_csv(points: Sequence[RangePoint]) -> str:
    """The curve as a table."""
    rows = (f"{n},{p.rate:.8g},{p.loss:.8g},{p.smoothed:.8g}" for n, p in enumerate(points))
    return "\n".join(("step,learning_rate,loss,smoothed_loss", *rows)) + "\n"


def _report(result: RangeResult, planned: float, workspace: Workspace, tracker: Tracker) -> None:
    folder = workspace.stage_dir("train") / "lr_find"
    write_text(folder / "curve.csv", curve_csv(result.points))
    with atomic_write(folder / "curve.png") as stream:
        stream.write(
            draw_range(
                [p.rate for p in result.points],
                [p.loss for p in result.points],
                [p.smoothed for p in result.points],
                suggestion=result.suggestion,
                planned=planned,
            )
        )
    for step, point in enumerate(result.points):
        values = {"learning_rate": point.rate, "loss": point.loss, "smoothed_loss": point.smoothed}
        tracker.log_metrics({f"lr_find/{k}": v for k, v in values.items()}, step=step)
    found = {
        "suggestion": result.suggestion,
        "falls_from": result.falls_from,
        "falls_until": result.falls_until,
        "planned": planned,
    }
    tracker.log_params({f"lr_find.{k}": v for k, v in found.items() if v is not None})
    if result.diverged_at is not None:
        tracker.set_tags({"lr_find": f"stopped at {result.diverged_at:.2g}: the loss diverged"})
    for name in ("curve.csv", "curve.png"):
        tracker.log_file(folder / name, headline=True)
