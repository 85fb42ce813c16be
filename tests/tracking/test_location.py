"""Where runs go: configuration, then environment, then beside the work folder."""

import pytest

from pipeline.core.errors import ConfigError
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import artifacts_dir, database_file, public_uri, resolve_uri


def test_default_is_beside_the_work_folder(tmp_path):
    uri = resolve_uri(TrackingConfig(), tmp_path / "runs" / "spleen")
    assert uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert artifacts_dir(uri, tmp_path / "runs" / "spleen") == tmp_path / "runs/mlflow-artifacts"


def test_configuration_wins_over_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment:5000")
    assert resolve_uri(TrackingConfig(), tmp_path) == "http://from-environment:5000"
    config = TrackingConfig(uri="https://from-config")
    assert resolve_uri(config, tmp_path) == "https://from-config"


def test_a_relative_database_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = resolve_uri(TrackingConfig(uri="sqlite:///my.db"), tmp_path / "work")
    assert database_file(uri) == tmp_path / "my.db"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///data/mlruns", "ftp://server", "runs"])
def test_stores_that_mlflow_has_given_up_are_refused(uri, tmp_path):
    with pytest.raises(ConfigError) as caught:
        resolve_uri(TrackingConfig(uri=uri), tmp_path)
    assert caught.value.where == "tracking.uri"


def test_other_databases_get_absolute_artifacts_and_servers_none(tmp_path):
    work = tmp_path / "runs" / "a"
    assert artifacts_dir("postgresql://host/db", work) == tmp_path / "runs" / "mlflow-artifacts"
    assert artifacts_dir("http://host:5000", work) is None


def test_credentials_are_not_shown():
    assert public_uri("https://me:secret@host:5000/a?token=x") == "https://host:5000/a"
    assert public_uri("postgresql://me:secret@host/db") == "postgresql://host/db"
    assert public_uri("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
