"""Plan the network: its levels, its width, and the outputs it trains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.artifacts import NetworkPlan, Task
from pipeline.core.errors import ConfigError
from pipeline.core.geometry import Shape3
from pipeline.models.by_name import checked_arguments, network_class
from pipeline.models.network_check import check_network
from pipeline.train.config import NetworkConfig, TrainConfig
from pipeline.train.plan_width import (
    BASE_FEATURES,
    MIN_STEPS_WIDE,
    WIDE_FEATURES,
    StepSize,
    planned_base,
)

MAX_FEATURES = {"cpu": 128, "cuda": 320}
# nnU-Net leaves out the two coarsest levels; three outputs weigh 14 of 15 parts anyway.
MAX_DEEP_OUTPUTS = 3
# Arguments of MONAI that would contradict what the plan says, and the key that decides instead.
_DEEP = ("deep_supervision", "deep_supr_num", "dsdepth")
_LEVELS = "n_levels; which axes are halved follows from spacing and patch"
_KEYS_OF_ARGS: dict[str, dict[str, str]] = {
    "dynunet": {
        **dict.fromkeys(_DEEP, "deep_supervision"),
        **dict.fromkeys(("strides", "upsample_kernel_size"), _LEVELS),
        "filters": "features",
        "res_block": "residual",
    },
    "unet": {"channels": "features", "strides": _LEVELS},
    "segresnet": {**dict.fromkeys(_DEEP, "deep_supervision"), "init_filters": "base_features"},
    "mednext": {**dict.fromkeys(_DEEP, "deep_supervision"), "init_filters": "base_features"},
    "swinunetr": {"feature_size": "base_features"},
    "monai": {},
}
# Arguments with one number per level, and levels without one.
_PER_LEVEL = {
    "segresnet": {"blocks_down": 0},
    "mednext": {"blocks_down": 1, "blocks_up": 1},
}
# Only these follow the strides and the widths that are planned for them.
_FREE_KINDS = ("dynunet", "unet")
_DOUBLING_KINDS = ("segresnet", "mednext", "swinunetr")
_DEEP_KINDS = ("dynunet", "segresnet", "mednext")
# SwinUNETR halves five times, and hardly any other network of MONAI more often.
_N_HALVINGS = 5
# Its attention heads and MONAI's check ask for multiples of this.
_SWIN_FEATURES = 12
_UNIT: Shape3 = (1, 1, 1)
_HALF: Shape3 = (2, 2, 2)
_CUBE: Shape3 = (3, 3, 3)


@dataclass(frozen=True)
class Topology:
    """Levels of a network.

    Args:
        kernels: Convolution kernel per level.
        strides: Stride into each level, the first is 1.
    """

    kernels: tuple[Shape3, ...]
    strides: tuple[Shape3, ...]

    @property
    def divisor(self) -> Shape3:
        """What the sides of a patch must be divisible by."""
        i, j, k = np.prod(np.array(self.strides), axis=0)
        return int(i), int(j), int(k)

    def of_kind(self, kind: str) -> "Topology":
        """The levels that an architecture has where these are wanted.

        Args:
            kind: Of network.

        Returns:
            The same for DynUNet and UNet; others halve all axes at every level, and SwinUNETR and
            networks by name are taken to do so five times.
        """
        if kind in _FREE_KINDS:
            return self
        n_halvings = len(self.strides) - 1
        if kind in {"swinunetr", "monai"}:
            n_halvings = _N_HALVINGS
        return Topology((_CUBE,) * (n_halvings + 1), (_UNIT, *(_HALF,) * n_halvings))


def plan_network(
    config: TrainConfig,
    task: Task,
    topology: Topology,
    size: StepSize,
    device: str,
    reasons: list[str],
) -> NetworkPlan:
    """Choose kernels, channels and outputs, and try the network out.

    Args:
        config: What the user fixed.
        task: Channels and classes.
        topology: Of the kind of network.
        size: Of a step; with the length of training it decides on the width.
        device: "cpu" or "cuda".
        reasons: Lines are added.

    Returns:
        A network that takes the patch and gives what training needs.

    Raises:
        ConfigError: If the configuration asks for what the kind has not, or the network refuses its
            arguments or the patch.
    """
    chosen, base = config.network, planned_base(config, device, size)
    _refuse_foreign_keys(chosen)
    _refuse_contradictions(chosen, len(topology.strides))
    n_outputs = task.n_outputs
    plan = NetworkPlan(
        kind=chosen.kind,
        n_input_channels=len(task.channels),
        n_output_channels=n_outputs,
        features=_features(chosen, base, n_outputs, len(topology.strides), device),
        kernels=_kernels(chosen, topology, device, reasons),
        strides=topology.strides,
        residual=chosen.residual,
        n_deep_outputs=_n_deep_outputs(chosen, len(topology.strides), device, reasons),
        name=chosen.name,
        args=_args(chosen, size.patch_size),
    )
    reasons.append(_reason(plan, chosen, base, device))
    check_network(plan, size.patch_size)
    return plan


def _refuse_foreign_keys(chosen: NetworkConfig) -> None:
    """Keys that would do nothing for this kind of network."""
    keys: tuple[tuple[str, bool, Sequence[str]], ...] = (
        ("residual", chosen.residual, ("dynunet",)),
        ("stem_kernel", chosen.stem_kernel is not None, ("dynunet",)),
        ("deep_supervision", bool(chosen.deep_supervision), _DEEP_KINDS),
        ("n_levels", chosen.n_levels is not None, (*_FREE_KINDS, "segresnet", "mednext")),
        ("features", chosen.features is not None, _FREE_KINDS),
        ("max_features", chosen.max_features is not None, _FREE_KINDS),
        ("base_features", chosen.base_features is not None, (*_FREE_KINDS, *_DOUBLING_KINDS)),
    )
    for key, is_set, kinds in keys:
        if is_set and chosen.kind not in kinds:
            raise ConfigError(
                f"networks of kind '{chosen.kind}' have no {key}",
                where=f"train.network.{key}",
                fix=f"leave it out, or choose one of the kinds {', '.join(kinds)}",
            )


def _refuse_contradictions(chosen: NetworkConfig, n_levels: int) -> None:
    """Arguments after which the plan, and all that reads it, would describe another network."""
    keys = _KEYS_OF_ARGS[chosen.kind]
    for name in chosen.args:
        if name in keys:
            raise ConfigError(
                f"'{name}' of networks of kind '{chosen.kind}' is planned",
                where=f"train.network.args.{name}",
                fix=f"set train.network.{keys[name]}",
            )
    if chosen.stem_kernel is not None and "kernel_size" in chosen.args:
        raise ConfigError(
            "stem_kernel and the argument kernel_size contradict each other",
            where="train.network.stem_kernel",
            fix="give one of them",
        )
    for name, n_without in _PER_LEVEL.get(chosen.kind, {}).items():
        given, n_wanted = chosen.args.get(name), n_levels - n_without
        if isinstance(given, list) and len(given) != n_wanted:
            raise ConfigError(
                f"'{name}' has {len(given)} numbers, but the planned network takes {n_wanted}",
                where=f"train.network.args.{name}",
                fix=f"give {n_wanted} numbers, or set train.network.n_levels",
            )
    if chosen.features is not None and len(chosen.features) != n_levels:
        raise ConfigError(
            f"features has {len(chosen.features)} numbers, but the planned network has "
            f"{n_levels} levels",
            where="train.network.features",
            fix=f"give {n_levels} numbers, or set train.network.n_levels (and a train.patch_size "
            "that allows so many)",
        )


def _features(
    chosen: NetworkConfig, base: int, n_outputs: int, n_levels: int, device: str
) -> tuple[int, ...]:
    """Channels per level; none for a network by name, which nobody knows."""
    if chosen.kind not in _FREE_KINDS:
        base = BASE_FEATURES[device]
    base = chosen.base_features or max(base, _enough_for(n_outputs))
    match chosen.kind:
        case "monai":
            return ()
        case "swinunetr":
            base = _swin_features(chosen, base)
            # The first halving is that of the patch embedding, which adds no channels.
            return (base, *(base * 2**level for level in range(n_levels - 1)))
        case "segresnet" | "mednext":
            return tuple(base * 2**level for level in range(n_levels))
        case _:
            widest = chosen.max_features or max(MAX_FEATURES[device], base)
            doubled = tuple(min(base * 2**level, widest) for level in range(n_levels))
            return chosen.features or doubled


def _enough_for(n_outputs: int) -> int:
    """At least as many full-resolution channels as a third of the classes, in steps of 8."""
    return 8 * -(-n_outputs // 24)


def _swin_features(chosen: NetworkConfig, base: int) -> int:
    if chosen.base_features is not None and base % _SWIN_FEATURES:
        raise ConfigError(
            f"SwinUNETR cannot have {base} features",
            where="train.network.base_features",
            fix=f"take a multiple of {_SWIN_FEATURES}",
        )
    return _SWIN_FEATURES * max(1, base // _SWIN_FEATURES)


def _kernels(
    chosen: NetworkConfig, topology: Topology, device: str, reasons: list[str]
) -> tuple[Shape3, ...]:
    if chosen.kind != "dynunet" or "kernel_size" in chosen.args:
        return topology.kernels
    stem = chosen.stem_kernel or (1 if device == "cpu" else 3)
    how = "as configured"
    if chosen.stem_kernel is None:
        # Measured on Hippocampus, fold 0, 300 s of training on 2 cores: .881 against .874.
        how = (
            "a third fewer operations at full resolution, and more steps in the same CPU time"
            if stem == 1
            else "as in nnU-Net"
        )
    reasons.append(f"first block with kernels of size {stem}: {how}")
    return (_UNIT, *topology.kernels[1:]) if stem == 1 else topology.kernels


def _n_deep_outputs(chosen: NetworkConfig, n_levels: int, device: str, reasons: list[str]) -> int:
    is_planned = chosen.kind == "dynunet" and device == "cuda"
    wanted = is_planned if chosen.deep_supervision is None else chosen.deep_supervision
    if not wanted:
        return 0
    # MedNeXt has an output at every level, the lowest included.
    n_most = n_levels - 1 if chosen.kind == "mednext" else min(n_levels - 2, MAX_DEEP_OUTPUTS)
    how = "as in nnU-Net" if chosen.deep_supervision is None else "as configured"
    reasons.append(f"deep supervision with {n_most} coarser outputs: {how}")
    return n_most


def _args(chosen: NetworkConfig, patch_size: Shape3) -> dict[str, Any]:
    """Arguments of the user, and the size of the patch where a network by name wants it."""
    if chosen.kind != "monai" or chosen.name is None:
        return dict(chosen.args)
    known = {"img_size": list(patch_size)}
    common = dict.fromkeys(("spatial_dims", "in_channels", "out_channels"), 1)
    called = network_class(chosen.name)
    filled = checked_arguments(called, chosen.args, {**common, **known}, where="train.network.args")
    return {name: value for name, value in filled.items() if name in {*chosen.args, *known}}


def _reason(plan: NetworkPlan, chosen: NetworkConfig, base: int, device: str) -> str:
    if plan.kind == "monai":
        return f"network: {plan.name} of MONAI, as configured; patches divisible by 32 fit most"
    size = "the width of nnU-Net"
    if device == "cpu":
        size = "small enough to train on a CPU"
        if plan.kind in _FREE_KINDS:
            sign = "from" if base == WIDE_FEATURES else "up to"
            size += f"; {base} at full resolution learn most {sign} about {MIN_STEPS_WIDE:,} steps"
    widths = (chosen.features, chosen.base_features, chosen.max_features)
    if any(width is not None for width in widths):
        size = "as configured"
    elif plan.features[0] > max(base, BASE_FEATURES[device]):
        size = f"wide enough for {plan.n_output_channels} outputs"
    kind = "residual dynunet" if plan.residual else plan.kind
    changed = f", with {', '.join(plan.args)} as configured" if plan.args else ""
    return f"network: {kind} with {'-'.join(map(str, plan.features))} channels ({size}){changed}"
