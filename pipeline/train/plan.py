"""Plan a training from the fingerprint of its training fold. Every choice comes with its reason.

The rules for spacing, normalization and network depth are those published for nnU-Net (Isensee et
al. 2021, and its documentation); sizes follow the device at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import (
    QUANTILE_LEVELS,
    CaseFingerprint,
    Normalization,
    Plan,
    Preprocessing,
    Task,
)
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.geometry import Shape3, Spacing
from pipeline.core.sides import is_lateralized
from pipeline.train.config import TrainConfig
from pipeline.train.plan_network import Topology, plan_network

ANISOTROPY_RATIO = 3.0
MIN_BOTTLENECK_VOXELS = 4
# A patch is planned per device: what a 2-core CPU trains on in 0.1-0.2 s, what an 8 GB GPU holds.
PATCH_VOXELS = {"cpu": 96_000, "cuda": 128**3}
MAX_LEVELS = {"cpu": 4, "cuda": 6}
# MONAI's DynUNet refuses fewer.
MIN_LEVELS = 3
MAX_BATCH = {"cpu": 2, "cuda": 16}
# nnU-Net's cap: one batch shows at most 5 % of the voxels of the training set.
MAX_DATA_FRACTION = 0.05
# MONAI's CPU convolutions fall back to a several times slower kernel at batch 1.
MIN_BATCH = 2


@dataclass(frozen=True)
class Budget:
    """How large a step may be; pipeline/train/fit.py finds out what memory allows.

    Args:
        device: "cpu" or "cuda".
        patch_voxels: Most voxels of a patch.
        batch_voxels: Most voxels of a batch.
        max_batch: Most patches of a batch.
    """

    device: str
    patch_voxels: int
    batch_voxels: int
    max_batch: int


def usual_budget(device: str) -> Budget:
    """What trains at a good speed, whatever the memory.

    Args:
        device: "cpu" or "cuda".
    """
    return Budget(device, PATCH_VOXELS[device], 2 * PATCH_VOXELS[device], MAX_BATCH[device])


def make_plan(
    rows: Sequence[CaseFingerprint],
    task: Task,
    config: TrainConfig,
    device: str,
    budget: Budget | None = None,
) -> Plan:
    """Choose spacing, normalization, patch, batch, network and learning rate.

    Args:
        rows: Fingerprints of the training fold only; validation cases must not leak in.
        task: Channels and classes.
        config: What the user fixed.
        device: "cpu" or "cuda".
        budget: How large a step may be; None takes the usual size.

    Returns:
        The plan, with one line of reason per choice.
    """
    reasons: list[str] = []
    budget = budget or usual_budget(device)
    spacing_mm = config.spacing_mm or _target_spacing(rows, reasons)
    reasons.append(_anisotropy(spacing_mm))
    normalizations = _normalizations(rows, task, reasons)
    shapes = np.array([np.round(np.array(r.shape) * r.spacing_mm / spacing_mm) for r in rows])
    median_shape = np.maximum(np.median(shapes, axis=0), 1)
    patch, topology = _patch_and_topology(spacing_mm, median_shape, config, budget, reasons)
    n_data_voxels = float(shapes.prod(axis=1).sum())
    batch_size = _batch_size(patch, n_data_voxels, config, budget, reasons)
    network = plan_network(config, task, topology, patch, device, reasons)
    return Plan(
        preprocessing=Preprocessing(spacing_mm=spacing_mm, normalizations=normalizations),
        network=network,
        patch_size=patch,
        batch_size=batch_size,
        mirror_axes=_mirror_axes(task, config, device, reasons),
        learning_rate=_learning_rate(config, device, reasons),
        class_weights=_class_weights(task, config, reasons),
        n_train_cases=len(rows),
        median_shape=_shape3(median_shape),
        device="cuda" if device == "cuda" else "cpu",
        reasons=tuple(reasons),
    )


def _shape3(values: Float[np.ndarray, "3"]) -> Shape3:
    i, j, k = (round(float(v)) for v in values)
    return i, j, k


def _target_spacing(rows: Sequence[CaseFingerprint], reasons: list[str]) -> Spacing:
    """Median spacing; an axis far coarser than the others takes its 10th percentile instead."""
    spacings = np.array([r.spacing_mm for r in rows])
    extents = np.array([r.shape for r in rows])
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    median_shape = np.median(extents * spacings / target, axis=0)
    is_anisotropic = (
        target[coarse] > ANISOTROPY_RATIO * target[others].max()
        and median_shape[coarse] * ANISOTROPY_RATIO < median_shape[others].min()
    )
    how = "median of the training cases"
    if is_anisotropic:
        tenth = float(np.percentile(spacings[:, coarse], 10))
        target[coarse] = max(tenth, float(target[others].max()))
        how += "; 10th percentile along the coarse axis"
    # Rounded to 0.1 um: the header's float32 noise shall not show.
    i, j, k = (round(float(v), 4) for v in target)
    reasons.append(f"spacing {i:g} x {j:g} x {k:g} mm: {how}")
    return i, j, k


def _anisotropy(spacing_mm: Spacing) -> str:
    ratio = max(spacing_mm) / min(spacing_mm)
    if ratio < 2:
        return f"anisotropy {ratio:.1f}: kernels and pooling are the same along all axes"
    coarse = "RAS"[int(np.argmax(spacing_mm))]
    return (
        f"anisotropy {ratio:.1f}, coarsest along {coarse}: kernels of 1 and no pooling along an "
        "axis until the finer ones have caught up"
    )


def _normalizations(
    rows: Sequence[CaseFingerprint], task: Task, reasons: list[str]
) -> tuple[Normalization, ...]:
    is_masked = float(np.median([r.nonzero_fraction for r in rows])) < 0.75
    chosen = []
    for index, channel in enumerate(task.channels):
        if channel.modality == "ct":
            chosen.append(_ct_normalization(rows, index))
            how = (
                f"clip to {chosen[-1].lower:.0f}..{chosen[-1].upper:.0f} "
                "(0.5 and 99.5 % of the foreground), then foreground mean and SD"
            )
        elif is_masked:
            chosen.append(Normalization(kind="zscore_nonzero"))
            how = "z-score over nonzero voxels: more than a quarter of the volume is 0"
        else:
            chosen.append(Normalization(kind="zscore"))
            how = "z-score per image"
        reasons.append(f"channel {channel.name} ({channel.modality}): {how}")
    return tuple(chosen)


def _ct_normalization(rows: Sequence[CaseFingerprint], channel: int) -> Normalization:
    """Pool the cases' foregrounds, each case with equal weight as nnU-Net samples them."""
    quantiles = np.array([r.foreground[channel].quantiles for r in rows])
    means = np.array([r.foreground[channel].mean for r in rows])
    stds = np.array([r.foreground[channel].std for r in rows])
    lower, upper = (_pooled_quantile(quantiles, level) for level in (0.005, 0.995))
    mean = float(means.mean())
    std = float(np.sqrt((stds**2 + (means - mean) ** 2).mean()))
    return Normalization(kind="ct", lower=lower, upper=upper, mean=mean, std=max(std, 1e-6))


def _pooled_quantile(quantiles: Float[np.ndarray, "case level"], level: float) -> float:
    """Quantile of the mixture of all cases: where the mean of their distributions crosses."""
    low, high = float(quantiles.min()), float(quantiles.max())
    for _ in range(60):
        middle = (low + high) / 2
        share = np.mean([np.interp(middle, row, QUANTILE_LEVELS) for row in quantiles])
        low, high = (middle, high) if share < level else (low, middle)
    return (low + high) / 2


def _patch_and_topology(
    spacing_mm: Spacing,
    median_shape: Float[np.ndarray, "3"],
    config: TrainConfig,
    budget: Budget,
    reasons: list[str],
) -> tuple[Shape3, Topology]:
    device = budget.device
    if config.patch_size is not None:
        wanted = np.array(config.patch_size, dtype=float)
        topology = _topology(spacing_mm, wanted, device).of_kind(config.network.kind)
        patch = _divisible(wanted, topology.divisor)
        reasons.append(f"patch {patch}: as configured")
        return patch, topology
    wanted = _largest_patch(spacing_mm, median_shape, budget.patch_voxels)
    topology = _topology(spacing_mm, wanted, device).of_kind(config.network.kind)
    patch = _divisible(wanted, topology.divisor)
    whole = " (a whole typical case)" if np.all(np.array(patch) >= median_shape - 1) else ""
    reasons.append(
        f"patch {patch[0]} x {patch[1]} x {patch[2]} voxels{whole}: about "
        f"{budget.patch_voxels:,} voxels on this {device}, cut to the median case, "
        f"divisible by {topology.divisor}"
    )
    return patch, topology


def _largest_patch(
    spacing_mm: Spacing, median_shape: Float[np.ndarray, "3"], max_voxels: int
) -> Float[np.ndarray, "3"]:
    """As isotropic in mm as the cases allow, within the voxel budget."""
    limit = median_shape.astype(float)
    side_mm = float(min(spacing_mm))
    patch = np.minimum(side_mm / np.array(spacing_mm), limit)
    while True:
        side_mm *= 1.02
        larger = np.minimum(side_mm / np.array(spacing_mm), limit)
        if larger.prod() > max_voxels or np.array_equal(larger, limit):
            return larger if larger.prod() <= max_voxels else patch
        patch = larger


def _divisible(patch: Float[np.ndarray, "3"], divisor: Shape3) -> Shape3:
    i, j, k = (int(np.ceil(p / d - 1e-6)) * d for p, d in zip(patch, divisor, strict=True))
    # Instance normalization cannot work with a single voxel at the lowest level.
    return (i, j, 2 * k) if (i, j, k) == divisor else (i, j, k)


def _topology(spacing_mm: Spacing, patch: Float[np.ndarray, "3"], device: str) -> Topology:
    """Pool each axis while its spacing keeps pace with the finest and enough voxels are left."""
    spacing, size = np.array(spacing_mm, dtype=float), patch.copy()
    kernels: list[Shape3] = [_kernel(spacing)]
    strides: list[Shape3] = [(1, 1, 1)]
    while len(strides) < MAX_LEVELS[device]:
        large_enough = size >= 2 * MIN_BOTTLENECK_VOXELS
        if not large_enough.any() and len(strides) < MIN_LEVELS:
            large_enough = size >= MIN_BOTTLENECK_VOXELS
        if not large_enough.any():
            if len(strides) >= MIN_LEVELS:
                break
            strides.append((1, 1, 1))
            kernels.append(_kernel(spacing))
            continue
        keeps_pace = spacing < 2 * spacing[large_enough].min()
        stride = np.where(large_enough & keeps_pace, 2, 1)
        spacing, size = spacing * stride, size / stride
        strides.append(_shape3(stride.astype(float)))
        kernels.append(_kernel(spacing))
    return Topology(tuple(kernels), tuple(strides))


def _kernel(spacing: Float[np.ndarray, "3"]) -> Shape3:
    """Size 3, or 1 along an axis still twice as coarse as the finest."""
    return _shape3(np.where(spacing < 2 * spacing.min(), 3.0, 1.0))


def _batch_size(
    patch: Shape3,
    n_data_voxels: float,
    config: TrainConfig,
    budget: Budget,
    reasons: list[str],
) -> int:
    device = budget.device
    if config.batch_size is not None:
        if device == "cpu" and config.batch_size < MIN_BATCH:
            reasons.append(
                "batch 2 instead of the configured 1: on a CPU batch 1 takes a slower kernel"
            )
            return MIN_BATCH
        reasons.append(f"batch {config.batch_size}: as configured")
        return config.batch_size
    n_patch_voxels = float(np.prod(patch))
    by_budget = min(int(budget.batch_voxels / n_patch_voxels), budget.max_batch)
    by_data = int(MAX_DATA_FRACTION * n_data_voxels / n_patch_voxels)
    batch_size = max(MIN_BATCH, min(by_budget, by_data))
    reasons.append(
        f"batch {batch_size}: a step of {budget.batch_voxels:,} voxels would allow {by_budget}, "
        f"5 % of the data {by_data}; never below {MIN_BATCH}"
    )
    return batch_size


def _mirror_axes(
    task: Task, config: TrainConfig, device: str, reasons: list[str]
) -> tuple[int, ...]:
    if config.mirror_axes is not None:
        reasons.append(f"mirroring along axes {config.mirror_axes}: as configured")
        return config.mirror_axes
    lateral = [name for name in task.class_names if is_lateralized(name)]
    if lateral:
        reasons.append(f"no mirroring: '{lateral[0]}' names a side of the body")
        return ()
    if device == "cpu":
        # Measured on Hippocampus: .886 without, .880 with after 1800 steps (docs/decisions/0006).
        reasons.append("no mirroring: it costs accuracy in the few steps a CPU can do")
        return ()
    reasons.append("mirroring left-right: no class names a side of the body")
    return (0,)


def _class_weights(task: Task, config: TrainConfig, reasons: list[str]) -> tuple[float, ...] | None:
    """Factors in the loss per voxel, background first; classes that are not named keep 1."""
    named = config.loss.class_weights
    if not named:
        return None
    names = ("background", *task.class_names)
    for name in named:
        if name not in names:
            raise ConfigError(
                f"there is no class '{name}'",
                where="train.loss.class_weights",
                fix=did_you_mean(name, names),
            )
    weights = tuple(float(named.get(name, 1.0)) for name in names)
    shown = ", ".join(f"{n} {w:g}" for n, w in zip(names, weights, strict=True))
    reasons.append(f"weights in the loss per voxel: {shown}, as configured")
    return weights


def _learning_rate(config: TrainConfig, device: str, reasons: list[str]) -> float:
    if config.optimizer.learning_rate is not None:
        return config.optimizer.learning_rate
    # Small networks bear, and short budgets need, larger steps.
    adamw_rate = 3e-3 if device == "cpu" else 1e-3
    rate = 1e-2 if config.optimizer.kind == "sgd" else adamw_rate
    reasons.append(f"learning rate {rate:g}: usual for {config.optimizer.kind} on such a network")
    return rate
