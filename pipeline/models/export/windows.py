"""A network beside its export, on the same windows."""

from collections.abc import Callable

import torch
from jaxtyping import Float32
from torch import Tensor

from pipeline.artifacts import ModelInfo
from pipeline.core.errors import CheckpointError
from pipeline.models.checkpoint import Model

# float32 sums in another order: a few 1e-6 of the largest output, more in deep networks.
_MAX_DIFFERENCE_FRACTION = 1e-4
_SEED = 0


def example_windows(info: ModelInfo, n_windows: int) -> Float32[Tensor, "batch channel i j k"]:
    """Noise of the size and the spread that the network sees.

    Args:
        info: The model.
        n_windows: How many.

    Returns:
        Normal values on the CPU, the same every time.
    """
    generator = torch.Generator().manual_seed(_SEED)
    shape = (n_windows, info.plan.network.n_input_channels, *info.plan.patch_size)
    return torch.randn(shape, generator=generator)


def check_outputs(model: Model, exported: Callable[[Tensor], Tensor], *, where: str) -> float:
    """Run an export on one window and on three, and compare with the network.

    Args:
        model: On the CPU.
        exported: Maps (batch, channel, i, j, k) to (batch, output, i, j, k).
        where: Name of the file, for the message.

    Returns:
        Largest difference of an output.

    Raises:
        CheckpointError: If it is larger than rounding explains.
    """
    largest = 0.0
    with torch.inference_mode():
        for n_windows in (1, 3):
            windows = example_windows(model.info, n_windows)
            expected = model.network(windows)
            difference = float((exported(windows) - expected).abs().max())
            largest = max(largest, difference)
            if not difference <= _MAX_DIFFERENCE_FRACTION * max(1.0, float(expected.abs().max())):
                raise CheckpointError(
                    f"the exported file differs from the network by {difference:.2g}",
                    where=where,
                    fix="do not use it; report this with the versions in voxline.json",
                )
    return largest
