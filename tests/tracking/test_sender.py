"""Sending again changes nothing; what MLflow refuses does not take the rest along."""

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.sender import Sender
from pipeline.tracking.spool import (
    EndRecord,
    FileRecord,
    MetricRecord,
    ParamRecord,
    Spool,
    StartRecord,
    TagRecord,
)


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool.jsonl")


def _sender(place, known=None):
    learned = {}
    return Sender(place.store, known or {}, learned.__setitem__), learned


def _start(key="p", parent=None, stage="pipeline"):
    return StartRecord(run=key, time_ms=1000, name=key, parent=parent, tags={"stage": stage})


def _metric(step, value=0.5, key="p"):
    return MetricRecord(run=key, time_ms=2000 + step, key="loss", value=value, step=step)


def _whole(file):
    (file.parent / "report.html").write_text("report")
    return [
        _start(),
        _start("c", "p", "train"),
        *(_metric(n) for n in range(4)),
        ParamRecord(run="p", time_ms=1, key="lr", value="0.1"),
        TagRecord(run="c", time_ms=1, key="note", value="x"),
        FileRecord(run="p", time_ms=1, file=file.parent / "report.html", folder=""),
        _metric(4),
        EndRecord(run="c", time_ms=9000, status="FINISHED"),
        EndRecord(run="p", time_ms=9000, status="FINISHED"),
    ]


def test_sending_twice_is_sending_once(place, spool):
    spool.append(_whole(spool.file))
    sender, learned = _sender(place)
    assert sender.send(spool) == 12
    assert sender.send(spool) == 0
    spool.acknowledge(0)  # the process died before it could take note
    other, learned_again = _sender(place)
    assert other.send(spool) == 12
    assert learned_again == learned
    assert len(place.runs()) == 2
    run = place.parent()
    assert [step for step, _ in place.points(run.info.run_id, "loss")] == [0, 1, 2, 3, 4]
    assert (run.info.status, run.info.end_time) == ("FINISHED", 9000)


def test_sending_goes_on_where_it_stopped(place, spool):
    records = _whole(spool.file)
    for record in records:
        spool.append([record])
        _sender(place)[0].send(spool)
    assert len(place.runs()) == 2
    assert len(place.points(place.parent().info.run_id, "loss")) == 5


def test_a_refused_value_does_not_take_the_rest_along(place, spool, caplog):
    spool.append(
        [
            _start(),
            ParamRecord(run="p", time_ms=1, key="lr", value="0.1"),
            EndRecord(run="p", time_ms=1, status="FAILED"),
            ParamRecord(run="p", time_ms=1, key="lr", value="0.2"),  # MLflow keeps the first
            ParamRecord(run="p", time_ms=1, key="momentum", value="0.9"),
            _metric(0),
            TagRecord(run="p", time_ms=1, key="note", value="x"),
        ]
    )
    _sender(place)[0].send(spool)
    run = place.parent()
    assert run.data.params == {"lr": "0.1", "momentum": "0.9"}
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.tags["note"] == "x"
    assert caplog.text.count("does not take") == 1


def test_a_run_deleted_in_the_ui_is_begun_again(place, spool):
    spool.append([_start(), _metric(0)])
    first, known = _sender(place)
    first.send(spool)
    place.client.delete_run(known["p"])
    spool.append([_start(), _metric(1)])
    _sender(place, known)[0].send(spool)
    run = place.parent()
    assert run.info.run_id != known["p"]
    assert place.points(run.info.run_id, "loss") == [(1, 0.5)]


def test_a_run_deleted_while_it_is_recorded_does_not_stop_the_others(place, spool, caplog):
    spool.append([_start(), _start("c", "p", "train"), _metric(0)])
    sender, known = _sender(place)
    sender.send(spool)
    place.client.delete_run(known["c"])
    spool.append([_metric(1, key="c"), _metric(2, key="c"), _metric(3)])
    sender.send(spool)
    assert [step for step, _ in place.points(known["p"], "loss")] == [0, 3]
    assert caplog.text.count("tracking:") == 1


def test_what_was_sent_before_a_failure_is_acknowledged(place, spool, tmp_path):
    (tmp_path / "report.html").write_text("report")
    report = FileRecord(run="p", time_ms=1, file=tmp_path / "report.html", folder="blocked")
    spool.append([_start(), _metric(0), report, _metric(1)])
    sender, known = _sender(place)
    # A file where the artifact folder should be: the store answers, uploads fail.
    blocked = place.root / "mlflow-artifacts"
    moved = blocked.with_name("moved")
    blocked.mkdir(exist_ok=True)
    blocked.rename(moved)
    blocked.write_text("")
    try:
        for _ in range(2):
            with pytest.raises((OSError, MlflowException)):
                sender.send(spool)
            assert place.points(known["p"], "loss") == [(0, 0.5)]
        sender.send(spool)  # the third time the file is given up, and the rest gets through
    finally:
        blocked.unlink()
        moved.rename(blocked)
    assert place.points(known["p"], "loss") == [(0, 0.5), (1, 0.5)]
