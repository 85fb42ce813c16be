"""Begin with the weights of another model, as far as they fit.

What belongs to a class or to a channel goes by its name, never by its place: the third output of
one model and of another are the same thing only by accident.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.artifacts import ModelInfo, NetworkPlan
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.task import Task
from pipeline.models.checkpoint import Model
from pipeline.models.networks import build_network

# A network that differs in one of these is another one: equal names would mean other things.
_ARCHITECTURE = ("kind", "name", "residual", "args")
# These are planned from the data; layers they leave alike are of use all the same.
_SIZES = ("features", "kernels", "strides")
_Side = Literal["input", "output"]


@dataclass(frozen=True)
class Amount:
    """Tensors of a network, and the weights in them.

    Args:
        n_tensors: Number of tensors.
        n_weights: Number of weights.
    """

    n_tensors: int
    n_weights: int


@dataclass(frozen=True)
class Transfer:
    """What one network took over from another.

    Args:
        whole: Tensors taken over as they are.
        partial: Tensors of which some classes or channels were taken over; their weights.
        fresh: Tensors of which nothing was taken over.
        shared_outputs: Names of the outputs taken over, background included.
        shared_channels: Names of the input channels taken over.
        differences: Sizes in which the networks differ, in words.
    """

    whole: Amount
    partial: Amount
    fresh: Amount
    shared_outputs: tuple[str, ...]
    shared_channels: tuple[str, ...]
    differences: tuple[str, ...]


def digest_of(file: Path) -> str:
    """Short hash of a model file, the same that `load_model` gives.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise CheckpointError(
            f"cannot read the model to begin with: {error.strerror}",
            where=f"train.warm_start, {file}",
            fix="give the best.pt of a train folder, such as runs/demo/train/fold_0/best.pt",
        ) from None


def take_over(network: nn.Module, info: ModelInfo, source: Model, where: str) -> Transfer:
    """Copy every weight that has the same name and meaning.

    Outputs are matched by the name of their class or region, inputs by that of their channel.

    Args:
        network: Gets the weights; the others stay as they are.
        info: Its plan and task.
        source: The model to take from.
        where: The file of that model, for messages.

    Returns:
        How much was taken over.

    Raises:
        ConfigError: If it is another architecture, or nothing fits.
    """
    old_plan, plan = source.info.plan.network, info.plan.network
    _refuse_other_architecture(old_plan, plan, where)
    names: dict[_Side, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "output": (_output_names(source.info.task), _output_names(info.task)),
        "input": (_channel_names(source.info.task), _channel_names(info.task)),
    }
    sides = _sides(plan)
    old = source.network.state_dict()
    counts = {"whole": [0, 0], "partial": [0, 0], "fresh": [0, 0]}
    for key, tensor in network.state_dict().items():
        n_taken = 0
        if key in old:
            n_taken = _copy_matching(tensor, old[key], sides.get(key, {}), names)
        kind = "fresh" if n_taken == 0 else "whole" if n_taken == tensor.numel() else "partial"
        counts[kind][0] += 1
        counts[kind][1] += n_taken or tensor.numel()
    differences = _differences(old_plan, plan, _SIZES)
    if counts["whole"][0] + counts["partial"][0] == 0:
        raise ConfigError(
            "no weight of the model to begin with fits the planned network"
            f"{': ' if differences else ''}{'; '.join(differences)}",
            where=f"train.warm_start, {where}",
            fix="choose the same train.network, or leave train.warm_start out",
        )
    return Transfer(
        whole=Amount(*counts["whole"]),
        partial=Amount(*counts["partial"]),
        fresh=Amount(*counts["fresh"]),
        shared_outputs=_shared(*names["output"]),
        shared_channels=_shared(*names["input"]),
        differences=differences,
    )


def _refuse_other_architecture(old: NetworkPlan, new: NetworkPlan, where: str) -> None:
    differences = _differences(old, new, _ARCHITECTURE)
    if differences:
        raise ConfigError(
            f"the model to begin with is another network: {'; '.join(differences)}",
            where=f"train.warm_start, {where}",
            fix="set train.network as that model has it, or begin with another model",
        )


def _differences(old: NetworkPlan, new: NetworkPlan, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"{name} {getattr(old, name)} there, {getattr(new, name)} here"
        for name in fields
        if getattr(old, name) != getattr(new, name)
    )


def _output_names(task: Task) -> tuple[str, ...]:
    """Names of the network's outputs; that of a region is never that of a class.

    An output of a region is a logit by itself, that of a class one among others.
    """
    if task.regions:
        return tuple(f"region {region.name}" for region in task.regions)
    return ("background", *task.class_names)


def _channel_names(task: Task) -> tuple[str, ...]:
    return tuple(channel.name for channel in task.channels)


def _shared(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in new if name in old)


def _sides(plan: NetworkPlan) -> dict[str, dict[int, _Side]]:
    """Which axes of which tensors count the network's inputs or outputs.

    Found by building it with one more of each: true for any architecture. The random numbers this
    takes are given back.
    """
    with torch.random.fork_rng(devices=[]):
        present = _shapes(plan)
        wider: dict[_Side, dict[str, torch.Size]] = {
            "input": _shapes(
                plan.model_copy(update={"n_input_channels": plan.n_input_channels + 1})
            ),
            "output": _shapes(
                plan.model_copy(update={"n_output_channels": plan.n_output_channels + 1})
            ),
        }
    sides: dict[str, dict[int, _Side]] = {}
    for side, shapes in wider.items():
        for name, shape in present.items():
            for axis, size in enumerate(shape):
                if shapes[name][axis] != size:
                    sides.setdefault(name, {})[axis] = side
    return sides


def _shapes(plan: NetworkPlan) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in build_network(plan).state_dict().items()}


def _copy_matching(
    new: Tensor,
    old: Tensor,
    sides: Mapping[int, _Side],
    names: Mapping[_Side, tuple[Sequence[str], Sequence[str]]],
) -> int:
    """Copy what two tensors of the same name share; returns the number of weights copied."""
    if new.ndim != old.ndim:
        return 0
    targets: list[Tensor] = []
    piece = old
    for axis in range(new.ndim):
        rows = _matching_rows(axis, new, old, names[sides[axis]] if axis in sides else None)
        if not rows:
            return 0
        theirs, ours = (torch.tensor(row, device=old.device) for row in zip(*rows, strict=True))
        piece = piece.index_select(axis, theirs)
        targets.append(
            ours.to(new.device).reshape([-1 if a == axis else 1 for a in range(new.ndim)])
        )
    with torch.no_grad():
        if targets:
            new[tuple(targets)] = piece.to(new.device, new.dtype)
        else:
            new.copy_(old)
    return piece.numel()


def _matching_rows(
    axis: int, new: Tensor, old: Tensor, names: tuple[Sequence[str], Sequence[str]] | None
) -> list[tuple[int, int]]:
    """Pairs of places along one axis, in the old and in the new tensor, that mean the same."""
    old_size, new_size = old.shape[axis], new.shape[axis]
    if names is None:
        return [(i, i) for i in range(new_size)] if old_size == new_size else []
    theirs, ours = names
    # An axis that holds something else beside the inputs or outputs cannot be told apart.
    if (old_size, new_size) != (len(theirs), len(ours)):
        return []
    return [(theirs.index(name), place) for place, name in enumerate(ours) if name in theirs]
