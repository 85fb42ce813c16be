"""Small tables from numpy to where patches are computed."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def to_device(values: ArrayLike, device: torch.device, dtype: type = np.float32) -> Tensor:
    """Copy numbers to a device without waiting for what a GPU still has to compute.

    `torch.tensor(values, device=...)` waits: the GPU would stand still while the next batch is
    prepared.

    Args:
        values: Numbers, of any shape.
        device: Where they are wanted.
        dtype: Of the result, as numpy names it.

    Returns:
        A tensor of the same shape, which shares no memory with `values`.
    """
    return torch.from_numpy(np.array(values, dtype=dtype)).to(device, non_blocking=True)
