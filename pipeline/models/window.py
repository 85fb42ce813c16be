"""A network swept over a volume that is larger than its window."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.geometry import Shape3

# Smallest weight of a window's voxel: a corner seen by one window only must still count (as MONAI).
_MIN_IMPORTANCE = 1e-3
# torch takes its fast CPU convolution for small volumes only from two windows on
# (reference/performance.md 4c: 1.9 times faster for a whole small network).
_MIN_CPU_BATCH = 2
# Largest window plane (i times j, voxels) for which that holds: torch switches at channels x i x j
# above 20480, with the 8 channels of our smallest network (benchmarks/window.py).
_MAX_SLOW_PLANE = 2560


@dataclass(frozen=True)
class WindowSettings:
    """How a network is swept over a volume.

    Args:
        window: Size of a window along i, j, k, in voxels.
        n_classes: Channels the network gives, background included.
        overlap: Share of a window that the next one covers again at least, in [0, 1).
        batch_size: Windows per call of the network; on a CPU at least 2 are used.

    Raises:
        ConfigError: If a value is out of range.
    """

    window: Shape3
    n_classes: int
    overlap: float = 0.5
    batch_size: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ConfigError(
                f"the window overlap is {self.overlap}", fix="choose a value from 0 to below 1"
            )
        if min(*self.window, self.n_classes, self.batch_size) < 1:
            raise ConfigError(
                f"window {self.window}, {self.n_classes} classes, {self.batch_size} per batch",
                fix="sizes and counts start at 1",
            )


def window_starts(n: int, window: int, overlap: float) -> tuple[int, ...]:
    """First voxels of the windows along one axis: as few as the overlap needs, evenly spread.

    Args:
        n: Voxels along the axis.
        window: Voxels a window covers.
        overlap: Smallest share of a window that the next one covers again, in [0, 1).

    Returns:
        Rising positions; the first window starts at 0, the last ends at the last voxel.
    """
    if n <= window:
        return (0,)
    # A step below one voxel would visit the same window twice.
    largest_step = max(1.0, window * (1 - overlap))
    # The tolerance keeps rounding (10 * (1 - 0.9) is 0.9999...) from adding a window.
    n_steps = math.ceil((n - window) / largest_step - 1e-6)
    return tuple(round(step * (n - window) / n_steps) for step in range(n_steps + 1))


def gaussian_importance(window: Shape3, sigma_fraction: float = 1 / 8) -> Float32[Tensor, "i j k"]:
    """How much a window's voxels count: most in the middle, least at the faces.

    A network sees no context beyond the faces of its window.

    Args:
        window: Window size along i, j, k.
        sigma_fraction: Width of the Gaussian as a share of the window size.

    Returns:
        Weights in [0.001, 1], shape (i, j, k), on the CPU.
    """
    weights = torch.ones(window)
    for axis, n in enumerate(window):
        offset = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        profile = torch.exp(-0.5 * (offset / (sigma_fraction * n)) ** 2)
        weights = weights * profile.reshape([-1 if a == axis else 1 for a in range(3)])
    return weights.clamp(min=_MIN_IMPORTANCE)


def sliding_window_logits(
    network: Callable[[Tensor], Tensor],
    image: Float[Tensor, "channel i j k"],
    settings: WindowSettings,
) -> Float32[Tensor, "classes i j k"]:
    """Logits of a whole volume from overlapping windows, blended with Gaussian weights.

    Args:
        network: Maps (batch, channel, i, j, k) to (batch, classes, i, j, k) at the size of a
            window; in evaluation mode. Autocast, if wanted, is inside it.
        image: Prepared image, shape (channel, i, j, k), on the device of the network. Axes shorter
            than the window are padded with zeros on both sides.
        settings: Window, classes, overlap and batch.

    Returns:
        Logits, shape (classes, i, j, k), float32, on the same device.

    Raises:
        CheckpointError: If the network gives another number of classes or another size.
    """
    with torch.inference_mode():
        padded, inner = _padded(image, settings.window)
        importance = gaussian_importance(settings.window).to(image.device)
        shape = padded.shape[1:]
        total = torch.zeros((settings.n_classes, *shape), device=image.device)
        weight = torch.zeros(tuple(shape), device=image.device)
        for place, logits in _window_logits(network, padded, settings):
            total[(slice(None), *place)].addcmul_(logits, importance)
            weight[place] += importance
        total /= weight
        return total[(slice(None), *inner)].contiguous()


Place = tuple[slice, slice, slice]


def _window_logits(
    network: Callable[[Tensor], Tensor],
    image: Float[Tensor, "channel i j k"],
    settings: WindowSettings,
) -> Iterator[tuple[Place, Tensor]]:
    """Each window's place and logits, in the order of i, then j, then k.

    In that order all windows of one plane of windows come together, so that a consumer may finish
    and release the planes below the next start along i.
    """
    places = _places(tuple(image.shape[1:]), settings)
    n_least = _least_batch(settings.window, image.device)
    n_batch = max(settings.batch_size, n_least)
    expected = (settings.n_classes, *settings.window)
    for first in range(0, len(places), n_batch):
        group = places[first : first + n_batch]
        # A lone window goes in twice; the copy's logits are dropped by the zip below.
        visited = group * n_least if len(group) < n_least else group
        output = network(torch.stack([image[(slice(None), *place)] for place in visited]))
        if tuple(output.shape[1:]) != expected:
            raise CheckpointError(
                f"the network gives {tuple(output.shape[1:])} (classes, i, j, k) per window, "
                f"not {expected}",
                fix="use the plan that the network was built from",
            )
        yield from zip(group, output[: len(group)].float(), strict=True)


def _least_batch(window: Shape3, device: torch.device) -> int:
    """2 where a CPU takes longer over one window than over two of the same."""
    is_small = window[0] * window[1] <= _MAX_SLOW_PLANE
    return _MIN_CPU_BATCH if device.type == "cpu" and is_small else 1


def _places(shape: tuple[int, ...], settings: WindowSettings) -> list[Place]:
    starts = (
        window_starts(n, window, settings.overlap)
        for n, window in zip(shape, settings.window, strict=True)
    )
    window_i, window_j, window_k = settings.window
    return [
        (slice(i, i + window_i), slice(j, j + window_j), slice(k, k + window_k))
        for i, j, k in itertools.product(*starts)
    ]


def _padded(
    image: Float[Tensor, "channel i j k"], window: Shape3
) -> tuple[Float[Tensor, "channel new_i new_j new_k"], Place]:
    """The image with no axis shorter than the window, and where it lies in there."""
    n_voxels = image.shape[1:]
    missing = [max(0, size - n) for n, size in zip(n_voxels, window, strict=True)]
    before = [n // 2 for n in missing]
    # torch counts padding from the last axis backwards: before k, after k, before j, ...
    pairs = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    padding = [n for pair in reversed(pairs) for n in pair]
    i, j, k = (slice(b, b + n) for b, n in zip(before, n_voxels, strict=True))
    return functional.pad(image, padding), (i, j, k)
