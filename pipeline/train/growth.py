"""Patches that grow in the course of a training: in size (PGPS), or in resolution."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from pipeline.artifacts import GrowthStage, Plan
from pipeline.core.errors import ConfigError
from pipeline.core.geometry import Shape3
from pipeline.train.config import TrainConfig

# Voxels left per axis at the network's bottom in the smallest patch; normalization needs several.
MIN_BOTTLENECK_VOXELS = 2
# Coarsest zoom of progressive resizing: what bilinear reading shows without aliasing much.
MIN_ZOOM = 0.5
# Patches of the planned size are what validation and inference see: half of all steps at least.
LAST_SHARE = 0.5
# SwinUNETR halves five times whatever its plan says.
_SWINUNETR_DIVISOR = 32


@dataclass(frozen=True)
class _Size:
    patch_size: Shape3
    zoom: float = 1.0


def with_growth(plan: Plan, config: TrainConfig) -> Plan:
    """Add the stages of growth to a plan whose patch and network are settled.

    Args:
        plan: The plan; stages it has are replaced.
        config: How patches grow, in how many stages.

    Returns:
        The plan with its stages and a reason; as it was where patches do not grow.

    Raises:
        ConfigError: If the network is one whose accepted sizes are not known.
    """
    if config.growth == "off":
        return plan
    if plan.network.kind == "monai":
        raise ConfigError(
            f"patches cannot grow with a network by name ({plan.network.name}): "
            "which sizes it accepts is not known",
            where="train.growth",
            fix="set train.growth to off, or take one of the other kinds of train.network",
        )
    stages = plan_growth(divisor_of(plan), plan.patch_size, config.growth, config.growth_stages)
    return plan.model_copy(
        update={"growth": stages, "reasons": (*plan.reasons, _reason(stages, config.growth))}
    )


def divisor_of(plan: Plan) -> Shape3:
    """What the sides of a patch must be divisible by."""
    if plan.network.kind == "swinunetr":
        return (_SWINUNETR_DIVISOR,) * 3
    i, j, k = (prod(stride[axis] for stride in plan.network.strides) for axis in range(3))
    return i, j, k


def plan_growth(
    divisor: Shape3, patch_size: Shape3, growth: str, n_stages: int
) -> tuple[GrowthStage, ...]:
    """Stages from the smallest patch the network bears to the planned one.

    "patch" grows axis by axis, the one furthest behind first. "resize" sees the planned field of
    view from the beginning, through fewer, larger voxels. Every stage but the last has an equal
    share of the training, the last one at least half.

    Args:
        divisor: What sides must be divisible by.
        patch_size: Planned size, divisible too.
        growth: "patch" or "resize".
        n_stages: Wished for; fewer if there are not so many sizes.

    Returns:
        The stages, the last with the planned size; none if the patch cannot be smaller.

    Source:
        Fischer et al. 2024 (MICCAI, Progressive Growing of Patch Size) for "patch".
    """
    small = [min(n, MIN_BOTTLENECK_VOXELS * d) for n, d in zip(patch_size, divisor, strict=True)]
    if growth == "patch":
        sizes = _growing_sizes(divisor, patch_size, small)
    else:
        sizes = _zoomed_sizes(divisor, patch_size, small, n_stages)
    n = min(n_stages, len(sizes))
    if n < 2:
        return ()
    chosen = [sizes[round(index)] for index in np.linspace(0, len(sizes) - 1, n)]
    share = (1 - max(LAST_SHARE, 1 / n)) / (n - 1)
    ends = [share * (index + 1) for index in range(n - 1)]
    return tuple(
        GrowthStage(until=end, patch_size=size.patch_size, zoom=size.zoom)
        for end, size in zip([*ends, 1.0], chosen, strict=True)
    )


def stage_at(stages: Sequence[GrowthStage], progress: float) -> GrowthStage | None:
    """The stage of a step.

    Args:
        stages: Of the plan.
        progress: Share of the training done before the step, 0 to 1.

    Returns:
        Its stage; None if patches do not grow.
    """
    for stage in stages:
        if progress < stage.until:
            return stage
    return stages[-1] if stages else None


def field_of_view(stage: GrowthStage) -> Shape3:
    """Voxels of the volume that a patch shows."""
    return _shape3([round(n / stage.zoom) for n in stage.patch_size])


def mean_cost(plan: Plan, low: float, high: float) -> float:
    """Work of a step compared with one of the planned size, on average over a stretch.

    Args:
        plan: Has the stages.
        low: Progress where the stretch begins.
        high: Progress where it ends, above low.

    Returns:
        Share of the voxels of a planned patch; 1 if patches do not grow.
    """
    if not plan.growth:
        return 1.0
    total, begin = 0.0, 0.0
    for stage in plan.growth:
        length = min(high, stage.until) - max(low, begin)
        total += max(0.0, length) * prod(stage.patch_size) / prod(plan.patch_size)
        begin = stage.until
    return total / (high - low)


def _growing_sizes(divisor: Shape3, patch_size: Shape3, small: Sequence[int]) -> list[_Size]:
    """Every size on the way, one axis at a time by the smallest step the network bears."""
    size = list(small)
    sizes = [_Size(_shape3(size))]
    while tuple(size) != patch_size:
        behind = [axis for axis in range(3) if size[axis] < patch_size[axis]]
        axis = min(behind, key=lambda a: size[a] / patch_size[a])
        size[axis] = min(patch_size[axis], size[axis] + divisor[axis])
        sizes.append(_Size(_shape3(size)))
    return sizes


def _zoomed_sizes(
    divisor: Shape3, patch_size: Shape3, small: Sequence[int], n_stages: int
) -> list[_Size]:
    """Sizes that show the planned field of view ever more finely; each size once."""
    sizes: dict[Shape3, _Size] = {}
    for zoom in np.linspace(MIN_ZOOM, 1, n_stages):
        wanted = [ceil(n * zoom / d) * d for n, d in zip(patch_size, divisor, strict=True)]
        size = _shape3(
            [min(n, max(s, w)) for n, s, w in zip(patch_size, small, wanted, strict=True)]
        )
        # Sides come in steps: the zoom that fits them on average keeps the field of view.
        fitting = float(prod(size) / prod(patch_size)) ** (1 / 3)
        sizes.setdefault(size, _Size(size, fitting))
    return list(sizes.values())


def _shape3(values: Sequence[int]) -> Shape3:
    i, j, k = values
    return i, j, k


def _reason(stages: Sequence[GrowthStage], growth: str) -> str:
    if not stages:
        return f"growth ({growth}): none, the planned patch is the smallest this network bears"
    shown = ", ".join(
        f"{'x'.join(map(str, s.patch_size))}{f' at zoom {s.zoom:.2f}' if s.zoom < 1 else ''} "
        f"until {s.until:.0%}"
        for s in stages
    )
    return f"growth ({growth}): patches of {shown}"
