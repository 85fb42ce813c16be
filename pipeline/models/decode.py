"""From finished planes of network outputs to labels on the source grid, a slab at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float16, Float32, Integer, UInt
from torch import Tensor

from pipeline.artifacts import Task
from pipeline.core.geometry import Shape3
from pipeline.models.head import Head
from pipeline.transforms.body import Box
from pipeline.transforms.restore import Taps, interpolate_planes, linear_taps

# Numbers held at once per step, 16 MB of float32: small beside any volume, large enough that the
# cost per call does not matter.
MAX_SLAB_VALUES = 4_000_000
# Looking for foreground on the coarse grid pays from this many fine voxels per coarse one on.
_MIN_GROWTH = 2.0

# Called with the first plane i of the source grid and (output, n, j, k), planes in rising order.
ProbabilitySink = Callable[[int, Float16[np.ndarray, "output n j k"]], None]


@dataclass(frozen=True)
class Decoding:
    """How the outputs of a network become class indices.

    Args:
        n_outputs: Logits per voxel: background and every class, or one per region.
        paints: Class index that each region paints where its probability is above one half, in
            this order; empty: the largest logit wins.
        head: Turns the channels that are blended into logits; None: they are the logits.
    """

    n_outputs: int
    paints: tuple[int, ...] = ()
    head: Head | None = None

    @property
    def n_channels(self) -> int:
        """Numbers per voxel that are blended and interpolated."""
        return self.n_outputs if self.head is None else self.head.weight.shape[0]

    @property
    def highest_label(self) -> int:
        """Largest class index that can come out."""
        return max(self.paints, default=self.n_outputs - 1)

    def on(self, device: torch.device) -> "Decoding":
        """The same on a device."""
        return replace(self, head=self.head.on(device) if self.head else None)


@dataclass(frozen=True)
class Grid:
    """Where planes lie and where their labels go.

    Args:
        prepared: Shape of the whole prepared image.
        box: Part of it that the planes cover; everything else is background.
        source: Shape of the source grid (RAS), over the same extent.
    """

    prepared: Shape3
    box: Box
    source: Shape3


def decoding_of(task: Task, head: Head | None = None) -> Decoding:
    """The rule that fits a task.

    Args:
        task: Classes, and regions if it has some.
        head: Last layer of the network, if it was taken off.

    Returns:
        Largest logit over background and classes, or regions painted in their order.
    """
    index = {c.name: c.index for c in task.classes}
    return Decoding(task.n_outputs, tuple(index[r.paints] for r in task.regions), head)


def labels_of(
    channels: Float32[Tensor, "voxel channel"], decoding: Decoding
) -> Integer[Tensor, " voxel"]:
    """Class index per voxel; on a tie the lower index wins.

    Args:
        channels: Blended numbers, shape (voxel, channel).
        decoding: What they mean.

    Returns:
        Indices on the same device, uint8, or int32 where they do not fit.
    """
    # torch has no working uint16.
    dtype = torch.uint8 if decoding.highest_label <= 255 else torch.int32
    labels = torch.empty(len(channels), dtype=dtype, device=channels.device)
    for part, logits in _logits(channels, decoding):
        if not decoding.paints:
            labels[part] = logits.max(dim=1).indices.to(dtype)
            continue
        painted = torch.zeros(len(logits), dtype=dtype, device=labels.device)
        for region, index in enumerate(decoding.paints):
            painted[logits[:, region] > 0] = index
        labels[part] = painted
    return labels


def probabilities_of(
    channels: Float32[Tensor, "voxel channel"], decoding: Decoding
) -> Float16[Tensor, "output voxel"]:
    """Softmax over background and classes, or a sigmoid per region.

    Args:
        channels: Blended numbers, shape (voxel, channel).
        decoding: What they mean.

    Returns:
        Probabilities, float16, outputs first, on the same device.
    """
    shape = (decoding.n_outputs, len(channels))
    probabilities = torch.empty(shape, dtype=torch.float16, device=channels.device)
    for part, logits in _logits(channels, decoding):
        exact = torch.sigmoid(logits) if decoding.paints else torch.softmax(logits, dim=1)
        probabilities[:, part] = exact.T.half()
    return probabilities


def _logits(
    channels: Float32[Tensor, "voxel channel"], decoding: Decoding
) -> Iterator[tuple[slice, Tensor]]:
    """Logits (voxel, output) of a few voxels at a time."""
    n_part = max(1, MAX_SLAB_VALUES // decoding.n_outputs)
    for first in range(0, len(channels), n_part):
        part = slice(first, min(first + n_part, len(channels)))
        values = channels[part]
        yield part, values if decoding.head is None else decoding.head.logits(values)


def decode_planes(
    planes: Iterable[tuple[int, Float32[Tensor, "channel n j k"]]],
    decoding: Decoding,
    grid: Grid,
    sink: ProbabilitySink | None = None,
) -> UInt[np.ndarray, "i j k"]:
    """Turn planes on the prepared grid into labels on the source grid, while they come in.

    Channels are interpolated linearly over the same extent, then decoded; what exists at once is a
    few planes of the source grid. Cells whose corners are all background stay so: a mean of numbers
    of which the first is largest has the first largest.

    Args:
        planes: First plane along i, counted from the box, and channels (channel, n, j, k) of the
            box; without gaps, in rising order, each used before the next is asked for.
        decoding: What the channels mean.
        grid: Where the planes lie.
        sink: Gets the probabilities of every plane of the source grid; costs time.

    Returns:
        Class indices on the CPU, uint8, or uint16 for more than 255 classes.
    """
    dtype = np.uint8 if decoding.highest_label <= 255 else np.uint16
    labels = np.zeros(grid.source, dtype=dtype)
    taps_i, taps_j, taps_k = (
        linear_taps(n_in, n_out) for n_in, n_out in zip(grid.prepared, grid.source, strict=True)
    )
    slabs = _source_slabs(planes, taps_i, grid, decoding, has_sink=sink is not None)
    n_sent = 0
    with torch.inference_mode():
        for voxels, near, along_i in slabs:
            slab = _Slab(near.permute(1, 2, 3, 0).contiguous(), along_i, taps_j, taps_k, grid.box)
            _paint(labels[voxels], slab, decoding)
            if sink is not None:
                _send_background(sink, decoding, grid, n_sent, voxels.start)
                sink(voxels.start, _probabilities(slab, decoding, grid))
                n_sent = voxels.stop
    if sink is not None:
        _send_background(sink, decoding, grid, n_sent, grid.source[0])
    return labels


def _source_slabs(
    planes: Iterable[tuple[int, Float32[Tensor, "channel n j k"]]],
    taps: Taps,
    grid: Grid,
    decoding: Decoding,
    *,
    has_sink: bool,
) -> Iterator[tuple[slice, Tensor, Taps]]:
    """Planes of the source grid, the planes they are mixed from, and how."""
    n_at_once = _planes_at_once(grid, decoding.n_outputs if has_sink else decoding.n_channels)
    box_i = grid.box[0]
    inside = taps.between(box_i.start, box_i.stop)
    done = inside.start
    last: Tensor | None = None
    for offset, slab in planes:
        first, stop = box_i.start + offset, box_i.start + offset + slab.shape[1]
        ready = min(inside.stop, taps.between(first, stop).stop)
        # Planes between the last slab and this one are mixed from one plane of either.
        n_between = int(np.count_nonzero(taps.lower[done:ready] < first))
        if last is not None and n_between:
            between = slice(done, done + n_between)
            both = torch.cat([last, slab[:, :1]], dim=1)
            yield from _parts(both, first - 1, between, taps, n_at_once)
        yield from _parts(slab, first, slice(done + n_between, ready), taps, n_at_once)
        done = max(done, ready)
        last = slab[:, -1:].clone()


def _planes_at_once(grid: Grid, n_per_voxel: int) -> int:
    """Planes of the source grid within the memory allowed, at least one."""
    # Where the axis shrinks, several prepared planes go into one: the larger side counts.
    n_prepared = grid.prepared[1] * grid.prepared[2] * max(1, grid.prepared[0] / grid.source[0])
    n_plane = max(n_prepared, grid.source[1] * grid.source[2])
    return max(1, int(MAX_SLAB_VALUES // (n_plane * n_per_voxel)))


def _parts(
    slab: Float32[Tensor, "channel n j k"], first: int, voxels: slice, taps: Taps, n_at_once: int
) -> Iterator[tuple[slice, Tensor, Taps]]:
    for start in range(voxels.start, voxels.stop, n_at_once):
        part = slice(start, min(start + n_at_once, voxels.stop))
        low, high = int(taps.lower[part.start]), int(taps.upper[part.stop - 1]) + 1
        yield part, slab[:, low - first : high - first], taps.part(part, low)


@dataclass(frozen=True)
class _Slab:
    """Planes of the box, channels last, and the voxels of the source grid to make of them."""

    near: Float32[Tensor, "n j k channel"]
    taps_i: Taps
    taps_j: Taps
    taps_k: Taps
    box: Box

    def within(self, j: slice, k: slice) -> tuple[slice, slice, Float32[Tensor, "n j k channel"]]:
        """Where on the source grid, and which channels, the part j, k of the box leads to."""
        first_j, first_k = self.box[1].start + j.start, self.box[2].start + k.start
        to_j = self.taps_j.between(first_j, self.box[1].start + j.stop)
        to_k = self.taps_k.between(first_k, self.box[2].start + k.stop)
        taps = (self.taps_i, self.taps_j.part(to_j, first_j), self.taps_k.part(to_k, first_k))
        return to_j, to_k, interpolate_planes(self.near[:, j, k], taps)


def _paint(labels: UInt[np.ndarray, "n j k"], slab: _Slab, decoding: Decoding) -> None:
    """Write the labels of some planes of the source grid."""
    n_near, n_j, n_k, n_channels = slab.near.shape
    j, k = slice(0, n_j), slice(0, n_k)
    if labels.size >= _MIN_GROWTH * n_near * n_j * n_k:
        coarse = labels_of(slab.near.reshape(-1, n_channels), decoding)
        is_foreground = (coarse != 0).reshape(n_near, n_j, n_k).any(dim=0)
        if not is_foreground.any():
            return
        j, k = _grown(is_foreground.any(dim=1)), _grown(is_foreground.any(dim=0))
    to_j, to_k, values = slab.within(j, k)
    if values.numel():
        found = labels_of(values.reshape(-1, n_channels), decoding).reshape(values.shape[:3])
        labels[:, to_j, to_k] = found.cpu().numpy()


def _grown(is_foreground: Tensor) -> slice:
    """From the first to the last, and one more on either side: cells reach that far."""
    places = torch.nonzero(is_foreground)
    return slice(max(0, int(places[0]) - 1), min(len(is_foreground), int(places[-1]) + 2))


def _probabilities(
    slab: _Slab, decoding: Decoding, grid: Grid
) -> Float16[np.ndarray, "output n j k"]:
    n_planes, (_, n_j, n_k, n_channels) = len(slab.taps_i.lower), slab.near.shape
    result = _background(n_planes, decoding, grid)
    to_j, to_k, values = slab.within(slice(0, n_j), slice(0, n_k))
    if values.numel():
        found = probabilities_of(values.reshape(-1, n_channels), decoding)
        result[:, :, to_j, to_k] = found.reshape(-1, *values.shape[:3]).cpu().numpy()
    return result


def _background(
    n_planes: int, decoding: Decoding, grid: Grid
) -> Float16[np.ndarray, "output n j k"]:
    planes = np.zeros((decoding.n_outputs, n_planes, *grid.source[1:]), dtype=np.float16)
    if not decoding.paints:
        planes[0] = 1
    return planes


def _send_background(
    sink: ProbabilitySink, decoding: Decoding, grid: Grid, first: int, stop: int
) -> None:
    for plane in range(first, stop):
        sink(plane, _background(1, decoding, grid))
