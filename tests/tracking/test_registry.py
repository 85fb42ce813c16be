import os

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from pipeline.core.errors import VoxlineError
from pipeline.tracking.link import Target
from pipeline.tracking.registry import register_model
from pipeline.tracking.session import find_target


def test_the_champion_is_what_was_registered_last(place, tmp_path, monkeypatch):
    with place.open() as tracker:
        tracker.log_metrics({"final/dice_mean": 0.8})
        tracker.flush()
        run_id = tracker.run_id
    target = find_target(place.config, place.workspace)
    folder = tmp_path / "model"
    (folder / "artifacts").mkdir(parents=True)
    for content in (b"first", b"second"):
        (folder / "artifacts" / "best.pt").write_bytes(content)
        done = register_model(
            target,
            folder,
            name=place.config.experiment,
            run_id=run_id,
            alias="champion",
            tags={"validation_dice": "0.8000"},
        )
    assert (done.version, done.uri) == ("2", f"models:/{place.config.experiment}@champion")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", target.uri)  # as a user of the registry would
    download_artifacts(done.uri, dst_path=str(tmp_path / "got"))
    assert (tmp_path / "got" / "artifacts" / "best.pt").read_bytes() == b"second"
    found = place.client.get_model_version_by_alias(place.config.experiment, "champion")
    assert found.run_id == run_id
    assert found.tags["validation_dice"] == "0.8000"


def test_without_an_alias_no_champion_appears(place, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    target = find_target(place.config, place.workspace)
    done = register_model(
        target, tmp_path / "model", name="quiet", run_id=None, alias=None, tags={}
    )
    assert done.uri == "models:/quiet/1"
    client = MlflowClient(tracking_uri=target.uri)
    with pytest.raises(MlflowException, match="champion"):
        client.get_model_version_by_alias("quiet", "champion")


def test_a_server_that_is_away_is_a_clear_message(place, tmp_path):
    target = Target("http://127.0.0.1:9", "x", None, tmp_path, tmp_path)
    with pytest.raises(VoxlineError, match="cannot be registered"):
        register_model(target, tmp_path, name="x", run_id=None, alias=None, tags={})
