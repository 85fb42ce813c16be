"""`voxline train --lr-find` prints what to set, in a run of its own, and trains nothing."""

import json
import re

import pytest
from phantoms import write_dataset

from pipeline.core.config import dump_yaml
from pipeline.core.errors import UsageError
from pipeline.runner.commands import run_lr_find
from pipeline.runner.lr_find import describe_range
from pipeline.runner.request import Many, make_request
from pipeline.train.lr_find import RangePoint, RangeResult

QUICK = [
    *("train.steps=4", "train.device=cpu", "train.patch_size=[16,16,16]"),
    *("train.network.base_features=4", "train.network.max_features=8", "audit.max_pictures=0"),
]


def request_for(tmp_path):
    data = write_dataset(tmp_path / "data", 6, 0)
    return make_request(data, tmp_path / "work", None, QUICK)


def parent_of(work):
    return json.loads((work / "tracking" / "state.json").read_text())["parent"]


@pytest.mark.slow  # ingest, audit and MLflow
def test_the_suggestion_can_be_set_and_later_stages_keep_their_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pipeline.train.lr_find.N_STEPS", 24)
    request = request_for(tmp_path)
    from pipeline.runner.commands import audit_dataset

    audit_dataset(request)
    before = parent_of(tmp_path / "work")
    status = run_lr_find(request, Many())
    out = capsys.readouterr().out
    assert parent_of(tmp_path / "work") == before
    assert list((tmp_path / "work" / "tracking").glob("parent-*.json"))
    assert not list((tmp_path / "work" / "train").glob("fold_*"))
    assert str(tmp_path / "work" / "train" / "lr_find" / "curve.png") in out
    if status == 0:
        found = re.search(r"--set (train\.optimizer\.learning_rate=\S+)", out)
        changed = make_request(None, tmp_path / "work", None, [*QUICK, found.group(1)])
        assert 1e-6 <= changed.experiment.train.optimizer.learning_rate <= 1
        assert "learning_rate" in dump_yaml(changed.experiment)


def test_it_looks_at_one_training(tmp_path):
    request = request_for(tmp_path)
    with pytest.raises(UsageError, match="one training"):
        run_lr_find(request, Many(n_seeds=3))
    with pytest.raises(UsageError, match="one training"):
        run_lr_find(request, Many(), preflight_only=True)


def test_a_test_without_a_suggestion_says_so():
    text = describe_range(RangeResult((RangePoint(1e-6, 1.0, 1.0),), None, None, 2e-6))
    assert "No learning rate can be suggested" in text
    assert "--set" not in text


def test_divergence_is_named():
    text = describe_range(RangeResult((), 3.2e-3, 5e-3, 0.25))
    assert "It diverges at 0.25." in text
    assert "--set train.optimizer.learning_rate=0.0032" in text
