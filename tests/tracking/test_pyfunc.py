"""The script that MLflow runs, without MLflow around it; test_package.py has the whole."""

import numpy as np
import pandas as pd
import pytest
from export_builders import info_with, untrained
from mlflow.pyfunc.model import PythonModelContext

from pipeline.core.errors import UsageError
from pipeline.models.checkpoint import save_model
from pipeline.tracking.pyfunc import MODEL_ARTIFACT, SegmentationModel


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    model = untrained(info_with())
    file = tmp_path_factory.mktemp("model") / "best.pt"
    save_model(file, model.network.state_dict(), model.info)
    served = SegmentationModel()
    served.load_context(PythonModelContext({MODEL_ARTIFACT: str(file)}, {}))
    return served


def test_gaps_of_a_table_are_not_given(served):
    image = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    row = {"image": image, "affine": np.eye(4), "folder": None, "output": float("nan")}
    labels = served.predict(None, pd.DataFrame([row]))
    assert labels.shape == (16, 16, 16)


@pytest.mark.parametrize(
    "rows", [[], [{"folder": "images"}], [{"image": [[[0.0]]]}, {"folder": "a", "output": "b"}]]
)
def test_half_a_request_is_refused(served, rows):
    with pytest.raises(UsageError, match="neither one array nor folders"):
        served.predict(None, pd.DataFrame(rows))
