"""The sliding window against MONAI's, from a prepared image to labels, in one run on one thread.

    OMP_NUM_THREADS=1 python benchmarks/window.py

The first pair has a network that costs nothing: it shows the price of the sweep. The others have a
small U-Net, one window per call at the peer, as nnU-Net's predictor does; the last one has many
classes. Both sides end in labels; OpenVINO stands beside where it is installed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from pipeline.artifacts import NetworkPlan, Normalization, Plan, Preprocessing, Task
from pipeline.core.task import Channel, LabelClass
from pipeline.models.networks import build_network
from pipeline.models.predictor import make_predictor
from pipeline.models.segment import segment_prepared
from pipeline.models.window import n_windows

Shape = tuple[int, int, int]


def main() -> None:
    """Print time, ratio and agreement of each pair."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(
        f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.processor() or platform.machine()}"
    )
    print(f"torch {torch.__version__}, one thread, CPU seconds")
    # Sizes at which both make the same windows.
    _compare("voxelwise, 20 classes", (160, 160, 96), (64, 64, 64), 20, nn.Conv3d(1, 20, 1))
    _compare("U-Net 8-16-32, 3 classes", (72, 72, 48), (24, 24, 24), 3)
    _compare("U-Net 8-16-32, 30 classes", (96, 96, 96), (48, 48, 48), 30)


def _compare(
    name: str, shape: Shape, window: Shape, n_classes: int, network: nn.Module | None = None
) -> None:
    plan, task = _plan(window, n_classes)
    network = (network or build_network(plan.network)).eval()
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)

    def peer() -> np.ndarray:
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.from_numpy(image)[None],
                window,
                1,
                network,
                overlap=0.5,
                mode="gaussian",
                sigma_scale=0.125,
            )
            return logits[0].argmax(dim=0).numpy()

    predictor = make_predictor([network], plan, task)
    expected, peer_s = _timed(peer)
    labels, own_s = _timed(lambda: segment_prepared(predictor, image, shape).labels)
    print(
        f"{name}, {shape} by {window}, {n_windows(shape, predictor.windows)} windows: "
        f"MONAI {peer_s:.2f} s, voxline {own_s:.2f} s, ratio {peer_s / own_s:.2f}, "
        f"labels agree {100 * float((labels == expected).mean()):.4f} %",
        flush=True,
    )
    if importlib.util.find_spec("openvino") is None:
        return
    started_s = time.process_time()
    options = replace(predictor.options, backend="openvino")
    compiled = make_predictor([network], plan, task, options)
    compiling_s = time.process_time() - started_s
    labels, fast_s = _timed(lambda: segment_prepared(compiled, image, shape).labels)
    print(
        f"    OpenVINO {fast_s:.2f} s after {compiling_s:.1f} s of compiling, ratio to MONAI "
        f"{peer_s / fast_s:.2f}, to torch {own_s / fast_s:.2f}, labels agree "
        f"{100 * float((labels == expected).mean()):.4f} %",
        flush=True,
    )


def _plan(window: Shape, n_classes: int) -> tuple[Plan, Task]:
    features = (8, 16, 32)
    plan = Plan(
        preprocessing=Preprocessing(
            spacing_mm=(1.0, 1.0, 1.0), normalizations=(Normalization(kind="zscore"),)
        ),
        network=NetworkPlan(
            kind="dynunet",
            n_input_channels=1,
            n_output_channels=n_classes,
            features=features,
            kernels=((3, 3, 3),) * 3,
            strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        ),
        patch_size=window,
        batch_size=2,
        mirror_axes=(),
        learning_rate=1e-3,
        n_train_cases=1,
        median_shape=window,
        device="cpu",
        reasons=(),
    )
    classes = tuple(
        LabelClass(name=f"c{i}", index=i, source_values=(i,)) for i in range(1, n_classes)
    )
    return plan, Task(channels=(Channel(name="CT", modality="ct"),), classes=classes)


def _timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """The result and the shortest CPU time of two calls, in seconds."""
    elapsed_s = []
    for _ in range(2):
        start_s = time.process_time()
        result = function()
        elapsed_s.append(time.process_time() - start_s)
    return result, min(elapsed_s)


if __name__ == "__main__":
    main()
