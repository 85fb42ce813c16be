"""Build a network from its plan. MONAI supplies the architectures."""

from torch import nn

from pipeline.artifacts import NetworkPlan

# Slope and epsilon of nnU-Net's blocks (Isensee et al. 2021), which DynUNet follows.
_LEAKY_RELU = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
_INSTANCE_NORM = ("instance", {"affine": True, "eps": 1e-5})


def build_network(plan: NetworkPlan) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        plan: Architecture; inputs are (batch, n_input_channels, i, j, k), outputs are logits
            (batch, n_output_channels, i, j, k). Sides must be divisible by the product of strides.

    Returns:
        The network on the CPU, in training mode.
    """
    # monai takes 8 s and 0.5 GB to import: only whoever builds a network pays for it.
    from monai.networks.nets.dynunet import DynUNet
    from monai.networks.nets.unet import UNet

    match plan.kind:
        case "dynunet":
            network: nn.Module = DynUNet(
                spatial_dims=3,
                in_channels=plan.n_input_channels,
                out_channels=plan.n_output_channels,
                kernel_size=plan.kernels,
                strides=plan.strides,
                upsample_kernel_size=plan.strides[1:],
                filters=plan.features,
                norm_name=_INSTANCE_NORM,
                act_name=_LEAKY_RELU,
            )
        case "unet":
            network = UNet(
                spatial_dims=3,
                in_channels=plan.n_input_channels,
                out_channels=plan.n_output_channels,
                channels=plan.features,
                strides=plan.strides[1:],  # type: ignore[arg-type]  # per-axis strides work
                num_res_units=2,
                norm=_INSTANCE_NORM,
                act=_LEAKY_RELU,
            )
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
