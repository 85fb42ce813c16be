"""What the leader of many processes hands to the others, and how they follow it.

Both sides of each kind of work stand side by side, so that neither waits for the other in vain.
"""

import gc
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import nn

from pipeline.artifacts import GrowthStage
from pipeline.core.errors import TrainingError
from pipeline.core.geometry import Shape3
from pipeline.core.interrupt import stop_requests
from pipeline.core.workspace import Workspace
from pipeline.metrics.scores import CaseScores
from pipeline.train.data import Batch
from pipeline.train.learner import nothing
from pipeline.train.ranks import Ranks, SharedMemoryError, present_ranks
from pipeline.train.select import Training
from pipeline.train.state import LoopParts


def share_out(parts: LoopParts, ranks: Ranks) -> None:
    """Have the parts of a training work with those of the other processes from now on.

    Args:
        parts: Of this process.
        ranks: This process among the others.
    """
    parts.learner.ranks = ranks
    parts.source.ranks = ranks


@contextmanager
def leading(
    parts: LoopParts, training: Training, workspace: Workspace, should_stop: Callable[[], bool]
) -> Iterator[Callable[[], bool]]:
    """Have the other processes, if there are any, take part in a training while the block runs.

    Args:
        parts: Of this process, the leader.
        training: What is trained.
        workspace: Work folder, which every process must see under the same path.
        should_stop: Tells whether this process was asked to stop.

    Yields:
        A function that tells whether any process was asked to stop.
    """
    ranks = present_ranks()
    if ranks is None:
        yield should_stop
        return
    ranks.tell("train", training, workspace)
    ranks.begin(training.device)
    ranks.should_stop = should_stop
    share_out(parts, ranks)
    try:
        yield lambda: should_stop() or ranks.is_stop_asked
    finally:
        if ranks.can_be_told:
            ranks.tell("done")


def follow_trainings(ranks: Ranks, make_parts: Callable[[Training, Workspace], LoopParts]) -> int:
    """Take part in the trainings of the leading process, until it ends.

    Args:
        ranks: This process among the others.
        make_parts: Makes what a training works with.

    Returns:
        The exit status of the leader.

    Raises:
        TrainingError: If the leader has died.
        UsageError: If there is no GPU for this process.
    """
    while True:
        name, *args = ranks.told()
        if name == "end":
            return int(args[0])
        training, workspace = args
        ranks.begin(training.device)
        follow(make_parts(training, workspace), ranks)


def follow(parts: LoopParts, ranks: Ranks) -> None:
    """Do what the leader says until it is done.

    Args:
        parts: Of this process.
        ranks: This process among the others.

    Raises:
        TrainingError: If another process has failed, or the leader says something unknown.
    """
    share_out(parts, ranks)
    do = _actions(parts, ranks)
    # The leader stops for all: a signal here is passed on to it with the next step.
    with stop_requests() as should_stop:
        ranks.should_stop = should_stop
        drawn: Batch | Exception | None = None
        draw_next: Callable[[], None] = nothing
        while True:
            name, *args = ranks.told()
            if name == "done":
                return
            if name == "batch":
                step, stage = args
                drawn = _drawn(parts, step, stage)
                draw_next = partial(parts.source.draw_ahead, step + 1, stage)
                continue
            try:
                with ranks.joint_work():
                    if name == "step" and drawn is not None:
                        _take_step(parts, ranks, drawn, args[0], draw_next)
                    elif name in do:
                        do[name](*args)
                    else:
                        raise _unknown(name, ranks)
            except SharedMemoryError:
                # Kept, it would hold what the step had put into memory.
                drawn = None


def _drawn(parts: LoopParts, step: int, stage: GrowthStage | None) -> Batch | Exception:
    """The share of a batch, or why there is none: the others ask with the step."""
    try:
        return parts.source.batch(step, stage)
    except Exception as error:  # noqa: BLE001  # raised, and told to the others, with the step
        return error


def _take_step(
    parts: LoopParts,
    ranks: Ranks,
    drawn: Batch | Exception,
    rate: float,
    draw_next: Callable[[], None],
) -> None:
    if isinstance(drawn, Exception):
        ranks.agree(drawn)
    else:
        parts.learner.step(drawn, rate, draw_next)


def _unknown(name: str, ranks: Ranks) -> TrainingError:
    return TrainingError(
        f"the leading process says '{name}', which this one does not know",
        where=f"process {ranks.rank}",
        fix="run the same version of Voxline on every machine",
    )


def share_size(parts: LoopParts, batch_size: int, patch_size: Shape3) -> None:
    """Have every process draw batches of another size, and give back what torch still holds.

    Args:
        parts: What is trained.
        batch_size: Patches per step, of all processes together.
        patch_size: Largest patch.
    """
    ranks = parts.source.ranks
    if ranks is not None:
        ranks.tell("resize", batch_size, patch_size)
    _resize(parts, batch_size, patch_size)


def _resize(parts: LoopParts, batch_size: int, patch_size: Shape3) -> None:
    parts.source.resize(batch_size, patch_size)
    gc.collect()
    if parts.validator.device.type == "cuda":
        torch.cuda.empty_cache()


def share_start(parts: LoopParts) -> None:
    """Give every process the weights and the optimizer of the leader.

    Args:
        parts: Of the leader, as training begins or goes on.
    """
    ranks = parts.learner.ranks
    if ranks is not None:
        ranks.tell("restore", _packed(parts.learner.state()))


def score_cases(
    parts: LoopParts, n_cases: int, stop_if_asked: Callable[[], None]
) -> list[CaseScores]:
    """Predict and score the first validation cases, on all processes.

    Args:
        parts: What is trained.
        n_cases: How many.
        stop_if_asked: Called after each case of this process.

    Returns:
        The scores in the order of the cases.
    """
    ranks = parts.learner.ranks
    n_cases = min(n_cases, len(parts.cases))
    if ranks is None:
        return [score for _, score in _scores(parts, range(n_cases), stop_if_asked)]
    ranks.tell("score", n_cases)
    own: list[tuple[int, CaseScores]] = []
    try:
        own.extend(_scores(parts, range(ranks.rank, n_cases, ranks.world), stop_if_asked))
    finally:
        # Also when asked to stop: the others are about to send theirs.
        found = dict(pair for part in ranks.collect(own) for pair in part)
    return [found[index] for index in range(n_cases)]


def predict_cases(
    parts: LoopParts, network: nn.Module, n_done: int = 0
) -> Iterator[Integer[np.ndarray, "i j k"]]:
    """Predict every validation case, on all processes.

    Args:
        parts: What was trained.
        network: The best one.
        n_done: Leave out so many, from the first one on.

    Yields:
        Class index per voxel of the source grid, case by case.
    """
    ranks = parts.learner.ranks
    if ranks is None:
        for case in parts.cases[n_done:]:
            yield parts.validator.predict(network, case)
        return
    ranks.tell("use", _packed(network.state_dict()))
    for first in range(n_done, len(parts.cases), ranks.world):
        ranks.tell("predict", first)
        for part in _predict_share(parts, ranks, network, first):
            yield from part


def _actions(parts: LoopParts, ranks: Ranks) -> Mapping[str, Callable[..., object]]:
    """What a follower does when it is told something that concerns no batch."""
    learner = parts.learner
    return {
        "momentum": learner.set_momentum,
        "resize": partial(_resize, parts),
        "restore": lambda content: learner.restore(_unpacked(content)),
        "score": lambda n_cases: _score_share(parts, ranks, n_cases),
        "use": lambda content: learner.averaged.load_state_dict(_unpacked(content)),
        "predict": lambda first: _predict_share(parts, ranks, learner.averaged, first),
    }


def _scores(
    parts: LoopParts, indices: range, stop_if_asked: Callable[[], None]
) -> Iterator[tuple[int, CaseScores]]:
    for index in indices:
        yield index, parts.validator.score(parts.learner.averaged, parts.cases[index])
        stop_if_asked()


def _score_share(parts: LoopParts, ranks: Ranks, n_cases: int) -> None:
    ranks.collect(list(_scores(parts, range(ranks.rank, n_cases, ranks.world), _go_on)))


def _predict_share(
    parts: LoopParts, ranks: Ranks, network: nn.Module, first: int
) -> list[list[Integer[np.ndarray, "i j k"]]]:
    own = parts.cases[first + ranks.rank : first + ranks.rank + 1]
    with ranks.joint_work():
        return ranks.collect([parts.validator.predict(network, case) for case in own])


def _go_on() -> None:
    """A process that follows is not asked to stop between cases."""


def _packed(state: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    return stream.getvalue()


def _unpacked(content: bytes) -> Any:
    # By way of the CPU: the leader's device is not ours.
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
