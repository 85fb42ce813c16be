"""Plans of small networks, one per kind."""

import pytest

from pipeline.artifacts import NetworkPlan

# Every kind with what it needs, by the name of its test. Patches of 32 fit all but SwinUNETR,
# whose normalization needs two voxels at the lowest level.
KINDS = {
    "dynunet": {"kind": "dynunet"},
    "residual": {"kind": "dynunet", "residual": True},
    "dynunet_deep": {"kind": "dynunet", "n_deep_outputs": 2},
    "unet": {"kind": "unet"},
    "segresnet": {"kind": "segresnet"},
    "segresnet_deep": {"kind": "segresnet", "n_deep_outputs": 2},
    "mednext": {"kind": "mednext"},
    "mednext_deep": {"kind": "mednext", "n_deep_outputs": 3},
    "swinunetr": {
        "kind": "swinunetr",
        "features": (12, 12, 24, 48, 96, 192),
        "args": {"depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 2], "window_size": 2},
    },
    "monai": {
        "kind": "monai",
        "name": "AttentionUnet",
        "args": {"channels": [4, 8, 16], "strides": [2, 2]},
    },
}
# SwinUNETR is the slow one.
PARAMETERS = [
    pytest.param(name, marks=pytest.mark.slow if name == "swinunetr" else ()) for name in KINDS
]
DEEP = [name for name in KINDS if name.endswith("_deep")]


def small_network(kind="dynunet", **changes) -> NetworkPlan:
    values = {
        "n_input_channels": 1,
        "n_output_channels": 3,
        "features": (4, 8, 16, 32),
        "kernels": ((3, 3, 3),) * 4,
        "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    }
    return NetworkPlan(**{**values, **KINDS[kind], **changes})


def patch_of(name) -> tuple[int, int, int]:
    return (32, 32, 64) if name == "swinunetr" else (16, 16, 32)
