"""First use by many processes at once, and quick failure."""

import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.location import local_uri
from pipeline.tracking.store import is_refusal, open_store, probe

N_PROCESSES = 4


def test_four_processes_may_open_a_fresh_database_at_once(tmp_path):
    code = f"""
import sys
from pathlib import Path
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.session import open_tracker
work = Workspace(Path({str(tmp_path)!r}) / sys.argv[1])
with open_tracker(TrackingConfig(), work, stage="train", run_name=sys.argv[1]) as tracker:
    for step in range(5):
        tracker.log_metrics({{"train/loss": float(step)}}, step=step)
        tracker.flush()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"w{n}"],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(N_PROCESSES)
    ]
    messages = [process.communicate(timeout=120)[1] for process in processes]
    assert messages == [""] * N_PROCESSES
    store = open_store(local_uri(tmp_path), "voxline", None)
    runs = store.client.search_runs([store.experiment_id])
    assert len(runs) == 2 * N_PROCESSES
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.data.tags["stage"] == "pipeline":
            points = store.client.get_metric_history(run.info.run_id, "train/loss")
            assert [p.step for p in points] == [0, 1, 2, 3, 4]
    assert len({run.data.tags.get("mlflow.runColor") for run in runs}) > 1


def test_the_database_lets_readers_read_while_it_is_written(place):
    place.store  # noqa: B018 - opens it
    with closing(sqlite3.connect(place.root / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_deleted_experiment_comes_back(place):
    store = place.store
    store.client.delete_experiment(store.experiment_id)
    assert place.store.experiment_id == store.experiment_id


def test_artifacts_lie_at_an_absolute_place(place):
    experiment = place.client.get_experiment(place.store.experiment_id)
    assert experiment.artifact_location == (place.root / "mlflow-artifacts").as_uri()


def test_a_locked_database_is_noticed_in_seconds(place):
    uri = local_uri(place.root)
    probe(uri)
    started_s = time.monotonic()
    with closing(sqlite3.connect(place.root / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            probe(uri)
    assert time.monotonic() - started_s < 8
    probe(uri)


def test_a_server_that_is_not_there_or_says_nothing_is_noticed_in_seconds():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(OSError, match="refused"):
            probe(f"http://127.0.0.1:{port}")
        silent.listen()
        started_s = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            probe(f"http://127.0.0.1:{port}")
        assert time.monotonic() - started_s < 8


def test_refusals_are_told_from_outages(place):
    with pytest.raises(MlflowException) as caught:
        place.client.log_param("0" * 32, "a", "b")
    assert is_refusal(caught.value)
    assert not is_refusal(MlflowException("no answer"))
    assert not is_refusal(OSError("refused"))


def test_a_file_that_is_no_database_is_noticed_at_once(tmp_path):
    (tmp_path / "mlflow.db").write_text("x" * 5000)
    started_s = time.monotonic()
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_store(local_uri(tmp_path), "voxline", None)
    assert time.monotonic() - started_s < 5
