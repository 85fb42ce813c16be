"""Overlap and surface metrics of many classes against MONAI, nnU-Net, SimpleITK, surface-distance.

    python benchmarks/metrics.py [--small] [--only overlap] [--peers-python /path/to/python]

Every tool gets the same two label maps, one core, and a process of its own, so that peak memory is
its own too. nnU-Net and surface-distance are run by --peers-python, an interpreter that has
nnunetv2 and surface_distance; without one they are left out. MONAI's one-hot maps of all classes
may not fit: then it gets groups of classes, and its memory is that of one group (a floor).
Targets are those of the two full problems.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ENGINES_FILE = Path(__file__).with_name("metric_engines.py")
OVERLAP = ("voxline-overlap", "monai-overlap", "nnunet-overlap", "simpleitk-overlap")
SURFACE = ("voxline-surface", "monai-surface", "deepmind-surface")
NEEDS_PEERS = ("nnunet-overlap", "deepmind-surface")
# Issue 7: how many times faster than the peer, and MONAI's memory over ours.
TARGETS = {
    "monai-overlap": 100.0,
    "nnunet-overlap": 30.0,
    "simpleitk-overlap": 5.0,
    "monai-surface": 3.0,
}
MEMORY_TARGET = 20.0
TIMEOUT_S = 3600

LabelMap = NDArray[np.uint8]


@dataclass(frozen=True)
class Problem:
    """A pair of label maps to be scored."""

    name: str
    shape: tuple[int, int, int]
    n_classes: int


FULL = (
    Problem("256 x 256 x 256, 30 classes", (256, 256, 256), 30),
    Problem("192 x 224 x 224, 104 classes", (192, 224, 224), 104),
)
SMALL = (Problem("64 x 64 x 64, 8 classes", (64, 64, 64), 8),)


def main() -> None:
    """Run every tool on every problem and print times, memory and agreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="one small problem, some seconds")
    parser.add_argument("--peers-python", help="interpreter with nnunetv2 and surface_distance")
    parser.add_argument("--only", choices=("overlap", "surface"), help="one kind of metric")
    arguments = parser.parse_args()
    groups = {"overlap": OVERLAP, "surface": SURFACE}
    chosen = [arguments.only] if arguments.only else list(groups)
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, one core, CPU seconds")
    for problem in SMALL if arguments.small else FULL:
        with tempfile.TemporaryDirectory() as folder:
            prediction, reference = organs(problem, seed=0)
            np.save(Path(folder) / "prediction.npy", prediction)
            np.save(Path(folder) / "reference.npy", reference)
            print(f"\n{problem.name} ({np.mean(reference > 0):.0%} foreground)")
            for kind in chosen:
                _print_group(_run_all(groups[kind], Path(folder), problem, arguments.peers_python))


def organs(problem: Problem, seed: int) -> tuple[LabelMap, LabelMap]:
    """Ellipsoids, and the same ones a little moved and resized: Dice about 0.9.

    Args:
        problem: Size and number of classes.
        seed: Makes the pair reproducible.

    Returns:
        Prediction and reference.
    """
    rng = np.random.default_rng(seed)
    prediction, reference = np.zeros((2, *problem.shape), dtype=np.uint8)
    shape = np.array(problem.shape)
    for index in range(1, problem.n_classes + 1):
        center, radii = rng.uniform(0.08, 0.92, 3) * shape, rng.uniform(0.03, 0.11, 3) * shape
        _paint(reference, index, center, radii)
        moved, resized = center + rng.normal(0, 1.2, 3), radii * rng.uniform(0.93, 1.07, 3)
        _paint(prediction, index, moved, resized)
    return prediction, reference


def _paint(
    volume: LabelMap, index: int, center: NDArray[np.float64], radii: NDArray[np.float64]
) -> None:
    low = np.maximum(np.floor(center - radii), 0).astype(int)
    high = np.minimum(np.ceil(center + radii) + 1, volume.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.ogrid[box]
    squares = [((g - c) / r) ** 2 for g, c, r in zip(grid, center, radii, strict=True)]
    volume[box][squares[0] + squares[1] + squares[2] <= 1] = index


def _run_all(
    engines: tuple[str, ...], folder: Path, problem: Problem, peers_python: str | None
) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for engine in engines:
        python = peers_python if engine in NEEDS_PEERS else sys.executable
        if python is None:
            print(f"  {engine:20} left out: no --peers-python")
            continue
        found[engine] = _run(python, engine, folder, problem.n_classes)
    return found


def _run(python: str, engine: str, folder: Path, n_classes: int) -> dict[str, object]:
    """Run one tool in a process of its own on one core."""
    core = str(min(os.sched_getaffinity(0)))
    command = [
        "taskset",
        "-c",
        core,
        python,
        str(ENGINES_FILE),
        engine,
        str(folder),
        str(n_classes),
    ]
    root = str(ENGINES_FILE.parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-2000:]}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def _print_group(found: dict[str, dict[str, object]]) -> None:
    ours, *peers = found.items()
    _print_line(*ours, compared="")
    for engine, result in peers:
        _print_line(engine, result, _comparison(engine, ours[1], result))


def _print_line(engine: str, result: dict[str, object], compared: str) -> None:
    print(
        f"  {engine:20} {result['seconds']:9.3f} s {result['memory_mb']:8.0f} MB  "
        f"{compared} {result['remark']}"
    )


def _comparison(engine: str, ours: dict[str, object], peer: dict[str, object]) -> str:
    """How many times slower and larger, whether that meets the target, and the agreement."""
    ratio = float(str(peer["seconds"])) / float(str(ours["seconds"]))
    parts = [f"{ratio:7.1f} x the time"]
    if engine in TARGETS:
        parts.append(
            f"(target {TARGETS[engine]:g}: {'met' if ratio >= TARGETS[engine] else 'MISSED'})"
        )
    memory = float(str(peer["memory_mb"])) / float(str(ours["memory_mb"]))
    parts.append(f"{memory:.0f} x the memory")
    if engine.startswith("monai"):
        parts.append(
            f"(target {MEMORY_TARGET:g}: {'met' if memory >= MEMORY_TARGET else 'MISSED'})"
        )
    ours_values, peer_values = ours["scores"], peer["scores"]
    if isinstance(ours_values, dict) and isinstance(peer_values, dict):
        for metric, values in peer_values.items():
            apart = np.nanmax(np.abs(np.array(values) - np.array(ours_values[metric])))
            parts.append(f"{metric} within {apart:.1e}")
    return "  ".join(parts)


if __name__ == "__main__":
    main()
