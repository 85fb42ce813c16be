"""Peak memory of segmenting one prepared volume, estimated and used, as classes grow.

    OMP_NUM_THREADS=1 python benchmarks/infer_memory.py [--shape 160 160 150] [--source 200 200 150]

Every row is a process of its own. "Used" is the highest resident memory during the call above what
the process held before it, image included; "whole process" is everything. The rows with equal
features differ in nothing but the number of classes; the last ones have the width a plan gives.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from pipeline.models.predictor import Predictor

ROWS = ((2, 16), (30, 16), (105, 16), (30, 32), (105, 40))


def main() -> None:
    """Print one line per row, or be the process of one row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 160, 150))
    parser.add_argument("--source", type=int, nargs=3, default=(200, 200, 150))
    parser.add_argument("--window", type=int, nargs=3, default=(48, 48, 48))
    parser.add_argument("--row", type=int, nargs=2)
    parser.add_argument("--backend", default="torch")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(_measure(options)))
        return
    print(f"prepared {options.shape}, source {options.source}, window {options.window}")
    print("classes features | estimated MB  used MB  ratio | whole process MB | seconds")
    for n_classes, features in ROWS:
        command = [sys.executable, *sys.argv, "--row", str(n_classes), str(features)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        ratio = found["estimated"] / found["used"]
        print(
            f"{n_classes:7d} {features:8d} | {found['estimated']:12.0f} {found['used']:8.0f} "
            f"{ratio:6.2f} | {found['whole']:16.0f} | {found['seconds']:7.1f}",
            flush=True,
        )


def _measure(options: argparse.Namespace) -> dict[str, float]:
    import time

    import numpy as np
    import torch

    from pipeline.models.memory import estimate_memory
    from pipeline.models.segment import segment_prepared

    torch.manual_seed(0)
    predictor = _predictor(options)
    shape, source = tuple(options.shape), tuple(options.source)
    # Warm up: the first call of a network loads code that stays.
    small = np.zeros((1, *options.window), dtype=np.float32)
    segment_prepared(predictor, small, tuple(options.window))
    before = _resident_mb("VmRSS")
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    Path("/proc/self/clear_refs").write_text("5")
    started_s = time.perf_counter()
    segment_prepared(predictor, image, source)
    seconds = time.perf_counter() - started_s
    estimate = estimate_memory(predictor, shape, source)
    n_source_bytes = 4 * int(np.prod(source))
    return {
        "estimated": (estimate.ram_bytes("cpu") - n_source_bytes) / 1e6,
        "used": _resident_mb("VmHWM") - before,
        "whole": _resident_mb("VmHWM"),
        "seconds": seconds,
    }


def _predictor(options: argparse.Namespace) -> "Predictor":
    from pipeline.artifacts import NetworkPlan, Normalization, Plan, Preprocessing, Task
    from pipeline.core.task import Channel, LabelClass
    from pipeline.models.networks import build_network
    from pipeline.models.predictor import PredictionOptions, make_predictor

    n_classes, features = options.row
    network = NetworkPlan(
        kind="dynunet",
        n_input_channels=1,
        n_output_channels=n_classes,
        features=(features, 2 * features, 4 * features),
        kernels=((3, 3, 3),) * 3,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    )
    plan = Plan(
        preprocessing=Preprocessing(
            spacing_mm=(1.0, 1.0, 1.0), normalizations=(Normalization(kind="zscore"),)
        ),
        network=network,
        patch_size=tuple(options.window),
        batch_size=2,
        mirror_axes=(),
        learning_rate=1e-3,
        n_train_cases=1,
        median_shape=tuple(options.shape),
        device="cpu",
        reasons=(),
    )
    task = Task(
        channels=(Channel(name="CT", modality="ct"),),
        classes=tuple(
            LabelClass(name=f"c{i}", index=i, source_values=(i,)) for i in range(1, n_classes)
        ),
    )
    return make_predictor(
        [build_network(network).eval()], plan, task, PredictionOptions(backend=options.backend)
    )


def _resident_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this benchmark reads /proc/self/status, which is not here")


if __name__ == "__main__":
    main()
