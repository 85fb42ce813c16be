"""Predict one image: the function to call from other programs."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer, UInt

from pipeline.artifacts import Task
from pipeline.core.errors import DataError
from pipeline.core.geometry import Geometry
from pipeline.core.volume import Volume, to_ras
from pipeline.models import checkpoint
from pipeline.models.checkpoint import Model
from pipeline.models.segment import segment_prepared, window_settings
from pipeline.transforms.preprocess import preprocess_image
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
    model: Model, image: Volume, *, overlap: float = 0.5, window_batch: int | None = None
) -> Volume:
    """Segment one image; the result lies on exactly the grid of the input.

    Args:
        model: From `load_model`.
        image: Shape (channel, i, j, k) in any orientation, intensities as in the training files.
        overlap: Window overlap, 0 to below 1.
        window_batch: Windows per forward pass; None takes the training batch.

    Returns:
        Label map (i, j, k) with the label values of the training files, smallest fitting dtype.

    Raises:
        DataError: If the number of channels is not the model's, or voxels are not finite.
    """
    label = predict_ras(model, to_ras(image), overlap=overlap, window_batch=window_batch)
    return on_native_grid(label, image.geometry, model.info.task)


def predict_ras(model: Model, image: Volume, *, overlap: float, window_batch: int | None) -> Volume:
    """Segment an image whose axes run to R, A, S; the result holds class indices.

    Args:
        model: From `load_model`.
        image: Shape (channel, i, j, k), RAS.
        overlap: Window overlap, 0 to below 1.
        window_batch: Windows per forward pass; None takes the training batch.

    Returns:
        Class index per voxel of the image, RAS.

    Raises:
        DataError: If the number of channels is not the model's, or voxels are not finite.
    """
    task, plan = model.info.task, model.info.plan
    n_channels = image.array.shape[0] if image.array.ndim == 4 else 1
    if image.array.ndim != 4 or n_channels != len(task.channels):
        names = ", ".join(c.name for c in task.channels)
        raise DataError(
            f"the image has {n_channels} channel(s), the model takes {len(task.channels)}: {names}",
            fix="give the channels in the order they had in training",
        )
    prepared = preprocess_image(image, plan.preprocessing)
    settings = window_settings(plan, overlap=overlap, batch_size=window_batch)
    device = next(model.network.parameters()).device
    indices = segment_prepared(model.network, prepared.array, image.shape, settings, device)
    return Volume(indices, image.affine)


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
