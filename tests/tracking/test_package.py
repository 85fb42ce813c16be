"""The MLflow model: what is in it, loaded in another process, registered and served."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from export_builders import info_with, untrained
from mlflow.exceptions import MlflowException
from phantoms import case, write_dataset

from pipeline.core.errors import UsageError
from pipeline.core.volume import Volume
from pipeline.infer.predict import predict_case
from pipeline.models.checkpoint import save_model
from pipeline.tracking.package import example_input, pinned_requirements, save_mlflow_model
from pipeline.tracking.registry import register_model
from pipeline.tracking.session import find_target

# Loads a model as someone would who has only MLflow and the address, and predicts one array.
LOAD = """
import sys, mlflow, mlflow.pyfunc, numpy as np
data = np.load(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict({"image": data["image"], "affine": data["affine"]}))
import pipeline
print(pipeline.__file__)
"""


@pytest.fixture(scope="session")
def model():
    return untrained(info_with(spacing_mm=(2.0, 2.0, 2.5)))


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory) -> Path:
    parent = tmp_path_factory.mktemp("mlflow_model")
    save_model(parent / "best.pt", model.network.state_dict(), model.info)
    save_mlflow_model(parent / "saved", parent / "best.pt", n_channels=1)
    return parent / "saved"


@pytest.fixture
def loaded(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow puts the model's code in front
    return mlflow.pyfunc.load_model(str(folder))


def image_and_affine():
    image, _, affine = case(0, (16, 18, 16), (2.0, 2.0, 2.0), "LPS")
    return image, affine


def expected(model):
    image, affine = image_and_affine()
    return predict_case(model, Volume(image[np.newaxis], affine)).array


def test_weights_and_code_are_inside_and_nothing_is_pickled(folder):
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {"MLmodel", "artifacts/best.pt", "pyfunc.py", "input_example.json"} <= names
    assert "code/pipeline/infer/predict.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pyc"))]
    described = mlflow.models.get_model_info(str(folder))
    assert described.signature.inputs.input_names() == ["image", "affine", "folder", "output"]


def test_every_requirement_is_pinned_and_none_is_a_local_build():
    lines = pinned_requirements()
    names = [line.partition("==")[0] for line in lines]
    assert {"torch", "monai", "mlflow", "nibabel"} <= set(names)
    assert all("==" in line and "+" not in line for line in lines)
    assert "pytest" not in names


def test_the_example_has_the_channels_of_the_model():
    example = example_input(3)
    assert np.shape(example["image"]) == (3, 8, 8, 8)
    assert np.shape(example["affine"]) == (4, 4)


def test_arrays_and_lists_in_labels_out(loaded, model):
    image, affine = image_and_affine()
    for given in (image, image[np.newaxis].tolist()):
        labels = loaded.predict({"image": given, "affine": affine})
        assert np.array_equal(labels, expected(model))


def test_folders_in_a_table_out(loaded, tmp_path):
    images = write_dataset(tmp_path / "data", 2, shape=(16, 16, 16)) / "imagesTr"
    request = {"folder": str(images), "output": str(tmp_path / "out")}
    table = loaded.predict(pd.DataFrame([request]))
    assert list(table.columns) == ["case_id", "status", "file", "message"]
    assert list(table["status"]) == ["done", "done"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "case_000.nii.gz",
        "case_001.nii.gz",
    ]


def test_what_is_neither_is_explained(loaded):
    image, affine = image_and_affine()
    with pytest.raises((UsageError, MlflowException), match="neither one array nor folders"):
        loaded.predict({"image": image})
    rows = [{"image": image.tolist(), "affine": affine.tolist()}] * 2
    with pytest.raises((UsageError, MlflowException), match="neither one array nor folders"):
        loaded.predict(pd.DataFrame(rows))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, content: object | None = None) -> object:
    body = None if content is None else json.dumps(content).encode()
    header = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, header)  # noqa: S310  # loopback
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310  # loopback
        text = answer.read().decode()
    return json.loads(text) if content is not None else text


@pytest.mark.slow
def test_the_registered_model_loads_elsewhere_and_is_served(folder, model, place, tmp_path):
    target = find_target(place.config, place.workspace)
    done = register_model(
        target, folder, name=f"{place.config.experiment}-served", run_id=None, alias="champion",
        tags={},
    )  # fmt: skip
    image, affine = image_and_affine()
    np.savez(tmp_path / "in.npz", image=image, affine=affine)
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": target.uri,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "",
    }
    words = [done.uri, str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected(model))
    # It ran the code that was stored with the model, not what is installed here.
    assert "/code/pipeline/" in ran.stdout

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [
                *("mlflow", "models", "serve", "-m", done.uri, "--env-manager", "local"),
                *("-h", "127.0.0.1", "-p", str(port), "-w", "1"),
            ],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(f"{address}/ping", server)
        inputs = {"image": image.tolist(), "affine": affine.tolist()}
        answer = ask(f"{address}/invocations", {"inputs": inputs})
        assert np.array_equal(np.array(answer["predictions"]), expected(model))
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_up(url: str, server: subprocess.Popen) -> None:
    until_s = time.monotonic() + 180
    while time.monotonic() < until_s:
        assert server.poll() is None, "the server ended"
        try:
            ask(url)
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    pytest.fail("the server did not come up")
