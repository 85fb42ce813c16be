"""Predict one image: the functions to call from other programs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt

from pipeline.artifacts import ModelInfo, Task
from pipeline.core.errors import DataError
from pipeline.core.geometry import Geometry
from pipeline.core.volume import Volume, to_ras
from pipeline.models import checkpoint
from pipeline.models.checkpoint import Model
from pipeline.models.ensemble import ensemble_predictor
from pipeline.models.memory import MemoryEstimate, choose_path, estimate_memory, free_memory
from pipeline.models.predictor import DEFAULT_OPTIONS, PredictionOptions, Predictor
from pipeline.models.segment import segment_prepared
from pipeline.transforms.clean import clean_labels
from pipeline.transforms.preprocess import prepared_shape, preprocess_image
from pipeline.transforms.restore import to_native


def load_model(file: Path | str, *, device: str = "cpu") -> Model:
    """Load a model file written by the train stage.

    Args:
        file: For example runs/demo/train/fold_0/best.pt.
        device: "cpu" or "cuda".

    Returns:
        The model, ready for `predict_case`.

    Raises:
        CheckpointError: If the file is not a Voxline model.
    """
    return checkpoint.load_model(Path(file), torch.device(device))


def predict_case(
    model: Model | Sequence[Model],
    image: Volume,
    *,
    options: PredictionOptions = DEFAULT_OPTIONS,
    is_cleaned: bool = True,
) -> Volume:
    """Segment one image; the result lies on exactly the grid of the input.

    May be called from several threads at a time; each call takes the memory of one case.

    Args:
        model: From `load_model`; several are averaged.
        image: Array (channel, i, j, k) in any orientation with its affine (voxel index to world mm,
            RAS+); intensities as in the training files.
        options: Window overlap, mirroring, backend, and so on.
        is_cleaned: Apply the clean-up that training chose.

    Returns:
        Label map (i, j, k) with the label values of the training files, smallest fitting dtype.

    Raises:
        DataError: If the number of channels is not the model's, voxels are not finite, or the case
            does not fit into memory.
        CheckpointError: If several models cannot be averaged.
    """
    models = [model] if isinstance(model, Model) else list(model)
    predictor, info = ensemble_predictor(models, options), shared_info(models)
    ras = to_ras(image)
    prepared = prepare_image(predictor, ras)
    label = segment_prepared(predictor, prepared, ras.shape).labels
    if is_cleaned:
        label = clean_labels(label, info.cleanup, info.task, ras.geometry.spacing_mm)
    return on_native_grid(Volume(label, ras.affine), image.geometry, info.task)


def shared_info(models: Sequence[Model]) -> ModelInfo:
    """What is known about one model, or about several that are averaged.

    Args:
        models: One or more that agree.

    Returns:
        The first model's description. With several, the clean-up is what all of them chose (islands
        as small as the most careful one says), and the training images are those of all.
    """
    first = models[0].info
    if len(models) == 1:
        return first
    by_step = [{(r.class_name, r.kind): r for r in m.info.cleanup} for m in models]
    rules = []
    for rule in first.cleanup:
        same = [rules_of.get((rule.class_name, rule.kind)) for rules_of in by_step]
        sizes_ml = [r.min_ml for r in same if r is not None and r.min_ml is not None]
        if None not in same:
            rules.append(rule.model_copy(update={"min_ml": min(sizes_ml, default=None)}))
    images = {image for model in models for image in model.info.training_images}
    update = {"cleanup": tuple(rules), "training_images": tuple(sorted(images))}
    return first.model_copy(update=update)


def case_memory(predictor: Predictor, image: Volume) -> MemoryEstimate:
    """What an image will need, before anything is computed.

    Args:
        predictor: What it is for.
        image: RAS image (channel, i, j, k).

    Returns:
        The estimate.
    """
    shape = prepared_shape(image.geometry, predictor.plan.preprocessing.spacing_mm)
    return estimate_memory(predictor, shape, image.shape)


def prepare_image(predictor: Predictor, image: Volume) -> Float32[np.ndarray, "channel i j k"]:
    """Make an image ready for the network, if it fits into memory.

    Args:
        predictor: Says how.
        image: RAS image (channel, i, j, k), intensities as in the files.

    Returns:
        The network input.

    Raises:
        DataError: If the number of channels is not the model's, voxels are not finite, or the case
            does not fit into memory.
    """
    channels = predictor.task.channels
    n_channels = image.array.shape[0] if image.array.ndim == 4 else 1
    if image.array.ndim != 4 or n_channels != len(channels):
        names = ", ".join(c.name for c in channels)
        raise DataError(
            f"the image has {n_channels} channel(s), the model takes {len(channels)}: {names}",
            fix="give the channels in the order they had in training",
        )
    # A wrong spacing in a header may ask for a thousand times the voxels: refused here, not killed.
    device = predictor.device
    estimate = case_memory(predictor, image)
    choose_path(estimate, free_memory(device), device, n_held_bytes=image.array.nbytes)
    return preprocess_image(image, predictor.plan.preprocessing).array


def on_native_grid(label: Volume, native: Geometry, task: Task) -> Volume:
    """Bring class indices in RAS to the values and the voxel order of the source files."""
    return to_native(Volume(to_source_values(label.array, task), label.affine), native)


def to_source_values(
    indices: Integer[np.ndarray, "i j k"], task: Task
) -> UInt[np.ndarray, "i j k"]:
    """Class indices to the values used in label files, in the smallest unsigned type.

    A class that was merged from several values takes the first of them.
    """
    values = [0, *(c.source_values[0] for c in task.classes)]
    dtype = np.min_scalar_type(max(values))
    return np.array(values, dtype=dtype)[indices]
