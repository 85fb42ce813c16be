"""The model as MLflow loads it. MLflow runs this file; nothing of ours is pickled.

It is copied into every MLflow model, beside the weights and the package it was made with.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from typing_extensions import override

from pipeline.core.errors import UsageError
from pipeline.infer.predict import load_model
from pipeline.infer.served import segment_array, segment_folder
from pipeline.models.device import choose_device

if TYPE_CHECKING:
    from pipeline.models.checkpoint import Model

# Name of the weights among the artifacts of the MLflow model.
MODEL_ARTIFACT = "model"
_FIX = (
    'give {"image": array, "affine": 4 x 4} or {"folder": images, "output": new folder}; '
    "a table may hold several folders, one per row"
)


class SegmentationModel(PythonModel):
    """Images in, label maps out."""

    _model: "Model"

    @override
    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights, onto a GPU where there is one."""
        device = choose_device("auto")
        self._model = load_model(context.artifacts[MODEL_ARTIFACT], device=device.type)

    @override
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> Any:
        """Segment an array or the images of folders.

        Args:
            context: From MLflow, not used.
            model_input: One row with image (i, j, k) or (channel, i, j, k) and affine (4 x 4, mm,
                RAS+), or rows with folder and output.
            params: Not used.

        Returns:
            For an array its label values (i, j, k); for folders a table with a row per case:
            case_id, status, file, message.

        Raises:
            UsageError: If the rows hold neither.
        """
        rows = [_given(row) for row in model_input.to_dict(orient="records")]
        if len(rows) == 1 and rows[0].keys() == {"image", "affine"}:
            return segment_array(self._model, rows[0]["image"], rows[0]["affine"])
        if not rows or any(row.keys() != {"folder", "output"} for row in rows):
            raise UsageError("the input is neither one array nor folders of images", fix=_FIX)
        tables = [segment_folder(self._model, Path(r["folder"]), Path(r["output"])) for r in rows]
        columns = ["case_id", "status", "file", "message"]
        return pd.DataFrame([line for table in tables for line in table], columns=columns)


def _given(row: dict[Any, Any]) -> dict[Any, Any]:
    """The filled cells of a row: tables have a gap where a column is not used."""
    return {name: value for name, value in row.items() if not _is_gap(value)}


def _is_gap(value: Any) -> bool:
    # NaN is the gap of a table and the only number that is not equal to itself.
    return value is None or (isinstance(value, float) and value != value)  # noqa: PLR0124


set_model(SegmentationModel())
