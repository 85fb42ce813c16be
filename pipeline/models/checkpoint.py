"""Model and training-state files; loading them never executes a pickle."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.artifacts import ModelInfo
from pipeline.core.config import validate_config
from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.core.workspace import atomic_write
from pipeline.models.networks import build_network

MODEL_FORMAT = "voxline-model-1"
STATE_FORMAT = "voxline-state-1"
_FIXES = {
    MODEL_FORMAT: "give the best.pt of a train folder, such as runs/demo/train/fold_0/best.pt",
    STATE_FORMAT: "move its folder away; training then starts anew",
}
# What torch.load raises for damaged archives and for contents it refuses to unpickle.
_DAMAGED = (
    *(RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError),
    *(LookupError, AttributeError, TypeError),
)
# What reading every entry of a damaged archive raises.
_DAMAGED_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError),
    *(NotImplementedError, LookupError, struct.error),
)


@dataclass(frozen=True)
class Model:
    """A trained network with everything needed to use it.

    Args:
        network: In evaluation mode.
        info: Preprocessing, plan, classes and origin.
        digest: Short hash of the file.
        card: What the model is and how good it is, for people; empty in files of before 2026-11.
    """

    network: nn.Module
    info: ModelInfo
    digest: str
    card: str = ""


def save_model(
    file: Path, weights: Mapping[str, Tensor], info: ModelInfo, *, card: str = ""
) -> None:
    """Write a model file atomically.

    Args:
        file: Target; an existing file survives any failure.
        weights: State dict of the network.
        info: Preprocessing, plan, classes and origin.
        card: What the model is and how good it is, for people (Markdown).

    Raises:
        CheckpointError: If the disk is full or cannot be written.
    """
    content = {"format": MODEL_FORMAT, "weights": dict(weights), "info": info.model_dump_json()}
    _save(file, {**content, "card": card})


def update_model(file: Path, info: ModelInfo, *, card: str) -> None:
    """Replace what a model file says about itself; its weights stay as they are.

    Args:
        file: Written by `save_model`.
        info: The new description.
        card: The new text for people.

    Raises:
        CheckpointError: If the file is not a model, or cannot be written.
    """
    content, _ = _load(file, MODEL_FORMAT, torch.device("cpu"))
    save_model(file, content["weights"], info, card=card)


def load_model(file: Path, device: torch.device) -> Model:
    """Read a model file and build its network in evaluation mode.

    Args:
        file: Written by `save_model`.
        device: Where the network shall live.

    Returns:
        The model.

    Raises:
        CheckpointError: If the file is missing, damaged or not a Voxline model.
    """
    content, digest = _load(file, MODEL_FORMAT, device)
    info = read_info(str(content.get("info")), file)
    network = build_network(info.plan.network)
    try:
        network.load_state_dict(content["weights"])
    except (RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the weights do not fit the network of the plan: {error}",
            where=str(file),
            fix="train again, or take the model from where it was trained",
        ) from None
    return Model(network.to(device).eval(), info, digest, str(content.get("card", "")))


def read_info(text: str, file: Path) -> ModelInfo:
    """Validate the model description stored beside the weights.

    Args:
        text: JSON; fields that older versions did not write may be absent.
        file: Where it was found, for messages.

    Raises:
        CheckpointError: If it is no model description of this version of Voxline.
    """
    try:
        content = json.loads(text)
        return validate_config(ModelInfo, dict(content), str(file))
    except (ConfigError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"the model description is not valid: {error}",
            where=str(file),
            fix=f"the model was written by {_writer(text)}; this is Voxline {version('voxline')}",
        ) from None


def _writer(text: str) -> str:
    """The version that wrote a description this version cannot read."""
    try:
        return f"Voxline {json.loads(text)['voxline_version']}"
    except (ValueError, LookupError, TypeError):
        return "an unknown program"


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write the training state atomically; plain tensors, numbers and strings only."""
    _save(file, {"format": STATE_FORMAT, **state})


def load_state(file: Path, device: torch.device) -> dict[str, Any]:
    """Read a training state written by `save_state`.

    Raises:
        CheckpointError: If the file is damaged or is not a training state.
    """
    return _load(file, STATE_FORMAT, device)[0]


def _save(file: Path, content: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        with atomic_write(file) as stream:
            stream.write(buffer.getbuffer())
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint: {error.strerror or error}",
            where=str(file),
            fix="free disk space and run the same command again; the previous checkpoint is intact",
        ) from error


def _load(file: Path, expected: str, device: torch.device) -> tuple[dict[str, Any], str]:
    fix = _FIXES[expected]
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read the checkpoint: {error.strerror}", where=str(file), fix=fix
        ) from None
    if not _is_sound_archive(raw):
        # Older formats begin with a bare pickle; torch would start to interpret it.
        raise CheckpointError("not a checkpoint, or a damaged one", where=str(file), fix=fix)
    try:
        content = torch.load(io.BytesIO(raw), map_location=device, weights_only=True)
    except _DAMAGED:
        raise CheckpointError(
            "not a checkpoint, or a damaged one", where=str(file), fix=fix
        ) from None
    if not isinstance(content, dict) or content.get("format") != expected:
        raise CheckpointError(f"not a {expected} file", where=str(file), fix=fix)
    return content, hashlib.sha256(raw).hexdigest()[:16]


def _is_sound_archive(raw: bytes) -> bool:
    """Whether every entry of a zip archive is as it was written.

    torch 2.13 loads weights without a look at their checksums: a flipped bit would become a
    different prediction.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return archive.testzip() is None
    except _DAMAGED_ARCHIVE:
        return False
