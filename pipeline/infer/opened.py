"""One or several models, opened once for many cases."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import ModelInfo
from pipeline.infer.config import InferConfig
from pipeline.infer.predict import shared_info
from pipeline.models.checkpoint import Model, load_model
from pipeline.models.device import choose_device, use_all_cores
from pipeline.models.ensemble import ensemble_predictor
from pipeline.models.predictor import PredictionOptions, Predictor


@dataclass(frozen=True)
class OpenModel:
    """Models and the files they came from.

    Args:
        files: Model files.
        predictor: All of them as one function.
        info: Task, plan, clean-up and origin; see `shared_info`.
        digest: Hash of the one file, or of all.
    """

    files: tuple[Path, ...]
    predictor: Predictor
    info: ModelInfo
    digest: str


def open_model(files: Sequence[Path], config: InferConfig) -> OpenModel:
    """Load models onto the configured device.

    Args:
        files: Written by the train stage; several are averaged.
        config: Device, and how to predict.

    Returns:
        The models with the names of their files.

    Raises:
        CheckpointError: If a file is not a model, or the models cannot be averaged.
        UsageError: If a GPU is asked for that is not there, or the backend is not installed.
        ConfigError: If left and right shall be mirrored although a class names a side.
    """
    use_all_cores()
    device = choose_device(config.device)
    models = [load_model(file, device) for file in files]
    options = PredictionOptions(
        overlap=config.overlap,
        window_batch=config.window_batch,
        mirror=config.mirror,
        average=config.average,
        backend=config.backend,
        crop=config.crop,
        precision=config.precision,
    )
    predictor = ensemble_predictor(models, options)
    return OpenModel(tuple(files), predictor, shared_info(models), _digest(models))


def _digest(models: Sequence[Model]) -> str:
    # The order of the models does not change their mean.
    digests = sorted(model.digest for model in models)
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
