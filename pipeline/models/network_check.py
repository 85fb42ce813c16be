"""Whether a planned network can be built and gives what training needs, before training begins."""

import copy

import torch
from torch import Tensor, nn

from pipeline.artifacts import NetworkPlan
from pipeline.core.errors import ConfigError
from pipeline.core.geometry import Shape3
from pipeline.models.by_name import REFUSALS, first_line
from pipeline.models.networks import build_network

_WHERE = "train.network"


def check_network(plan: NetworkPlan, patch_size: Shape3) -> None:
    """Build a network and pass a patch through it, without any arithmetic where torch can do so.

    Args:
        plan: Network.
        patch_size: Voxels.

    Raises:
        ConfigError: If it cannot be built, cannot take such a patch or gives something else than
            one logit per output and voxel, and the planned coarser ones in training.
    """
    # Its weights are thrown away: the random numbers of the caller go on as if nothing had been.
    with torch.random.fork_rng(devices=[]):
        network = build_network(plan)
        weightless = copy.deepcopy(network).to("meta")
    shape = (2, plan.n_input_channels, *patch_size)
    full = (2, plan.n_output_channels, *patch_size)
    evaluated = _output(weightless.eval(), network.eval(), shape)
    if not isinstance(evaluated, Tensor) or tuple(evaluated.shape) != full:
        raise _unexpected(evaluated, f"one tensor of {full}")
    trained = _output(weightless.train(), network.train(), shape)
    outputs = [trained] if isinstance(trained, Tensor) else list(_tensors(trained))
    is_alone = isinstance(trained, Tensor)
    is_right = (
        is_alone == (plan.n_deep_outputs == 0)
        and len(outputs) == plan.n_deep_outputs + 1
        and tuple(outputs[0].shape) == full
    )
    if not is_right or not all(_divides(output, full) for output in outputs):
        coarser = f" and {plan.n_deep_outputs} coarser" if plan.n_deep_outputs else " alone"
        raise _unexpected(trained, f"a tensor of {full}{coarser} in training")


def _output(weightless: nn.Module, network: nn.Module, shape: tuple[int, ...]) -> object:
    """What comes out; on the meta device, or really computed where a network cannot run there."""
    with torch.no_grad():
        try:
            return weightless(torch.zeros(shape, device="meta"))
        except REFUSALS as error:
            # Not wrong: the network only looks at values, which the meta device has not.
            if not isinstance(error, NotImplementedError) and "meta" not in str(error):
                raise _refused(error, shape) from error
        try:
            return network(torch.zeros(shape))
        except REFUSALS as error:
            raise _refused(error, shape) from error


def _refused(error: Exception, shape: tuple[int, ...]) -> ConfigError:
    is_missing = isinstance(error, ImportError)
    return ConfigError(
        f"the network cannot take patches of {shape[2:]} voxels: {first_line(error)}",
        where=_WHERE,
        fix="install the missing package with pip"
        if is_missing
        else "set train.patch_size to what it takes, or change train.network.args",
    )


def _tensors(output: object) -> list[Tensor]:
    if not isinstance(output, list | tuple):
        return []
    return [one for one in output if isinstance(one, Tensor)]


def _divides(output: Tensor, full: tuple[int, ...]) -> bool:
    return (
        output.ndim == len(full)
        and tuple(output.shape[:2]) == full[:2]
        and all(
            n % max(coarse, 1) == 0 for n, coarse in zip(full[2:], output.shape[2:], strict=True)
        )
    )


def _unexpected(output: object, expected: str) -> ConfigError:
    if isinstance(output, Tensor):
        found = f"a tensor of {tuple(output.shape)}"
    else:
        shapes = ", ".join(str(tuple(one.shape)) for one in _tensors(output))
        found = f"a {type(output).__name__} of {shapes or 'other things'}"
    return ConfigError(
        f"the network gives {found}; needed is {expected}",
        where=_WHERE,
        fix="choose a network for segmentation, or change train.network.args",
    )
