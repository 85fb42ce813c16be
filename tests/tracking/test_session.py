"""A stage's fate becomes the status of its runs; stages of one work folder share a parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError, DataError, InterruptedByUserError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.session import open_tracker


def test_stages_are_children_of_one_parent(place):
    for stage in ("ingest", "train", "evaluate"):
        with place.open(stage, run_name="dice-lr3e-3"):
            pass
    parent = place.parent()
    assert parent.info.run_name == "dice-lr3e-3"
    assert parent.info.status == "FINISHED"
    assert [c.data.tags["stage"] for c in place.children()] == ["ingest", "train", "evaluate"]
    for child in place.children():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == "FINISHED"
        assert child.data.tags["pid"] == str(os.getpid())
        assert child.data.metrics["cost/wall_s"] > 0
        assert child.data.metrics["cost/peak_memory_mb"] > 10


def test_new_parent_has_its_own_color_and_numbers(place):
    for name in ("first", "second"):
        with place.open("train", run_name=name, new_parent=True) as tracker:
            tracker.log_metrics({"val/dice": 0.5}, step=3)
    first, second = place.parents()
    assert (first.info.run_name, second.info.run_name) == ("first", "second")
    assert first.data.tags["mlflow.runColor"] != second.data.tags["mlflow.runColor"]
    assert first.data.metrics == second.data.metrics == {"val/dice": 0.5}


def test_parent_keeps_its_name_when_a_stage_gives_none(place):
    with place.open("train", run_name="kept"):
        pass
    with place.open("infer"):
        pass
    assert place.parent().info.run_name == "kept"


def test_a_run_that_nobody_named_is_called_by_its_work_folder(place):
    with place.open("audit"):
        pass
    assert place.parent().info.run_name == place.workspace.root.name


def test_trainings_lie_below_what_was_made_of_them(place):
    keys = []
    for name in ("fold-0", "fold-1"):
        with place.open("train", run_name=name, new_parent=True) as tracker:
            keys.append(tracker.parent_key)
    members = [*keys, "nobody"]
    with place.open("cross-validation", run_name="cv", new_parent=True, members=members):
        pass
    *folds, above = place.parents()
    assert above.info.run_name == "cv"
    assert [f.data.tags["mlflow.parentRunId"] for f in folds] == [above.info.run_id] * 2
    assert "mlflow.parentRunId" not in above.data.tags
    # Each still links to its own stages, and the one above names them all.
    assert [f.info.status for f in folds] == ["FINISHED"] * 2
    for fold in folds:
        assert "Stages: [train]" in fold.data.tags["mlflow.note.content"]
    text = above.data.tags["mlflow.note.content"]
    assert "[fold-0]" in text
    assert "[cross-validation]" in text


def test_run_id_is_the_parents(place):
    with place.open() as tracker:
        assert tracker.run_id == place.parent().info.run_id
        assert place.parent().info.status == "RUNNING"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("broken"), "FAILED"),
        (ValueError("a bug"), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(0), "FINISHED"),
        (KeyboardInterrupt(), "KILLED"),
        (InterruptedByUserError("stopped"), "KILLED"),
        (SystemExit(130), "KILLED"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_status_tells_how_the_stage_ended(place, error, status):
    with pytest.raises(type(error)), place.open():
        raise error
    assert {run.info.status for run in place.runs()} == {status}


def test_sigterm_ends_the_run_as_killed(place):
    ready = place.root / f"{place.config.experiment}.ready"
    code = f"""
import time
from pathlib import Path
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.session import open_tracker
config = TrackingConfig(experiment={place.config.experiment!r})
with open_tracker(config, Workspace(Path({str(place.workspace.root)!r})), stage="train") as tracker:
    tracker.log_metrics({{"train/loss": 1.0}}, step=0)
    Path({str(ready)!r}).touch()
    time.sleep(60)
"""
    project = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=project)
    try:
        give_up_at_s = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < give_up_at_s:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    finally:
        process.kill()
        process.wait()
    assert {run.info.status for run in place.runs()} == {"KILLED"}
    assert place.parent().data.metrics == {"train/loss": 1.0}


def test_somebody_elses_sigterm_handler_stays(place):
    def mine(_number, _frame):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with place.open():
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_written_where_the_user_stands(place):
    (Path.cwd() / "mlruns" / "0").mkdir(parents=True)
    (Path.cwd() / "mlruns" / "0" / "meta.yaml").write_text("name: stray\n")  # misleads MLflow
    with place.open() as tracker:
        tracker.log_metrics({"a": 1.0})
    assert place.parent().data.metrics["a"] == 1.0
    assert sorted(p.name for p in Path.cwd().rglob("*")) == ["0", "meta.yaml", "mlruns"]


def test_tracking_can_be_off(tmp_path):
    config = TrackingConfig(enabled=False)
    with open_tracker(config, Workspace(tmp_path / "work"), stage="train") as tracker:
        assert isinstance(tracker, NullTracker)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_turns_tracking_off(tmp_path, caplog):
    (tmp_path / "work").write_text("a file where a folder should be")
    with open_tracker(TrackingConfig(), Workspace(tmp_path / "work"), stage="train") as tracker:
        assert isinstance(tracker, NullTracker)
    assert "tracking is off" in caplog.text


def test_a_store_that_mlflow_refuses_is_said_before_the_stage(tmp_path):
    config = TrackingConfig(uri="./mlruns")
    with (
        pytest.raises(ConfigError, match="is not a store"),
        open_tracker(config, Workspace(tmp_path), stage="train"),
    ):
        pass


def test_importing_tracking_does_not_import_mlflow():
    code = "import sys, pipeline.tracking.session; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
