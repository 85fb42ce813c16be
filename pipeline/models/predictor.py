"""One or several networks as one function from windows to numbers that may be blended."""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from pipeline.artifacts import Plan, Task
from pipeline.core.errors import ConfigError
from pipeline.core.sides import is_lateralized
from pipeline.models.decode import Decoding, decoding_of, labels_of
from pipeline.models.head import split_head
from pipeline.models.openvino import compile_network
from pipeline.models.window import WindowSettings

logger = logging.getLogger(__name__)

Mirror = Literal["auto", "off"] | tuple[int, ...]
Average = Literal["probabilities", "logits"]
Backend = Literal["torch", "openvino"]
Precision = Literal["auto", "float32"]

# torch takes its fast CPU convolution for small volumes only from two windows on
# (reference/performance.md 4c: 1.9 times faster for a whole small network).
_MIN_CPU_BATCH = 2
# Largest window plane (i times j, voxels) for which that holds: torch switches at channels x i x j
# above 20480, with the 8 channels of our smallest network (benchmarks/window.py).
_MAX_SLOW_PLANE = 2560
# Mirrored answers are compared at every second voxel along each axis: exact enough, 8 times less.
_TALLY_STEP = 2
# Probabilities below this count as this when models are averaged: float32 holds none much smaller
# beside 1.
_LEAST = 1e-7
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class PredictionOptions:
    """What may be chosen when a model is used; nothing of it is part of the model.

    Args:
        overlap: Share of a window that the next one covers again at least, in [0, 1).
        window_batch: Windows per forward pass; None takes the training batch.
        mirror: Axes of i j k along which windows are also predicted mirrored. "auto" takes those
            of the training on a GPU and none on a CPU.
        average: Where the answers of several models meet.
        backend: What computes on a CPU.
        crop: "auto" visits the box of the patient only, where air is known.
        precision: What a GPU computes in; "auto" is float16, as far as its numbers reach.
    """

    overlap: float = 0.5
    window_batch: int | None = None
    mirror: Mirror = "auto"
    average: Average = "probabilities"
    backend: Backend = "torch"
    crop: Literal["auto", "off"] = "auto"
    precision: Precision = "auto"


DEFAULT_OPTIONS = PredictionOptions()


class FlipTally:
    """Counts, over all windows of a case, how far mirrored answers agree."""

    def __init__(self) -> None:
        self.n_same = 0
        self.n_either = 0

    def add(
        self,
        plain: Float32[Tensor, "batch channel i j k"],
        mirrored: Float32[Tensor, "batch channel i j k"],
        decoding: Decoding,
    ) -> None:
        """Count foreground voxels, and those with the same class.

        Args:
            plain: Mean of the answers that were not mirrored along the first axis.
            mirrored: Mean of those that were, mirrored back.
            decoding: What the channels mean.
        """
        one, other = (_thinned_labels(half, decoding) for half in (plain, mirrored))
        self.n_same += int(((one == other) & (one != 0)).sum())
        self.n_either += int((one != 0).sum() + (other != 0).sum())

    @property
    def disagreement(self) -> float | None:
        """1 minus the Dice between both answers, all classes together; None without foreground."""
        return 1 - 2 * self.n_same / self.n_either if self.n_either else None


def _thinned_labels(channels: Float32[Tensor, "batch channel i j k"], decoding: Decoding) -> Tensor:
    thin = channels[:, :, ::_TALLY_STEP, ::_TALLY_STEP, ::_TALLY_STEP]
    return labels_of(thin.movedim(1, -1).reshape(-1, channels.shape[1]), decoding)


@dataclass(frozen=True)
class Predictor:
    """Networks ready to be swept over volumes.

    Args:
        networks: Each maps windows (batch, channel, i, j, k) to channels (batch, channel, i, j, k).
        plan: What they share: preprocessing and window.
        task: Classes.
        options: How to predict.
        decoding: What the channels mean.
        mirror_axes: Axes (0, 1, 2) along which windows are also predicted mirrored.
        device: Where the networks are.
    """

    networks: tuple[Callable[[Tensor], Tensor], ...]
    plan: Plan
    task: Task
    options: PredictionOptions
    decoding: Decoding
    mirror_axes: tuple[int, ...]
    device: torch.device

    @property
    def windows(self) -> WindowSettings:
        """How a volume is visited."""
        return WindowSettings(
            window=self.plan.patch_size,
            n_outputs=self.decoding.n_channels,
            overlap=self.options.overlap,
            batch_size=self.options.window_batch or max(_MIN_CPU_BATCH, self.plan.batch_size),
        )

    def __call__(
        self, windows: Float[Tensor, "batch channel i j k"], tally: FlipTally | None = None
    ) -> Float32[Tensor, "batch output i j k"]:
        """Predict windows, averaged over mirrored copies and networks.

        Args:
            windows: Parts of a prepared image, shape (batch, channel, i, j, k), on any device.
            tally: Counts how far mirrored answers agree.

        Returns:
            Channels that `decoding` turns into logits, float32, on the device of the networks.
        """
        windows = windows.to(self.device)
        with torch.inference_mode():
            first, *others = self.networks
            if not others:
                return self._mirrored(first, windows, tally)
            mean = self._averaged_as(self._mirrored(first, windows, tally))
            for network in others:
                mean = mean + self._averaged_as(self._mirrored(network, windows, tally))
            return self._as_logits(mean / len(self.networks))

    def _averaged_as(self, logits: Float32[Tensor, "batch output i j k"]) -> Tensor:
        if self.options.average == "logits":
            return logits
        return torch.sigmoid(logits) if self.decoding.paints else torch.softmax(logits, dim=1)

    def _as_logits(self, mean: Float32[Tensor, "batch output i j k"]) -> Tensor:
        """Numbers that a softmax or a sigmoid turns into the mean of probabilities."""
        if self.options.average == "logits":
            return mean
        return torch.logit(mean, _LEAST) if self.decoding.paints else mean.clamp(min=_LEAST).log()

    def on(self, device: torch.device) -> "Predictor":
        """The same, with its networks moved to another device."""
        for network in self.networks:
            if isinstance(network, nn.Module):
                network.to(device)
        return replace(self, decoding=self.decoding.on(device), device=device)

    def _mirrored(
        self,
        network: Callable[[Tensor], Tensor],
        windows: Float[Tensor, "batch channel i j k"],
        tally: FlipTally | None,
    ) -> Float32[Tensor, "batch output i j k"]:
        """Mean of one network's answers to a window and its mirror images."""
        if not self.mirror_axes:
            return self._run(network, windows)
        # The first axis is mirrored in the second half.
        subsets = list(itertools.product(*((False, True) for _ in self.mirror_axes)))
        flips = [tuple(itertools.compress(self.mirror_axes, chosen)) for chosen in subsets]
        n_at_once = max(1, self.windows.batch_size // len(windows))
        halves: list[Tensor] = []
        for first in range(0, len(flips), n_at_once):
            group = flips[first : first + n_at_once]
            answers = self._run(network, torch.cat([_flipped(windows, axes) for axes in group]))
            for n, answer in enumerate(torch.split(answers, len(windows)), start=first):
                half = 2 * n // len(flips)
                back = _flipped(answer, flips[n])
                halves[half:] = [halves[half] + back if half < len(halves) else back]
        if tally is not None:
            n_per_half = len(flips) / 2
            tally.add(halves[0] / n_per_half, halves[1] / n_per_half, self.decoding)
        return (halves[0] + halves[1]) / len(flips)

    def _run(
        self, network: Callable[[Tensor], Tensor], windows: Float[Tensor, "batch channel i j k"]
    ) -> Float32[Tensor, "batch output i j k"]:
        n_windows = len(windows)
        is_half = self.device.type == "cuda" and self.options.precision == "auto"
        if n_windows < self._least_batch:
            # A lone window goes in twice; what the copy gives is dropped.
            windows = torch.cat([windows] * self._least_batch)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=is_half):
            outputs = network(windows)
        if is_half and not bool(torch.isfinite(outputs).all()):
            # float16 ends at 65504; a network trained in bfloat16 may go beyond.
            outputs = network(windows)
        return outputs[:n_windows].float()

    @property
    def _least_batch(self) -> int:
        """2 where torch on a CPU takes longer over one window than over two of the same."""
        is_small = self.plan.patch_size[0] * self.plan.patch_size[1] <= _MAX_SLOW_PLANE
        is_torch_on_cpu = self.device.type == "cpu" and self.options.backend == "torch"
        return _MIN_CPU_BATCH if is_torch_on_cpu and is_small else 1


def make_predictor(
    networks: Sequence[nn.Module],
    plan: Plan,
    task: Task,
    options: PredictionOptions = DEFAULT_OPTIONS,
    device: torch.device = _CPU,
) -> Predictor:
    """Make networks of one plan ready for use.

    Args:
        networks: One or more, in evaluation mode, on the device.
        plan: Plan they share.
        task: Classes.
        options: How to predict.
        device: Where the networks are.

    Returns:
        The predictor.

    Raises:
        ConfigError: If left and right shall be mirrored although a class names a side.
        UsageError: If the OpenVINO backend is not installed, or a GPU is to run it.
    """
    if device.type == "cuda" and options.precision == "float32":
        # By default convolutions on a GPU drop half of the digits. For good: a second predictor
        # must not change what this one computes.
        torch.backends.cudnn.allow_tf32 = False
    bodies, head = tuple(networks), None
    if len(bodies) == 1:
        body, head = split_head(bodies[0])
        bodies = (body,)
    predictor = Predictor(
        networks=bodies,
        plan=plan,
        task=task,
        options=options,
        decoding=decoding_of(task, head).on(device),
        mirror_axes=mirror_axes_for(options.mirror, plan, task, device),
        device=device,
    )
    if options.backend == "torch":
        return predictor
    shape = (predictor.windows.batch_size, plan.network.n_input_channels, *plan.patch_size)
    return replace(predictor, networks=tuple(compile_network(b, shape, device) for b in bodies))


def mirror_axes_for(
    mirror: Mirror, plan: Plan, task: Task, device: torch.device
) -> tuple[int, ...]:
    """Axes to mirror along; left-right never where a class names a side of the body.

    Args:
        mirror: As chosen.
        plan: Axes mirrored in training.
        task: Classes.
        device: "auto" mirrors on a GPU only.

    Returns:
        Axes out of 0, 1, 2.

    Raises:
        ConfigError: If axis 0 was asked for and a class names a side, or an axis does not exist.
    """
    if mirror == "off" or (mirror == "auto" and device.type == "cpu"):
        return ()
    axes = plan.mirror_axes if mirror == "auto" else mirror
    if any(axis not in (0, 1, 2) for axis in axes) or len(set(axes)) < len(axes):
        raise ConfigError(f"mirror axes {axes}: give each of 0, 1, 2 at most once")
    sided = [name for name in task.class_names if is_lateralized(name)]
    if 0 not in axes or not sided:
        return axes
    if mirror != "auto":
        raise ConfigError(
            f"axis 0 is left-right and cannot be mirrored: '{sided[0]}' names a side of the body",
            fix="leave axis 0 out",
        )
    logger.info("left-right is not mirrored: '%s' names a side of the body", sided[0])
    return tuple(axis for axis in axes if axis != 0)


def _flipped(
    windows: Float[Tensor, "batch channel i j k"], axes: tuple[int, ...]
) -> Float[Tensor, "batch channel i j k"]:
    return windows.flip([axis + 2 for axis in axes]) if axes else windows
