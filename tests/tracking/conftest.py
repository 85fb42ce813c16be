"""One database for all tests here, because making one takes seconds; an experiment per test."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import local_uri, prepare_environment
from pipeline.tracking.session import open_tracker
from pipeline.tracking.store import Store, open_store


@dataclass(frozen=True)
class Place:
    """A work folder whose runs go to an experiment of its own."""

    root: Path
    config: TrackingConfig

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / self.config.experiment)

    @property
    def store(self) -> Store:
        artifacts = self.root / "mlflow-artifacts"
        return open_store(local_uri(self.root), self.config.experiment, artifacts)

    @property
    def client(self) -> MlflowClient:
        return self.store.client

    def open(self, stage="train", **more):
        return open_tracker(self.config, self.workspace, stage=stage, **more)

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return list(
            self.client.search_runs(
                [self.store.experiment_id], order_by=["attributes.start_time ASC"]
            )
        )

    def parents(self) -> list[Run]:
        return [r for r in self.runs() if r.data.tags["stage"] == "pipeline"]

    def parent(self) -> Run:
        (run,) = self.parents()
        return run

    def children(self) -> list[Run]:
        return [r for r in self.runs() if r.data.tags["stage"] != "pipeline"]

    def points(self, run_id: str, key: str) -> list[tuple[int, float]]:
        history = self.client.get_metric_history(run_id, key)
        return [(point.step, point.value) for point in history]


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    prepare_environment()
    folder = tmp_path_factory.mktemp("runs")
    open_store(local_uri(folder), "template", folder / "mlflow-artifacts")
    return folder


@pytest.fixture(scope="session")
def empty_root(root, tmp_path_factory) -> Callable[[str], Path]:
    """Makes folders with a database of their own, as copies: making the tables takes seconds."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        with (
            closing(sqlite3.connect(root / "mlflow.db")) as source,
            closing(sqlite3.connect(folder / "mlflow.db")) as copy,
        ):
            source.backup(copy)
        return folder

    return make


@pytest.fixture
def place(root, request, monkeypatch, tmp_path) -> Place:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    name = request.node.name.replace("[", "-").strip("]")
    return Place(root, TrackingConfig(experiment=f"{request.module.__name__}-{name}"))
