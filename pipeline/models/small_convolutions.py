"""Convolutions that torch gets wrong on a CPU, computed in another way.

oneDNN (in torch 2.13, on a CPU with AVX512_BF16) leaves part of the gradient of the weights unset
where a side of the input is shorter than the kernel: in bfloat16 for most such convolutions, in
float32 for large depthwise ones in channels-last order. What stands there is whatever was in memory
before. A patch of 16 voxels has 2 at the lowest of four levels: many networks meet this.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

_CONVOLUTIONS = (torch.conv3d, torch.conv_transpose3d)


def exact_small_convolutions(device: torch.device) -> AbstractContextManager[object]:
    """Have small convolutions inside the block computed in float32, in the usual order of memory.

    They have few voxels, so it costs little. Their gradients are computed alike, also later.

    Args:
        device: Where the network computes; on a GPU nothing is changed.

    Returns:
        The context to run the network in.
    """
    return _ExactSmallConvolutions() if device.type == "cpu" else nullcontext()


class _ExactSmallConvolutions(TorchFunctionMode):
    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func not in _CONVOLUTIONS or not _is_small(args, given):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            return func(
                *(_exact(value) for value in args),
                **{name: _exact(value) for name, value in given.items()},
            )


def _is_small(args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    image = args[0] if args else given["input"]
    weight = args[1] if len(args) > 1 else given["weight"]
    sides, kernel = image.shape[-3:], weight.shape[-3:]
    return any(side < width for side, width in zip(sides, kernel, strict=True))


def _exact(value: object) -> object:
    if not isinstance(value, Tensor):
        return value
    # A depthwise weight is contiguous in both orders; only a copy says which one is meant.
    return value.float().clone(memory_format=torch.contiguous_format)
