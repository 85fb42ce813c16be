"""Several models as one predictor: folds of one training, or repeated trainings."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from pipeline.artifacts import ModelInfo, Normalization, Plan
from pipeline.core.errors import CheckpointError
from pipeline.models.checkpoint import Model
from pipeline.models.predictor import (
    DEFAULT_OPTIONS,
    Precision,
    PredictionOptions,
    Predictor,
    make_predictor,
)

_SAME_SETTINGS = "train the models of one ensemble with the same data, spacing and patch size"


class _Renormalized(nn.Module):
    """A network whose CT normalization differs from the one the image was prepared with."""

    def __init__(
        self,
        network: nn.Module,
        prepared: tuple[Normalization, ...],
        own: tuple[Normalization, ...],
    ) -> None:
        super().__init__()
        self.network = network
        pairs = list(zip(prepared, own, strict=True))
        # x * std + mean is the intensity; then this network's clip, mean and SD.
        rows = {
            "factor": [p.std / o.std for p, o in pairs],
            "offset": [(p.mean - o.mean) / o.std for p, o in pairs],
            "lower": [_clip(o, o.lower, -torch.inf) for o in own],
            "upper": [_clip(o, o.upper, torch.inf) for o in own],
        }
        for name, values in rows.items():
            self.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1, 1))

    @override
    def forward(
        self, windows: Float[Tensor, "batch channel i j k"]
    ) -> Float[Tensor, "batch output i j k"]:
        factor, offset = self.get_buffer("factor"), self.get_buffer("offset")
        own = windows * factor + offset
        own = torch.clamp(own, self.get_buffer("lower"), self.get_buffer("upper"))
        outputs: Tensor = self.network(own)
        return outputs


def ensemble_predictor(
    models: Sequence[Model], options: PredictionOptions = DEFAULT_OPTIONS
) -> Predictor:
    """Make one or several models ready for use; their answers are averaged window by window.

    Folds clip and scale CT differently. The image is then prepared with the widest clip of all (it
    is in the plan of the result), and every network gets it the way it was trained.

    Args:
        models: On one device.
        options: How to predict.

    Returns:
        The predictor. Images must be prepared by the preprocessing of its plan.

    Raises:
        CheckpointError: If the models differ in classes, channels, grid or window.
        ConfigError: If left and right shall be mirrored although a class names a side.
    """
    first = models[0].info
    for model in models[1:]:
        _check_agreement(first, model.info)
    plan = _shared_plan([m.info.plan for m in models])
    networks: list[nn.Module] = []
    for model in models:
        own = model.info.plan.preprocessing.normalizations
        shared = plan.preprocessing.normalizations
        is_same = own == shared
        network = model.network if is_same else _Renormalized(model.network, shared, own)
        networks.append(network.eval())
    device = next(models[0].network.parameters()).device
    networks = [network.to(device) for network in networks]
    options = replace(options, precision=_precision(options.precision, [m.info for m in models]))
    return make_predictor(networks, plan, first.task, options, device)


def _precision(chosen: Precision, infos: Sequence[ModelInfo]) -> Precision:
    """What a GPU computes in: full numbers if asked for, or if a model was trained so on a GPU."""
    # A CPU may have trained in float32 for want of instructions, which says nothing.
    is_full = any(i.number_format == "float32" and i.plan.device == "cuda" for i in infos)
    return "float32" if is_full else chosen


def _check_agreement(first: ModelInfo, other: ModelInfo) -> None:
    facts: dict[str, Callable[[ModelInfo], object]] = {
        "classes": lambda info: ", ".join(info.task.class_names),
        "values of the classes": lambda info: [c.source_values for c in info.task.classes],
        "channels": lambda info: ", ".join(c.name for c in info.task.channels),
        "regions": lambda info: [(r.name, r.classes, r.paints) for r in info.task.regions],
        "spacing in mm": lambda info: info.plan.preprocessing.spacing_mm,
        "normalization": lambda info: [n.kind for n in info.plan.preprocessing.normalizations],
        "patch size": lambda info: info.plan.patch_size,
        "outputs": lambda info: info.plan.network.n_output_channels,
    }
    for name, fact in facts.items():
        if fact(first) != fact(other):
            raise CheckpointError(
                f"the models cannot be averaged, their {name} differ: "
                f"{fact(first)} (fold {first.fold}) and {fact(other)} (fold {other.fold})",
                fix=_SAME_SETTINGS,
            )


def _shared_plan(plans: Sequence[Plan]) -> Plan:
    """The first plan, with clips so wide that every model can still make its own."""
    first = plans[0]
    rows = zip(*(p.preprocessing.normalizations for p in plans), strict=True)
    widest = tuple(
        own[0].model_copy(
            update={"lower": min(n.lower for n in own), "upper": max(n.upper for n in own)}
        )
        for own in rows
    )
    preprocessing = first.preprocessing.model_copy(update={"normalizations": widest})
    return first.model_copy(update={"preprocessing": preprocessing})


def _clip(normalization: Normalization, limit: float, otherwise: float) -> float:
    """A clip limit in units of the normalized image; only CT is clipped."""
    if normalization.kind != "ct":
        return otherwise
    return (limit - normalization.mean) / normalization.std
