"""The sliding window against MONAI's, in one run, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/window.py

The first pair has a network that costs nothing: it shows the price of the sweep. The second has a
small U-Net, one window per call at the peer, as nnU-Net's predictor does.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from pipeline.models.window import WindowSettings, sliding_window_logits, window_starts


def main() -> None:
    """Print time, ratio and agreement of each pair."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.processor() or platform.machine()}"
    )
    print(f"torch {torch.__version__}, one thread, CPU seconds")
    # Sizes at which both make the same windows.
    _compare("voxelwise, 20 classes", nn.Conv3d(1, 20, 1), (160, 160, 96), (64, 64, 64))
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=3,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[8, 16, 32],
        norm_name="instance",
    )
    _compare("small U-Net, 3 classes", network, (72, 72, 48), (24, 24, 24))


def _compare(
    name: str, network: nn.Module, shape: tuple[int, int, int], window: tuple[int, int, int]
) -> None:
    network.eval()
    image = torch.randn((1, *shape))
    with torch.inference_mode():
        n_classes = network(torch.zeros((2, 1, *window))).shape[1]
        settings = WindowSettings(window=window, n_classes=n_classes)
        peer, peer_s = _timed(
            lambda: sliding_window_inference(
                image[None], window, 1, network, overlap=0.5, mode="gaussian", sigma_scale=0.125
            )[0]
        )
        own, own_s = _timed(lambda: sliding_window_logits(network, image, settings))
    n_windows = 1
    for n, size in zip(shape, window, strict=True):
        n_windows *= len(window_starts(n, size, settings.overlap))
    print(
        f"{name}, {shape} by {window}, {n_windows} windows: MONAI {peer_s:.2f} s, "
        f"voxline {own_s:.2f} s, ratio {peer_s / own_s:.2f}, "
        f"largest difference {float((peer - own).abs().max()):.1e}"
    )


def _timed(function: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result and the shortest CPU time of two calls, in seconds."""
    elapsed_s = []
    for _ in range(2):
        start_s = time.process_time()
        result = function()
        elapsed_s.append(time.process_time() - start_s)
    return result, min(elapsed_s)


if __name__ == "__main__":
    main()
