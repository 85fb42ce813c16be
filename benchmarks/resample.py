"""Cubic resampling and restoring labels against scipy and torch, in one run, on one thread.

OMP_NUM_THREADS=1 python benchmarks/resample.py
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from pipeline.models.decode import Decoding, Grid, decode_planes
from pipeline.transforms.body import whole_box
from pipeline.transforms.resample import resample_image

T = TypeVar("T")


def main() -> None:
    """Print time, ratio and agreement of each pair."""
    torch.set_num_threads(1)
    print(
        f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC, {platform.processor() or platform.machine()}"
    )
    print(f"numpy {np.__version__}, torch {torch.__version__}, one thread, best of 3 (peers: of 1)")
    _image((160, 160, 160), (200, 200, 120))
    _labels(30, (96, 96, 96), (144, 144, 144))


def _image(before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).standard_normal(before).astype(np.float32)
    factors = np.array(after) / np.array(before)
    peer, peer_s = _timed(
        lambda: ndimage.zoom(image, factors, order=3, mode="nearest", grid_mode=True), 1
    )
    own, own_s = _timed(lambda: resample_image(image[np.newaxis], after, (3, 3, 3))[0], 3)
    difference = float(np.abs(own - peer).max() / peer.std())
    _report(f"cubic {before} to {after}, scipy zoom", peer_s, own_s)
    print(f"    largest difference {difference:.1e} standard deviations")


def _labels(n_classes: int, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
    coarse = torch.randn((1, n_classes, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = functional.interpolate(coarse, size=before, mode="trilinear")[0]
    peer, peer_s = _timed(
        lambda: (
            functional.interpolate(logits[None], size=after, mode="trilinear")[0].argmax(0).numpy()
        ),
        1,
    )
    grid = Grid(before, whole_box(before), after)
    own, own_s = _timed(lambda: decode_planes([(0, logits)], Decoding(logits.shape[0]), grid), 2)
    _report(f"{n_classes} logits {before} to labels {after}, torch interpolate", peer_s, own_s)
    print(f"    equal labels {float((own == peer).mean()):.6%}")


def _timed(function: Callable[[], T], n_repeats: int) -> tuple[T, float]:
    """The result and the shortest CPU time, in seconds."""
    elapsed_s = []
    for _ in range(n_repeats):
        start_s = time.process_time()
        result = function()
        elapsed_s.append(time.process_time() - start_s)
    return result, min(elapsed_s)


def _report(name: str, peer_s: float, own_s: float) -> None:
    print(f"{name}: {peer_s:.3f} s, voxline {own_s:.3f} s, ratio {peer_s / own_s:.1f}")


if __name__ == "__main__":
    main()
