"""Untrained models, the same every time, for tests of exports."""

import torch
from models_builders import model_info

from pipeline.artifacts import ModelInfo, Normalization
from pipeline.core.task import Channel
from pipeline.models.checkpoint import Model
from pipeline.models.networks import build_network

CT = Normalization(kind="ct", lower=-100.0, upper=250.0, mean=40.0, std=60.0)


def info_with(*, kind="dynunet", normalizations=None, cleanup=(), **changes) -> ModelInfo:
    """A model description; the number of normalizations is that of the channels."""
    kinds = normalizations or (Normalization(kind="zscore"),)
    info = model_info(n_channels=len(kinds), **changes)
    preprocessing = info.plan.preprocessing.model_copy(update={"normalizations": kinds})
    network = info.plan.network.model_copy(update={"kind": kind})
    plan = info.plan.model_copy(update={"preprocessing": preprocessing, "network": network})
    channels = tuple(
        Channel(name=f"channel_{i}", modality="ct" if n.kind == "ct" else "mr")
        for i, n in enumerate(kinds)
    )
    task = info.task.model_copy(update={"channels": channels})
    return info.model_copy(update={"plan": plan, "task": task, "cleanup": tuple(cleanup)})


def untrained(info: ModelInfo) -> Model:
    """A network with random weights, always the same ones."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    network = build_network(info.plan.network).eval()
    torch.random.set_rng_state(state)
    return Model(network, info, "0" * 16)
