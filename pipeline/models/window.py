"""A network swept over a volume that is larger than its window."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.geometry import Shape3

# Smallest weight of a window's voxel: a corner seen by one window only must still count (as MONAI).
_MIN_IMPORTANCE = 1e-3


@dataclass(frozen=True)
class WindowSettings:
    """How a network is swept over a volume.

    Args:
        window: Size of a window along i, j, k, in voxels.
        n_outputs: Channels the network gives.
        overlap: Share of a window that the next one covers again at least, in [0, 1).
        batch_size: Windows per call of the network.

    Raises:
        ConfigError: If a value is out of range.
    """

    window: Shape3
    n_outputs: int
    overlap: float = 0.5
    batch_size: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ConfigError(
                f"the window overlap is {self.overlap}", fix="choose a value from 0 to below 1"
            )
        if min(*self.window, self.n_outputs, self.batch_size) < 1:
            raise ConfigError(
                f"window {self.window}, {self.n_outputs} outputs, {self.batch_size} per batch",
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


def iterate_planes(
    network: Callable[[Tensor], Tensor],
    image: Float[Tensor, "channel i j k"],
    settings: WindowSettings,
) -> Iterator[tuple[int, Float32[Tensor, "outputs n j k"]]]:
    """What a network says of a whole volume: overlapping windows, blended with Gaussian weights.

    Windows are visited in the order of i, then j, then k. Planes that no later window reaches are
    handed over and forgotten: never more planes are held than a window has along i.

    Args:
        network: Maps (batch, channel, i, j, k) to (batch, outputs, i, j, k) at the size of a
            window, on any device; in evaluation mode. Autocast, if wanted, is inside it.
        image: Prepared image, shape (channel, i, j, k); sums are kept on its device. Axes shorter
            than the window are padded with zeros on both sides.
        settings: Window, outputs, overlap and batch.

    Yields:
        First plane along i and the outputs of all finished planes (outputs, n, j, k), float32, in
        rising order and without gaps. They are overwritten once the next ones are asked for.

    Raises:
        CheckpointError: If the network gives another number of outputs or another size.
    """
    padded, (inner_i, inner_j, inner_k) = _padded(image, settings.window)
    ring = _Ring.empty(settings, padded)
    for place, outputs in _window_outputs(network, padded, settings):
        n_done = place[0].start - ring.first
        if n_done:
            yield ring.first, ring.finished(n_done)[:, :, inner_j, inner_k]
            ring = ring.advanced(n_done)
        ring.add(place, outputs)
    # Planes of padding can only be left here: a padded axis has a single row of windows.
    left = slice(inner_i.start, inner_i.start + image.shape[1] - ring.first)
    yield ring.first, ring.finished(ring.depth)[:, left, inner_j, inner_k]


def n_windows(shape: Shape3, settings: WindowSettings) -> int:
    """Number of windows that cover a volume of that shape."""
    return len(_places(shape, settings))


Place = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Ring:
    """Weighted sums of the planes that windows still reach; the first is plane `first`."""

    first: int
    total: Float32[Tensor, "outputs depth j k"]
    weight: Float32[Tensor, "depth j k"]
    importance: Float32[Tensor, "depth wj wk"]

    @classmethod
    def empty(cls, settings: WindowSettings, image: Float[Tensor, "channel i j k"]) -> "_Ring":
        shape = (settings.window[0], *image.shape[2:])
        return cls(
            0,
            torch.zeros((settings.n_outputs, *shape), device=image.device),
            torch.zeros(shape, device=image.device),
            gaussian_importance(settings.window).to(image.device),
        )

    @property
    def depth(self) -> int:
        return self.weight.shape[0]

    def add(self, place: Place, outputs: Float[Tensor, "outputs wi wj wk"]) -> None:
        _, j, k = place
        with torch.inference_mode():
            self.total[:, :, j, k].addcmul_(outputs, self.importance)
            self.weight[:, j, k] += self.importance

    def finished(self, n_planes: int) -> Float32[Tensor, "outputs n j k"]:
        return self.total[:, :n_planes].div_(self.weight[:n_planes])

    def advanced(self, n_planes: int) -> "_Ring":
        """Forget the first planes; the others move up, one by one, as they may overlap."""
        n_kept = self.depth - n_planes
        for plane in range(n_kept):
            self.total[:, plane] = self.total[:, plane + n_planes]
            self.weight[plane] = self.weight[plane + n_planes]
        self.total[:, n_kept:] = 0
        self.weight[n_kept:] = 0
        return replace(self, first=self.first + n_planes)


def _window_outputs(
    network: Callable[[Tensor], Tensor],
    image: Float[Tensor, "channel i j k"],
    settings: WindowSettings,
) -> Iterator[tuple[Place, Tensor]]:
    """Each window's place and outputs, in the order of i, then j, then k."""
    places = _places(tuple(image.shape[1:]), settings)
    expected = (settings.n_outputs, *settings.window)
    for first in range(0, len(places), settings.batch_size):
        group = places[first : first + settings.batch_size]
        with torch.inference_mode():
            outputs = network(torch.stack([image[(slice(None), *place)] for place in group]))
        if tuple(outputs.shape[1:]) != expected:
            raise CheckpointError(
                f"the network gives {tuple(outputs.shape[1:])} (outputs, i, j, k) per window, "
                f"not {expected}",
                fix="use the plan that the network was built from",
            )
        for place, output in zip(group, outputs, strict=True):
            yield place, output.to(image.device, torch.float32)


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
