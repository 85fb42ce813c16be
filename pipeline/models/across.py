"""Sums of a loss over several processes that each hold a part of the batch."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.models.loss_terms import Sums

# Turns the rows of this process into those of all of them, in the order of the batch; the gradient
# goes to the rows of this process.
Gather = Callable[[Tensor], Tensor]


@runtime_checkable
class GathersSums(Protocol):
    """A loss whose sums can be those of several processes."""

    gather: Gather | None


def gather_sums(loss: nn.Module, gather: Gather) -> None:
    """Have a loss, and every loss inside it, be that of the batch of all processes.

    Args:
        loss: Changed in place.
        gather: Brings the rows of all processes together.
    """
    for module in loss.modules():
        if isinstance(module, GathersSums):
            module.gather = gather


def rows_across(sums: Sums, gather: Gather | None) -> Sums:
    """The rows of all processes.

    Args:
        sums: Of this process, one row per patch.
        gather: None if there is no other process.
    """
    if gather is None:
        return sums
    columns = [sums.overlap, sums.predicted, sums.reference]
    if sums.is_annotated is not None:
        columns.append(sums.is_annotated.to(sums.overlap))
    # One message instead of four: each costs more than what it carries.
    found = gather(torch.cat(columns, 1)).chunk(len(columns), 1)
    known = found[3] > 0 if sums.is_annotated is not None else None
    return Sums(found[0], found[1], found[2], known)


def total_across(
    total: Float[Tensor, ""], count: Tensor, gather: Gather | None
) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of a mean over the voxels of all processes.

    Args:
        total: Sum over the voxels of this process.
        count: How many they are, or how much they weigh; a scalar.
        gather: None if there is no other process.
    """
    if gather is None:
        return total, count
    both = gather(torch.stack([total, count.to(total)])[None]).sum(0)
    return both[0], both[1]


def rows_of_all(values: Tensor, gather: Gather | None) -> Tensor:
    """The patches of all processes, for what cannot be taken apart into sums.

    Args:
        values: Of the patches of this process, shape (batch, ...); integers up to 2**24.
        gather: None if there is no other process.

    Returns:
        The same with all patches, in the order of the batch.
    """
    if gather is None:
        return values
    kind = torch.promote_types(values.dtype, torch.float32)
    rows = gather(values.flatten(1).to(kind))
    return rows.to(values.dtype).reshape(len(rows), *values.shape[1:])


def mean_across(mean: Float[Tensor, ""], gather: Gather | None) -> Tensor:
    """The mean of means over as many values in every process.

    Args:
        mean: Over the values of this process.
        gather: None if there is no other process.
    """
    return mean if gather is None else gather(mean[None, None]).mean()
