"""Networks compiled by OpenVINO: the optional second backend on a CPU (extra `openvino`)."""

import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.errors import UsageError

T = TypeVar("T")

_MISSING = "the backend 'openvino' is not installed"
_INSTALL = "pip install 'voxline[openvino]', or use the backend 'torch'"


def compile_network(
    network: nn.Module, shape: tuple[int, ...], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Compile a network for windows of one size.

    Args:
        network: In evaluation mode, on the CPU.
        shape: Windows it will get at most: (batch, channel, i, j, k).
        device: Where windows will come from.

    Returns:
        A function from windows (up to batch, channel, i, j, k) to outputs, float32. It may be
        called from one thread at a time.

    Raises:
        UsageError: If OpenVINO is not installed or cannot convert the network, or the device is not
            a CPU.
    """
    if device.type != "cpu":
        raise UsageError(
            "the backend 'openvino' computes on a CPU, but a GPU was chosen",
            where="infer.backend",
            fix="use --device cpu, or the backend 'torch'",
        )
    # openvino 2026 reports its import and every conversion to Google Analytics, unasked. Without
    # this package it falls back to its own silent stand-in; there is no switch for it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks it
    try:
        import openvino
    except ImportError:
        raise UsageError(_MISSING, where="infer.backend", fix=_INSTALL) from None
    converted = _traced(
        lambda: openvino.convert_model(
            network, example_input=torch.zeros(shape), input=[list(shape)]
        )
    )
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", threads)
    request = compiled.create_infer_request()

    def run(
        windows: Float[Tensor, "batch channel i j k"],
    ) -> Float[Tensor, "batch output i j k"]:
        n_windows = len(windows)
        if n_windows > shape[0]:
            # OpenVINO would read part of them as if that were all, without a word.
            raise ValueError(f"{n_windows} windows for a network compiled for {shape[0]}")
        batch = windows if n_windows == shape[0] else windows.new_zeros(shape)
        if n_windows < shape[0]:
            batch[:n_windows] = windows
        outputs = request.infer([batch.float().contiguous().numpy()])
        # The request's own buffer is overwritten by the next call.
        return torch.from_numpy(next(iter(outputs.values()))[:n_windows].copy())

    return run


def _traced(convert: Callable[[], T]) -> T:
    """Convert by tracing; what torch and MONAI warn of meanwhile does not concern the user."""
    with warnings.catch_warnings(), torch.inference_mode():
        # torch asks for torch.export instead. Traced, instance norms stay whole and the network is
        # 1.3 times faster (0.22 s against 0.28 s for 2 windows of 48 x 48 x 48, 16-32-64 channels).
        warnings.simplefilter("ignore", DeprecationWarning)
        # MONAI looks at shapes while it runs; the window's never change.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # it is
        try:
            return convert()
        except RuntimeError as error:
            raise UsageError(
                f"OpenVINO cannot convert this network: {error}",
                where="infer.backend",
                fix="use the backend 'torch'",
            ) from error
