"""Writing a trained model as an MLflow model: weights, code, requirements, signature, example."""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import UsageError
from pipeline.tracking.location import prepare_environment

# The folder of this package travels with the model: nothing needs to be installed by hand.
_PACKAGE_DIR = Path(__file__).resolve().parents[1]
_SCRIPT = Path(__file__).with_name("pyfunc.py")
# Same name as in pipeline/tracking/pyfunc.py, which takes seconds to import.
_MODEL_ARTIFACT = "model"
_CARD_ARTIFACT = "model_card"
# Voxels along each axis of the example; it is stored as text.
_EXAMPLE_SIZE = 8


def save_mlflow_model(
    folder: Path, model_file: Path, *, n_channels: int, card_file: Path | None = None
) -> None:
    """Write a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` understand.

    Args:
        folder: New or empty folder.
        model_file: best.pt of a training; copied, never unpickled.
        n_channels: Channels of an image, for the example.
        card_file: model_card.json to put beside it, if there is one.

    Raises:
        UsageError: If the packages it runs with cannot be listed.
    """
    prepare_environment()
    import mlflow.pyfunc  # takes seconds

    artifacts = {_MODEL_ARTIFACT: str(model_file)}
    if card_file is not None:
        artifacts[_CARD_ARTIFACT] = str(card_file)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_SCRIPT),
        artifacts=artifacts,
        code_paths=[str(_PACKAGE_DIR)],
        pip_requirements=pinned_requirements(),
        signature=_signature(),
        input_example=example_input(n_channels),
    )


def example_input(n_channels: int) -> dict[str, Any]:
    """A small image with an affine, as it is sent to a served model.

    Args:
        n_channels: Channels of the image.

    Returns:
        Nested lists: image (channel, i, j, k) and affine (4, 4), 1 mm spacing.
    """
    shape = (n_channels, *(_EXAMPLE_SIZE,) * 3)
    values = np.arange(np.prod(shape), dtype=np.float64) % 100
    return {"image": values.reshape(shape).tolist(), "affine": np.eye(4).tolist()}


def pinned_requirements() -> list[str]:
    """Every package that Voxline depends on, in the version that runs now.

    Returns:
        Lines for pip, such as "torch==2.13.0".

    Raises:
        UsageError: If Voxline is not installed as a package.
    """
    try:
        wanted = requires("voxline") or []
    except PackageNotFoundError:
        raise UsageError(
            "the packages that the model needs cannot be listed: Voxline is not installed",
            where="pip",
            fix="install it with 'pip install -e .' or run 'make setup'",
        ) from None
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in wanted if "extra ==" not in line]
    # "2.13.0+cpu" names a build for this machine; any build of that version will do.
    return [f"{name}=={version(name).partition('+')[0]}" for name in sorted(names)]


def _signature() -> Any:
    """Columns of the input, none of them required by itself: an array, or folders of images."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema(
            [
                # MLflow would check a list of numbers one by one: minutes for a volume.
                ColSpec(Array(AnyType()), "image", required=False),  # type: ignore[no-untyped-call]
                ColSpec(Array(Array(DataType.double)), "affine", required=False),
                ColSpec(DataType.string, "folder", required=False),
                ColSpec(DataType.string, "output", required=False),
            ]
        )
    )
