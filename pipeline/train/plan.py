"""Plan a training from the fingerprint of its training fold. Every choice comes with its reason.

The rules for spacing, normalization and network depth are those published for nnU-Net (Isensee et
al. 2021, and its documentation); sizes follow the device at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pipeline.artifacts import CaseFingerprint, Plan, Preprocessing, Task
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.geometry import Shape3, Spacing
from pipeline.core.sides import is_lateralized
from pipeline.train import schedule
from pipeline.train.config import TrainConfig
from pipeline.train.plan_network import Topology, plan_network
from pipeline.train.plan_preprocessing import plan_normalizations, plan_spacing
from pipeline.train.plan_width import StepSize
from pipeline.transforms.pose import slice_axis_of

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
# nnU-Net adds a stage of low resolution where a patch shows less of the median case than this, if
# that stage then has at most half the voxels.
MIN_VIEW_FRACTION, MIN_COARSENING = 0.25, 2.0


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
    spacing_mm = plan_spacing(rows, config, reasons)
    normalizations = plan_normalizations(rows, task, config, reasons)
    shapes = np.array([np.round(np.array(r.shape) * r.spacing_mm / spacing_mm) for r in rows])
    median_shape = np.maximum(np.median(shapes, axis=0), 1)
    patch, topology = _patch_and_topology(spacing_mm, median_shape, config, budget, reasons)
    n_data_voxels = float(shapes.prod(axis=1).sum())
    batch_size = _batch_size(patch, n_data_voxels, config, budget, reasons)
    size = StepSize(len(rows), batch_size, patch)
    network = plan_network(config, task, topology, size, device, reasons)
    reasons += [*_augmentation(patch, config), _length(len(rows), batch_size, config)]
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


def _patch_and_topology(
    spacing_mm: Spacing,
    median_shape: Float[np.ndarray, "3"],
    config: TrainConfig,
    budget: Budget,
    reasons: list[str],
) -> tuple[Shape3, Topology]:
    device, max_levels = budget.device, config.network.n_levels or MAX_LEVELS[budget.device]
    if config.patch_size is not None:
        wanted = np.array(config.patch_size, dtype=float)
    else:
        wanted = _largest_patch(spacing_mm, median_shape, budget.patch_voxels)
    topology = _topology(spacing_mm, wanted, max_levels).of_kind(config.network.kind)
    patch = _divisible(wanted, topology.divisor)
    if config.patch_size is not None and config.network.kind == "monai":
        # What such a network takes, its user knows; the check of the network finds out.
        patch = config.patch_size
    shown = " x ".join(map(str, patch))
    reasons.append(_anisotropy(spacing_mm, patch, config.network.kind))
    if patch == config.patch_size:
        reasons.append(f"patch {shown} voxels: as configured")
    elif config.patch_size is not None:
        configured = " x ".join(map(str, config.patch_size))
        reasons.append(
            f"patch {shown} voxels: {configured} as configured, made divisible by "
            f"{topology.divisor}"
        )
    else:
        whole = " (a whole typical case)" if np.all(np.array(patch) >= median_shape - 1) else ""
        reasons.append(
            f"patch {shown} voxels{whole}: about {budget.patch_voxels:,} voxels on this {device}, "
            f"cut to the median case, divisible by {topology.divisor}"
        )
    reasons += _small_view(patch, spacing_mm, median_shape)
    reasons += _fewer_levels(topology, config)
    return patch, topology


def _anisotropy(spacing_mm: Spacing, patch: Shape3, kind: str) -> str:
    # The thickness of a single slice says nothing about neighbors.
    axes = [axis for axis in range(3) if patch[axis] > 1] or [0, 1, 2]
    flat = ", ".join("RAS"[axis] for axis in range(3) if axis not in axes)
    has_flat_kernels = bool(flat) and kind == "dynunet"
    flat = f"; single slices along {flat}: no kernels across them" if has_flat_kernels else ""
    edges_mm = [spacing_mm[axis] for axis in axes]
    ratio = max(edges_mm) / min(edges_mm)
    if ratio < 2:
        return f"anisotropy {ratio:.1f}: kernels and pooling are the same along all axes{flat}"
    coarse = "RAS"[axes[int(np.argmax(edges_mm))]]
    if kind not in {"dynunet", "unet"}:
        return (
            f"anisotropy {ratio:.1f}, coarsest along {coarse}: networks of kind {kind} are the "
            "same along all axes; dynunet and unet follow the spacing"
        )
    what = "kernels of 1 and no pooling" if kind == "dynunet" else "no pooling"
    return (
        f"anisotropy {ratio:.1f}, coarsest along {coarse}: {what} along an axis until the finer "
        f"ones have caught up{flat}"
    )


def _small_view(
    patch: Shape3, spacing_mm: Spacing, median_shape: Float[np.ndarray, "3"]
) -> list[str]:
    """Say where a patch shows so little that large structures have no context."""
    extent_mm = median_shape * spacing_mm
    share = float(np.prod(np.minimum(patch, median_shape)) / np.prod(median_shape))
    edge_mm = min(spacing_mm)
    coarser = np.array(spacing_mm)
    while np.prod(np.minimum(patch, extent_mm / coarser) * coarser) < (
        MIN_VIEW_FRACTION * np.prod(extent_mm)
    ):
        edge_mm *= 1.03
        coarser = np.maximum(spacing_mm, edge_mm)
    if np.prod(coarser) < MIN_COARSENING * np.prod(spacing_mm):
        return []
    shown = ", ".join(f"{value:.2g}" for value in coarser)
    return [
        f"a patch shows {100 * share:.2g} % of a typical case: enough for small structures; for "
        f"large ones try a coarser train.spacing_mm, up to [{shown}], where it shows 25 % (below "
        "that nnU-Net adds a stage of low resolution)"
    ]


def _fewer_levels(topology: Topology, config: TrainConfig) -> list[str]:
    configured, n_levels = config.network.n_levels, len(topology.strides)
    if configured is None or configured == n_levels:
        return []
    return [
        f"{n_levels} levels instead of the configured {configured}: an axis is only halved while "
        f"{2 * MIN_BOTTLENECK_VOXELS} voxels of the patch are left"
    ]


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


def _topology(spacing_mm: Spacing, patch: Float[np.ndarray, "3"], max_levels: int) -> Topology:
    """Pool each axis while its spacing keeps pace with the finest and enough voxels are left."""
    spacing, size = np.array(spacing_mm, dtype=float), patch.copy()
    is_thick = np.ceil(patch - 1e-6) > 1
    # As in nnU-Net an axis keeps its kernel: it may fall behind again when it is too short to pool.
    is_convolved = _keeps_pace(spacing, is_thick)
    kernels: list[Shape3] = [_kernel(is_convolved)]
    strides: list[Shape3] = [(1, 1, 1)]
    while len(strides) < max_levels:
        large_enough = size >= 2 * MIN_BOTTLENECK_VOXELS
        if not large_enough.any() and len(strides) < MIN_LEVELS:
            large_enough = size >= MIN_BOTTLENECK_VOXELS
        if not large_enough.any() and len(strides) >= MIN_LEVELS:
            break
        is_pooled = large_enough & _keeps_pace(spacing, large_enough)
        stride = np.where(is_pooled, 2, 1)
        spacing, size = spacing * stride, size / stride
        # What is pooled is convolved, even if a short axis stays finer for good.
        is_convolved |= is_pooled | _keeps_pace(spacing, is_thick)
        strides.append(_shape3(stride.astype(float)))
        kernels.append(_kernel(is_convolved))
    return Topology(tuple(kernels), tuple(strides))


def _keeps_pace(
    spacing: Float[np.ndarray, "3"], counted: Bool[np.ndarray, "3"]
) -> Bool[np.ndarray, "3"]:
    """Axes among those counted that are less than twice as coarse as the finest of them."""
    if not counted.any():
        return counted
    return counted & (spacing < 2 * spacing[counted].min())


def _kernel(is_convolved: Bool[np.ndarray, "3"]) -> Shape3:
    return _shape3(np.where(is_convolved, 3.0, 1.0))


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


def _augmentation(patch: Shape3, config: TrainConfig) -> list[str]:
    axis, configured = slice_axis_of(patch, config.augmentation), config.augmentation.within_slices
    if configured is not None:
        how = f"only within slices across {'RAS'[axis]}" if axis is not None else "along all axes"
        return [f"augmentation {how}: as configured"]
    if axis is None:
        return []
    return [
        f"augmentation only within slices across {'RAS'[axis]}: the patch has few of them, and "
        "turned out of them it would mostly show what lies outside (as nnU-Net's)"
    ]


def _length(n_cases: int, batch_size: int, config: TrainConfig) -> str:
    """How long training lasts, and how the learning rate falls meanwhile."""
    optimizer = config.optimizer
    n_steps = schedule.fixed_steps(config, schedule.epoch_steps(n_cases, batch_size))
    if config.steps is not None:
        length = f"{n_steps} steps, as configured"
    elif n_steps is not None:
        length = f"{n_steps} steps, the configured {config.epochs:g} passes over {n_cases} cases"
    elif config.budget_minutes is not None:
        length = f"as many steps as fit the configured {config.budget_minutes:g} minutes"
    else:
        length = (
            f"as many steps as fit {schedule.DEFAULT_BUDGET_MINUTES:g} minutes, as nothing is "
            "configured (train.budget_minutes, epochs or steps)"
        )
    return (
        f"length: {length}; {optimizer.schedule} schedule, {optimizer.warmup_fraction:.0%} "
        "warm-up, learning rate zero at the end"
    )


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
        reasons.append(f"learning rate {config.optimizer.learning_rate:g}: as configured")
        return config.optimizer.learning_rate
    # Small networks bear, and short budgets need, larger steps.
    adamw_rate = 3e-3 if device == "cpu" else 1e-3
    rate = 1e-2 if config.optimizer.kind == "sgd" else adamw_rate
    reasons.append(f"learning rate {rate:g}: usual for {config.optimizer.kind} on such a network")
    return rate
