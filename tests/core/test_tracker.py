"""The tracker that tracks nothing has the shape of one that does."""

import inspect
from pathlib import Path

from pipeline.core.tracker import NullTracker, Tracker

METHODS = [name for name in vars(Tracker) if not name.startswith("_")]


def test_null_tracker_has_every_method_with_the_same_signature():
    assert METHODS
    for name in METHODS:
        declared, found = getattr(Tracker, name), getattr(NullTracker, name)
        if isinstance(declared, property):
            assert isinstance(found, property)
            continue
        expected = list(inspect.signature(declared).parameters.values())
        assert list(inspect.signature(found).parameters.values()) == expected


def test_null_tracker_does_nothing_quietly(tmp_path: Path, capsys):
    tracker: Tracker = NullTracker()
    tracker.log_params({"seed": 1})
    tracker.log_metrics({"dice": None, "loss": float("nan")}, step=3)
    tracker.log_file(tmp_path / "absent.txt")
    tracker.log_picture(tmp_path / "absent.png", key="overlay", step=0)
    tracker.set_tags({"a": "b"})
    tracker.log_dataset(name="x", digest="1", context="train")
    tracker.flush()
    assert tracker.run_id is None
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
