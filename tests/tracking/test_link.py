"""An outage costs seconds and one line, and nothing is lost."""

import os
import signal
import time

import pytest

from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.link import Link
from pipeline.tracking.location import local_uri
from pipeline.tracking.session import find_target, open_tracker
from pipeline.tracking.spool import MetricRecord, StartRecord, new_spool
from pipeline.tracking.state import begin, read_state
from pipeline.tracking.store import open_store
from pipeline.tracking.ui import running_server

DEAD_SERVER = "http://127.0.0.1:9"


def _link(place, uri: str | None = None, retry_s: float = 60.0):
    config = TrackingConfig(uri=uri, experiment=place.config.experiment, retry_s=retry_s)
    target = find_target(config, place.workspace)
    state = begin(target.folder, uri="x", experiment="y", new_parent=False)
    spool = new_spool(target.spools, 1, state.parent)
    spool.append([StartRecord(run=state.parent, time_ms=1, name="a", parent=None, tags={})])
    return Link(target, config), spool, target


def test_what_is_sent_is_remembered(place):
    link, spool, target = _link(place)
    assert link.send(spool, final=False)
    assert list(spool.pending()) == []
    state = read_state(target.folder)
    assert state.run_ids == {state.parent: place.runs()[0].info.run_id}


def test_a_failure_is_not_repeated_at_once_except_at_the_end(place, caplog):
    link, spool, target = _link(place, DEAD_SERVER)
    started_s = time.monotonic()
    assert not link.send(spool, final=False)
    not_before_s = link._not_before_s
    assert not_before_s > started_s + 59
    assert not link.send(spool, final=False)
    assert link._not_before_s == not_before_s  # it did not even try
    assert not link.send(spool, final=True)
    assert link._not_before_s > not_before_s
    assert caplog.text.count("does not take results") == 1
    assert str(target.folder) in caplog.text


def test_pauses_grow_and_end_with_success(place):
    link, spool, _ = _link(place, DEAD_SERVER)
    pauses_s = []
    for _ in range(6):
        link.send(spool, final=True)
        pauses_s.append(round(link._not_before_s - time.monotonic(), -1))
    assert pauses_s == [60, 120, 240, 480, 600, 600]


def test_a_dead_server_does_not_slow_a_stage_down(place, caplog):
    config = TrackingConfig(uri=DEAD_SERVER, flush_s=0.0)
    started_s = time.monotonic()
    with open_tracker(config, place.workspace, stage="train") as tracker:
        for step in range(300):
            tracker.log_metrics({"train/loss": 1.0}, step=step)
            tracker.flush()
        assert tracker.run_id is None
    assert time.monotonic() - started_s < 5
    assert caplog.text.count("WARNING") == 1


@pytest.fixture(scope="module")
def served(empty_root):
    """Root of a database of its own, of which servers can be killed."""
    folder = empty_root("served")
    open_store(local_uri(folder), "voxline", folder / "mlflow-artifacts")
    return folder


def test_a_server_killed_in_the_middle_loses_nothing(served, tmp_path, caplog):
    work = Workspace(tmp_path / "work")
    report = tmp_path / "report.html"
    report.write_text("report")
    with running_server(local_uri(served), served, 0) as server:
        config = TrackingConfig(uri=server.address, retry_s=0.5, flush_s=0.0)
        with open_tracker(config, work, stage="train", run_name="killed") as tracker:
            for step in range(40):
                if step == 15:
                    os.killpg(server.process.pid, signal.SIGKILL)
                    server.process.wait()
                tracker.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
            tracker.log_file(report, headline=True)
            run_id = tracker.run_id
    assert caplog.text.count("does not take results") == 1
    client = open_store(local_uri(served), "voxline", None).client
    assert client.get_run(run_id).info.status == "RUNNING"
    port = int(server.address.rpartition(":")[2])
    with (
        running_server(local_uri(served), served, port) as again,
        open_tracker(config, work, stage="evaluate") as tracker,
    ):
        assert again.address == server.address
        tracker.log_metrics({"test/dice": 0.9})
        assert tracker.run_id == run_id
    points = client.get_metric_history(run_id, "train/loss")
    assert [(p.step, p.value) for p in points] == [(s, 1.0 / (s + 1)) for s in range(40)]
    assert client.get_run(run_id).data.metrics["test/dice"] == 0.9
    assert [f.path for f in client.list_artifacts(run_id)] == ["report.html"]
    runs = client.search_runs([client.get_run(run_id).info.experiment_id])
    assert sorted((r.info.run_name, r.info.status) for r in runs) == [
        ("evaluate", "FINISHED"),
        ("killed", "FINISHED"),
        ("train", "FINISHED"),
    ]


def test_spools_of_one_store_do_not_go_to_another(place):
    link, spool, _ = _link(place, DEAD_SERVER)
    link.send(spool, final=True)
    with place.open() as tracker:
        tracker.log_metrics({"a": 1.0})
    assert len(place.parents()) == 1
    assert list(spool.pending()) != []


def test_a_spool_with_a_foreign_record_is_sent_all_the_same(place):
    link, spool, _ = _link(place)
    spool.append([MetricRecord(run="nobody", time_ms=1, key="a", value=1.0, step=0)])
    assert link.send(spool, final=False)
