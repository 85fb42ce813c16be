"""From a prepared image to a label map on the source grid: shared by validation and inference."""

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import nn

from pipeline.artifacts import Plan
from pipeline.core.geometry import Shape3
from pipeline.models.window import WindowSettings, sliding_window_logits
from pipeline.transforms.restore import restore_labels


def window_settings(plan: Plan, *, overlap: float, batch_size: int | None = None) -> WindowSettings:
    """Windows the size of the training patch.

    Args:
        plan: Plan the network was trained with.
        overlap: Share of a window that its neighbour repeats, 0 to below 1.
        batch_size: Windows per forward pass; None takes the training batch.

    Returns:
        Settings for `sliding_window_logits`.
    """
    return WindowSettings(
        window=plan.patch_size,
        overlap=overlap,
        batch_size=batch_size or max(2, plan.batch_size),
        n_classes=plan.network.n_output_channels,
    )


def segment_prepared(
    network: nn.Module,
    image: Float[np.ndarray, "channel i j k"],
    source_shape: Shape3,
    settings: WindowSettings,
    device: torch.device,
) -> UInt[np.ndarray, "source_i source_j source_k"]:
    """Predict the class of every voxel of the source grid.

    Args:
        network: In evaluation mode, on the device.
        image: Prepared image (normalized, at target spacing, RAS).
        source_shape: Shape of the RAS source grid to restore.
        settings: Window grid.
        device: Where to compute.

    Returns:
        Class indices on the source grid, RAS.
    """
    prepared = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(device)
    logits = sliding_window_logits(network, prepared, settings)
    return restore_labels(logits, source_shape)
