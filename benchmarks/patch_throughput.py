"""Augmented patches per second on one core: our batches, batchgeneratorsv2, MONAI, TorchIO.

The peers run in an environment of their own, each tool in its own process, all in one run:

    PEERS/bin/pip install nnunetv2 monai torchio
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/patch_throughput.py HIPPOCAMPUS PEERS/bin/python

HIPPOCAMPUS is the folder Task04_Hippocampus of the Medical Segmentation Decathlon. The cases lie in
memory; a sample is a random patch with its label, cut, moved and changed as in training. Two
recipes: "nnU-Net" has its default transforms at its probabilities (see patch_throughput_peers.py
for what differs), "always" rotates, scales and mirrors every sample and changes nothing else.
Seconds are CPU seconds of the process, so that a busy neighbor does not count.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import Plan
from pipeline.train.config import TrainConfig
from pipeline.train.data import BatchSource
from pipeline.train.prepare import PreparedCase
from pipeline.transforms.config import AugmentationConfig

Array = NDArray[Any]
PEERS = ("nnunet", "monai", "torchio")
PATCHES = {"hippocampus": (40, 56, 40), "phantom": (96, 96, 96)}
RECIPES = ("nnU-Net", "always")
_N_CASES, _N_PHANTOMS = 20, 4
_HALF_TURN, _SCALE = 30.0, (0.7, 1.4)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hippocampus", type=Path)
    parser.add_argument("peers", type=Path, help="the peers' Python")
    parser.add_argument("--seconds", type=float, default=2.5, help="CPU time per measurement")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, one thread")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _write_cases(given.hippocampus, work)
        results = {"Voxline": _ours(work, given.seconds)}
        for tool in PEERS:
            results[tool] = _peer(given.peers, tool, work, given.seconds)
    _print(results)


def _write_cases(hippocampus: Path, work: Path) -> None:
    files = sorted((hippocampus / "imagesTr").glob("hippo*.nii.gz"))[:_N_CASES]
    for file in files:
        image = np.asarray(nib.load(file).dataobj, dtype=np.float32)
        label = np.asarray(nib.load(hippocampus / "labelsTr" / file.name).dataobj)
        _save(work / f"hippocampus-{file.name}.npz", image, label)
    grid = np.meshgrid(*(np.linspace(-1, 1, 128, dtype=np.float32),) * 3, indexing="ij")
    for seed in range(_N_PHANTOMS):
        rng = np.random.default_rng(seed)
        radius = np.sqrt(
            sum(
                (axis - shift) ** 2
                for axis, shift in zip(grid, rng.uniform(-0.1, 0.1, 3), strict=True)
            )
        )
        label = (radius < 0.7).astype(np.uint8) + (radius < 0.4)
        noise = rng.normal(0, 0.2, label.shape).astype(np.float32)
        _save(work / f"phantom-{seed}.npz", label + np.sin(9 * grid[0]) / 4 + noise, label)


def _save(file: Path, image: Array, label: Array) -> None:
    image = (image - image.mean()) / image.std()
    np.savez(file, image=image.astype(np.float16), label=label.astype(np.uint8))


def _ours(work: Path, seconds: float) -> dict[str, Any]:
    results = {}
    for data, patch_size in PATCHES.items():
        cases = []
        for file in sorted(work.glob(f"{data}-*.npz")):
            arrays = np.load(file)
            label = arrays["label"]
            coordinates = tuple(np.argwhere(label == c).astype(np.int32) for c in (1, 2))
            cases.append(
                PreparedCase(file.stem, arrays["image"][None], label, coordinates, (1.0, 1.0, 1.0))
            )
        # All that batches need of a plan.
        needed: dict[str, Any] = {"batch_size": 1, "patch_size": patch_size}
        plan = Plan.model_construct(**needed, mirror_axes=(0, 1, 2))
        for recipe in (*RECIPES, "our defaults", "right angles"):
            config = TrainConfig(augmentation=_recipe(recipe), foreground_fraction=0.0)
            source = BatchSource(cases, plan, config, torch.device("cpu"))

            def sample(step: int, source: BatchSource = source) -> tuple[Array, Array]:
                batch = source.batch(step)
                return batch.image.numpy(), batch.label.numpy()

            results[f"{data} {recipe}"] = _measure(sample, seconds)
    return results


def _recipe(name: str) -> AugmentationConfig:
    if name == "our defaults":
        return AugmentationConfig()
    off = {n: 0.0 for n in AugmentationConfig.model_fields if n.endswith("_probability")}
    moved: dict[str, Any] = {"rotation_degrees": _HALF_TURN, "scale": _SCALE}
    if name == "right angles":
        # The cheap path: intensity changes as in nnU-Net, no interpolation.
        moved["right_angle_probability"] = 1.0
    chances = {
        "always": {"affine_probability": 1.0},
        # Rotation and scaling at 0.2 each: one of them at least in 0.36 of the samples.
        "nnU-Net": {"affine_probability": 0.36},
    }.get(name, {})
    if name != "always":
        chances = {
            **chances,
            "noise_probability": 0.1,
            "blur_probability": 0.1,
            "brightness_probability": 0.15,
            "contrast_probability": 0.15,
            "low_resolution_probability": 0.125,
            "gamma_probability": 0.37,
        }
    return AugmentationConfig(**{**off, "mirror_probability": 0.5, **moved, **chances})


def _measure(sample: Any, seconds: float) -> dict[str, float]:
    """Samples per CPU second, and what the samples look like."""
    for step in range(3):
        sample(step)
    spent, n, sums = 0.0, 0, np.zeros(4)
    while spent < seconds:
        start_s = time.process_time()
        image, label = sample(n)
        spent += time.process_time() - start_s
        sums += image.mean(), image.std(), (label == 1).mean(), (label == 2).mean()
        n += 1
    mean, std, one, two = (sums / n).tolist()
    return {"per_s": n / spent, "mean": mean, "std": std, "class_1": one, "class_2": two}


def _peer(python: Path, tool: str, work: Path, seconds: float) -> dict[str, Any]:
    script = Path(__file__).with_name("patch_throughput_peers.py")
    command = [str(python), str(script), tool, str(work), str(seconds), json.dumps(PATCHES)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        sys.exit(f"{tool} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(results: dict[str, dict[str, Any]]) -> None:
    names = [n for n in results["Voxline"] if n.endswith(RECIPES)]
    print("| data, recipe | tool | samples/s | Voxline is | mean | SD | class 1 | class 2 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [*names, *(n for n in results["Voxline"] if n not in names)]:
        own = results["Voxline"][name]["per_s"]
        for tool, found in results.items():
            if name in found:
                row = found[name]
                print(
                    f"| {name} | {tool} | {row['per_s']:.1f} | x{own / row['per_s']:.2f} | "
                    f"{row['mean']:+.3f} | {row['std']:.3f} | {row['class_1']:.2%} | "
                    f"{row['class_2']:.2%} |"
                )


if __name__ == "__main__":
    main()
