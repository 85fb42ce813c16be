"""What training does when memory runs out: take a smaller batch or patch, once, and say so."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.artifacts import ModelInfo
from pipeline.core.errors import TrainingError
from pipeline.core.geometry import Shape3
from pipeline.models.device import is_out_of_memory
from pipeline.train.data import Batch
from pipeline.train.growth import divisor_of
from pipeline.train.learner import StepResult
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.teamwork import share_size, share_start

logger = logging.getLogger(__name__)

# A GPU can train on single patches, a CPU then takes a slower kernel: see plan.MIN_BATCH.
_MIN_BATCH = {"cpu": 2, "cuda": 1}
# The bottleneck must keep more than one voxel, or a norm over it has no variance.
_MIN_BOTTLENECK_VOXELS = 2


def start_within_memory(parts: LoopParts, start: Callable[[LoopParts], LoopState]) -> LoopState:
    """Begin a training; its first steps, which measure the time, may find too little memory.

    Args:
        parts: What is trained.
        start: Makes the first state.

    Returns:
        The state; it knows the reduced size, if there is one.
    """
    try:
        return start(parts)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error)
    # Outside of the handler: the frames of the failed step, and what they hold, are gone.
    size = _reduce(parts, 0, said)
    state = start(parts)
    _note(parts, state, size)
    return state


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Say in words that memory ran out where a smaller step cannot help, as in a validation.

    Raises:
        TrainingError: If memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(
            f"memory ran out outside of a training step: {said}",
            where="a whole volume of the validation, or its picture",
            fix="give it more memory (close other programs, --mem of the job); the same command "
            "goes on from the last checkpoint",
        ) from error


def within_memory(
    parts: LoopParts,
    state: LoopState,
    take_step: Callable[[], tuple[Batch, StepResult]],
    save: Callable[[], None],
) -> tuple[Batch, StepResult]:
    """Take one step; with a smaller batch or patch from here on, if memory runs out.

    The weights are those of the last good step, and the number of steps stays.

    Args:
        parts: What is trained; its source changes size when memory runs out.
        state: Learns the reduced size, so that a resumed training keeps it.
        take_step: Draws the batch and takes the step.
        save: Writes a checkpoint.

    Returns:
        The batch and what the step said.

    Raises:
        TrainingError: If memory runs out a second time, or nothing smaller can be trained.
    """
    try:
        return take_step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error)
    if state.reduced_batch is not None:
        raise _again(parts, state)
    size = _reduce(parts, state.step, said)
    _note(parts, state, size)
    save()
    try:
        return take_step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _again(parts, state) from error


def restore_size(parts: LoopParts, state: LoopState) -> None:
    """Give a resumed training the batch and patch it went on with when memory had run out.

    Args:
        parts: What is trained.
        state: From the checkpoint.
    """
    if state.reduced_batch is None or state.reduced_patch is None:
        return
    n_ranks = _n_ranks(parts)
    if state.reduced_batch % n_ranks:
        logger.warning(
            "%s; %d processes cannot share that: going on with the planned size",
            _sentence(state),
            n_ranks,
        )
        return
    i, j, k = state.reduced_patch
    share_size(parts, state.reduced_batch, (i, j, k))
    _tell(parts, state)


def with_memory_note(info: ModelInfo, state: LoopState) -> ModelInfo:
    """Add to the reasons of the plan what memory forced upon the training.

    Args:
        info: What the model file holds.
        state: The final state.

    Returns:
        The same where memory never ran out.
    """
    if state.reduced_batch is None:
        return info
    reasons = (*info.plan.reasons, _sentence(state))
    return info.model_copy(update={"plan": info.plan.model_copy(update={"reasons": reasons})})


def smaller(batch_size: int, patch: Shape3, divisor: Shape3, device: str) -> tuple[int, Shape3]:
    """Halve the batch, or where that cannot be, the longest side of the patch.

    Args:
        batch_size: Present patches per step.
        patch: Present patch.
        divisor: What the sides must be divisible by.
        device: "cpu" or "cuda".

    Returns:
        Batch and patch; both as they were if nothing smaller can be trained.
    """
    if batch_size > _MIN_BATCH[device]:
        return max(_MIN_BATCH[device], batch_size // 2), patch
    sides = list(patch)
    for axis in sorted(range(3), key=lambda a: -patch[a]):
        halved = divisor[axis] * max(1, patch[axis] // (2 * divisor[axis]))
        others = [n // d for a, (n, d) in enumerate(zip(patch, divisor, strict=True)) if a != axis]
        n_bottleneck = halved // divisor[axis] * others[0] * others[1]
        if halved < patch[axis] and n_bottleneck >= _MIN_BOTTLENECK_VOXELS:
            sides[axis] = halved
            break
    return batch_size, (sides[0], sides[1], sides[2])


def _reduce(parts: LoopParts, step: int, said: str) -> tuple[int, Shape3]:
    """Make the batches of the source smaller, and give back what torch still holds."""
    plan, n_ranks = parts.info.plan, _n_ranks(parts)
    # A network by name may take one size only.
    divisor = plan.patch_size if plan.network.kind == "monai" else divisor_of(plan)
    # Of several processes each halves its share; all patches of a step together stay as many.
    share, patch = smaller(plan.batch_size // n_ranks, plan.patch_size, divisor, plan.device)
    size = share * n_ranks, patch
    if size == (plan.batch_size, plan.patch_size):
        raise TrainingError(
            f"memory ran out at step {step}, and nothing smaller can be trained ({said[:100]})",
            where=f"batch {plan.batch_size}, patch {plan.patch_size} on {plan.device}",
            fix="close other programs on this device, or set a smaller train.network",
        )
    share_size(parts, *size)
    # A process may have taken the step before another one failed.
    share_start(parts)
    return size


def _n_ranks(parts: LoopParts) -> int:
    ranks = parts.source.ranks
    return 1 if ranks is None else ranks.world


def _note(parts: LoopParts, state: LoopState, size: tuple[int, Shape3]) -> None:
    state.out_of_memory_step = state.step
    state.reduced_batch, state.reduced_patch = size[0], list(size[1])
    logger.warning("%s; the weights are kept", _sentence(state))
    _tell(parts, state)


def _tell(parts: LoopParts, state: LoopState) -> None:
    parts.tracker.set_tags({"guard.out_of_memory": _sentence(state)})


def _sentence(state: LoopState) -> str:
    patch = " x ".join(map(str, state.reduced_patch or ()))
    return (
        f"memory ran out at step {state.out_of_memory_step}: "
        f"batch {state.reduced_batch}, patch {patch} from there on"
    )


def _again(parts: LoopParts, state: LoopState) -> TrainingError:
    return TrainingError(
        f"memory ran out again at step {state.step}, with a reduced batch or patch; "
        "the last checkpoint is safe",
        where=str(parts.last_file),
        fix="close other programs on this device and run the same command again to go on; or set "
        "train.memory_gb, train.patch_size or train.batch_size, which begins a new training",
    )
