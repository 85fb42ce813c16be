"""Build a network from its plan. MONAI supplies the architectures."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pipeline.artifacts import NetworkPlan
from pipeline.models.by_name import checked_arguments, construct, network_class

# Slope and epsilon of nnU-Net's blocks (Isensee et al. 2021), which DynUNet follows.
_LEAKY_RELU = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
_INSTANCE_NORM = ("instance", {"affine": True, "eps": 1e-5})
# Blocks of the encoder per level as in MONAI's Auto3DSeg; deeper levels have the last number.
_SEGRESNET_BLOCKS = (1, 2, 2, 4, 4, 4)
# Two blocks per level is MedNeXt-S (Roy et al. 2023).
_MEDNEXT_BLOCKS = 2
_WHERE = "train.network"
# Where DeepDynUNet has them.
_DEEP_HEADS = "deep_heads."
_CLASS_NAMES = {
    "dynunet": "DynUNet",
    "unet": "UNet",
    "segresnet": "SegResNetDS",
    "mednext": "MedNeXt",
    "swinunetr": "SwinUNETR",
}


def build_network(plan: NetworkPlan) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        plan: Architecture; inputs are (batch, n_input_channels, i, j, k), outputs are logits
            (batch, n_output_channels, i, j, k). Sides must be divisible by the product of strides.

    Returns:
        The network on the CPU, in training mode. With coarser outputs it then gives a sequence of
        logits, the full ones first; in evaluation mode it always gives one tensor.

    Raises:
        ConfigError: If the network does not exist or refuses its arguments.
    """
    arguments = network_arguments(plan)
    if plan.kind == "dynunet" and plan.n_deep_outputs > 0:
        # monai takes 8 s and 0.5 GB to import: only whoever builds a network pays for it.
        from pipeline.models.deep_dynunet import DeepDynUNet

        wrapped = {"arguments": arguments, "n_deep_outputs": plan.n_deep_outputs}
        return construct(DeepDynUNet, wrapped, where=_WHERE)
    return construct(network_class(network_name(plan)), arguments, where=_WHERE)


def network_name(plan: NetworkPlan) -> str:
    """Name of the class in monai.networks.nets."""
    return _CLASS_NAMES.get(plan.kind) or plan.name or ""


def network_arguments(plan: NetworkPlan) -> dict[str, Any]:
    """What the class of MONAI is called with.

    Args:
        plan: Architecture.

    Returns:
        Arguments by name, all of them plain data; those of the user overrule those of the plan.

    Raises:
        ConfigError: If the class does not know an argument, or lacks one.
    """
    common = {
        "spatial_dims": 3,
        "in_channels": plan.n_input_channels,
        "out_channels": plan.n_output_channels,
    }
    planned = {**common, **_planned(plan)}
    called = network_class(network_name(plan))
    return checked_arguments(called, plan.args, planned, where=f"{_WHERE}.args")


def plain_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the heads that only training uses: what the class of MONAI loads."""
    return {n: weight for n, weight in weights.items() if not n.startswith(_DEEP_HEADS)}


def _planned(plan: NetworkPlan) -> dict[str, Any]:  # noqa: PLR0911  # one return per kind
    n_down = len(plan.features) - 1
    match plan.kind:
        case "dynunet":
            return {
                "kernel_size": plan.kernels,
                "strides": plan.strides,
                "upsample_kernel_size": plan.strides[1:],
                "filters": plan.features,
                "norm_name": _INSTANCE_NORM,
                "act_name": _LEAKY_RELU,
                "res_block": plan.residual,
            }
        case "unet":
            return {
                "channels": plan.features,
                "strides": plan.strides[1:],
                "num_res_units": 2,
                "norm": _INSTANCE_NORM,
                "act": _LEAKY_RELU,
            }
        case "segresnet":
            more = (_SEGRESNET_BLOCKS[-1],) * n_down
            return {
                "init_filters": plan.features[0],
                "norm": _INSTANCE_NORM,
                "blocks_down": (*_SEGRESNET_BLOCKS, *more)[: n_down + 1],
                "dsdepth": plan.n_deep_outputs + 1,
            }
        case "mednext":
            return {
                "init_filters": plan.features[0],
                "kernel_size": 3,
                "use_residual_connection": True,
                "blocks_down": (_MEDNEXT_BLOCKS,) * n_down,
                "blocks_up": (_MEDNEXT_BLOCKS,) * n_down,
                "deep_supervision": plan.n_deep_outputs > 0,
            }
        case "swinunetr":
            return {"feature_size": plan.features[0]}
        case "monai":
            return {}


def count_parameters(network: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
