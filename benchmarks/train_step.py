"""Time of one training step, network by network: number formats and threads side by side.

    .venv/bin/python benchmarks/train_step.py [--device cuda] [--patch 40 56 40] [--seconds 6]

The step is the product's own: forward, Dice with cross-entropy, backward, clipping, AdamW, averaged
weights; the batch is noise, so no data are needed. Every number of threads runs in a process of its
own. GFLOP counts convolutions and matrix products of forward and backward, by PyTorch's counter.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.artifacts import LabelClass, NetworkPlan, Normalization, Plan, Preprocessing, Task
from pipeline.core.task import Channel
from pipeline.train.config import TrainConfig
from pipeline.train.data import Batch
from pipeline.train.learner import Learner

CLASSES = ("one", "two")
# Kind, channels per level, kernel of the first block.
NETWORKS = (
    ("dynunet", (8, 16, 32, 64), 3),
    ("dynunet", (8, 16, 32, 64), 1),
    ("dynunet", (8, 24, 48, 96), 1),
    ("dynunet", (16, 32, 64, 128), 1),
    ("unet", (16, 32, 64, 128), 3),
)
N_WARM_UP = 3


def main() -> None:
    """Print one table per number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6.0, help="per measurement")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        _measure(given)
        return
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {given.device}")
    for n_threads in dict.fromkeys(given.threads) if given.device == "cpu" else (1,):
        print(f"\n{n_threads} thread(s)" if given.device == "cpu" else "")
        environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
        command = [sys.executable, *sys.argv, "--measure"]
        subprocess.run(command, check=True, env=environment)


def _measure(given: argparse.Namespace) -> None:
    device = torch.device(given.device)
    print("| Network | Channels | First kernel | Numbers | ms | patches/s | GFLOP/s |")
    print("|---|---|---|---|---|---|---|")
    for kind, features, stem in NETWORKS:
        plan = _plan(kind, features, stem, tuple(given.patch), given.batch)
        for is_mixed in (False, True):
            config = TrainConfig.model_validate({"amp": is_mixed})
            learner = Learner(plan, _task(), config, device)
            if is_mixed and learner.number_format == "float32":
                continue
            ms, flop = _time_of(learner, _noise(plan, device), given.seconds)
            cells = (
                kind,
                "-".join(map(str, features)),
                str(stem),
                learner.number_format,
                f"{ms:.0f}",
                f"{1e3 * given.batch / ms:.2f}",
                f"{flop / ms / 1e6:.0f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


def _time_of(learner: Learner, batch: Batch, seconds: float) -> tuple[float, float]:
    """Median milliseconds of a step, and its operations."""
    with FlopCounterMode(display=False) as counter:
        learner.step(batch, 1e-3)
    for _ in range(N_WARM_UP):
        learner.step(batch, 1e-3)
    took_ms, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        started_s = time.perf_counter()
        # A step reads its loss, so that a GPU is done when it returns.
        learner.step(batch, 1e-3)
        took_ms.append(1e3 * (time.perf_counter() - started_s))
    return statistics.median(took_ms), float(counter.get_total_flops())


def _noise(plan: Plan, device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((plan.batch_size, 1, *plan.patch_size), generator=generator)
    label = (image[:, 0] > 0.5).long() + (image[:, 0] > 1.5).long()
    return Batch(image.to(device), label.to(device), ("noise",) * plan.batch_size)


def _task() -> Task:
    return Task(
        channels=(Channel(name="MRI", modality="mr"),),
        classes=tuple(
            LabelClass(name=name, index=i, source_values=(i,)) for i, name in enumerate(CLASSES, 1)
        ),
    )


def _plan(
    kind: str, features: tuple[int, ...], stem: int, patch: tuple[int, int, int], batch: int
) -> Plan:
    network = NetworkPlan.model_validate(
        {
            "kind": kind,
            "n_input_channels": 1,
            "n_output_channels": len(CLASSES) + 1,
            "features": features,
            "kernels": ((stem,) * 3, *((3, 3, 3),) * (len(features) - 1)),
            "strides": ((1, 1, 1), *((2, 2, 2),) * (len(features) - 1)),
        }
    )
    preprocessing = Preprocessing(
        spacing_mm=(1.0, 1.0, 1.0), normalizations=(Normalization(kind="zscore"),)
    )
    return Plan(
        preprocessing=preprocessing,
        network=network,
        patch_size=patch,
        batch_size=batch,
        mirror_axes=(),
        learning_rate=1e-3,
        n_train_cases=1,
        median_shape=patch,
        device="cpu",
        reasons=(),
    )


if __name__ == "__main__":
    main()
