"""Runs whose process is gone are ended; all others are left alone."""

import subprocess
import sys
from pathlib import Path

import psutil

from pipeline.tracking.processes import this_machine, this_process
from pipeline.tracking.stale import end_stale_runs


def _gone() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return f"{this_machine()}/{process.pid}/{psutil.Process(process.pid).create_time():.1f}"


def test_only_runs_of_dead_processes_are_ended(place):
    store = place.store
    dead = _gone()
    tags = {
        "dead": {"voxline.process": dead, "voxline.heartbeat": "123456"},
        "dead at once": {"voxline.process": dead},
        "alive": {"voxline.process": this_process()},
        "elsewhere": {"voxline.process": "other/1/99/1.0"},
        "somebody else's": {},
    }
    ids = {
        name: store.client.create_run(store.experiment_id, 1000, tags=t).info.run_id
        for name, t in tags.items()
    }
    finished = store.client.create_run(store.experiment_id, tags=tags["dead"]).info.run_id
    store.client.set_terminated(finished, "FINISHED")

    assert set(end_stale_runs(store)) == {ids["dead"], ids["dead at once"]}
    assert end_stale_runs(store) == []
    found = {name: store.client.get_run(run_id).info for name, run_id in ids.items()}
    assert (found["dead"].status, found["dead"].end_time) == ("KILLED", 123456)
    assert (found["dead at once"].status, found["dead at once"].end_time) == ("KILLED", 1000)
    for name in ("alive", "elsewhere", "somebody else's"):
        assert found[name].status == "RUNNING"
    assert store.client.get_run(finished).info.status == "FINISHED"


def test_the_next_stage_ends_what_sigkill_left_and_sends_what_it_kept(place):
    code = f"""
import os, signal
from pathlib import Path
from pipeline.core.workspace import Workspace
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.session import open_tracker
config = TrackingConfig(experiment={place.config.experiment!r}, flush_s=1e9)
with open_tracker(config, Workspace(Path({str(place.workspace.root)!r})), stage="train") as tracker:
    for step in range(10):
        tracker.log_metrics({{"train/loss": float(step)}}, step=step)
        if step == 4:
            tracker.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert [run.info.status for run in place.runs()] == ["RUNNING"] * 2
    parent = place.parent().info.run_id
    assert len(place.points(parent, "train/loss")) == 5
    with place.open("train") as tracker:
        for step in range(8, 12):
            tracker.log_metrics({"train/loss": float(step)}, step=step)
    assert [c.info.status for c in place.children()] == ["KILLED", "FINISHED"]
    assert [step for step, _ in place.points(parent, "train/loss")] == list(range(12))
    assert place.parent().info.status == "FINISHED"
