"""The last layer of a network, kept apart so that it runs once per voxel of the volume.

Blending windows and interpolating are linear, and so is a convolution of size 1. It may therefore
be applied after them: what is summed up and interpolated are the few channels before it, however
many classes there are (docs/decisions/0012).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from typing_extensions import override


@dataclass(frozen=True)
class Head:
    """A convolution of size 1.

    Args:
        weight: Shape (channel, output).
        bias: Shape (output,).
    """

    weight: Float32[Tensor, "channel output"]
    bias: Float32[Tensor, " output"]

    def logits(self, channels: Float32[Tensor, "voxel channel"]) -> Float32[Tensor, "voxel output"]:
        """One logit per output and voxel."""
        return torch.addmm(self.bias, channels, self.weight)

    def on(self, device: torch.device) -> "Head":
        """The same on a device."""
        return Head(self.weight.to(device), self.bias.to(device))


class _Body(nn.Module):
    """A DynUNet without its last layer."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    @override
    def forward(self, windows: Tensor) -> Tensor:
        channels: Tensor = self.layers(windows)
        return channels


def split_head(network: nn.Module) -> tuple[nn.Module, Head | None]:
    """Take the last layer off, where it is a convolution of size 1 that adds channels.

    Args:
        network: In evaluation mode; it is not changed, and shares its weights with the result.

    Returns:
        The network without its last layer, and that layer; or the network itself and None.
    """
    # Loaded already when there is a network to split; costs 8 s otherwise.
    from monai.networks.nets.dynunet import DynUNet

    if not isinstance(network, DynUNet):
        return network, None
    layers = [m for m in network.output_block.modules() if isinstance(m, nn.Conv3d)]
    last = layers[-1]
    is_linear = len(layers) == 1 and last.kernel_size == (1, 1, 1) and last.bias is not None
    if not is_linear or last.in_channels >= last.out_channels:
        return network, None
    weight = last.weight.detach()[:, :, 0, 0, 0].float().T.contiguous()
    bias = torch.zeros(0) if last.bias is None else last.bias.detach().float()
    return _Body(network.skip_layers), Head(weight, bias)
