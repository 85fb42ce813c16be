"""`voxline train --lr-find` prints what to set, in a run of its own, and trains nothing."""

import json
import re

import pytest
from phantoms import write_dataset

from pipeline.core.config import dump_yaml
from pipeline.core.errors import UsageError
from pipeline.runner.commands import run_lr_find
from pipeline.runner.lr_find import _parent_kept, describe_range
from pipeline.runner.request import Many, make_request
from pipeline.tracking.location import public_uri
from pipeline.tracking.session import find_target
from pipeline.tracking.state import begin, read_state
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
    text = describe_range(RangeResult((RangePoint(1e-6, 1.0, 1.0),), None, None, None, 2e-6), 3e-3)
    assert "No learning rate can be suggested" in text
    assert "--set" not in text


def test_a_suggestion_near_the_planned_rate_asks_for_no_change():
    text = describe_range(RangeResult((), 3.2e-3, 1e-5, 0.75, None), 3e-3)
    assert "nothing needs to be changed" in text
    assert "--sweep" not in text


def test_one_far_from_the_planned_rate_is_to_be_compared_with_it():
    text = describe_range(RangeResult((), 0.032, 1e-3, 0.9, 0.95), 3e-3)
    assert "It diverges at 0.95." in text
    assert '--sweep "train.optimizer.learning_rate=0.003,0.032"' in text
    assert "--set train.optimizer.learning_rate=0.032" in text


def state_of(request):
    return read_state(request.work / "tracking")


def test_a_test_before_any_recorded_stage_lends_no_run_to_trainings(tmp_path):
    request = make_request(None, tmp_path / "work", None, [])
    target = find_target(request.experiment.tracking, request.workspace)
    store = {"uri": public_uri(target.uri), "experiment": target.experiment}
    with _parent_kept(request):
        of_test = begin(target.folder, **store, new_parent=True).parent
    assert state_of(request).parent != of_test
    # The run that was there before the next test is the one to go on with.
    before = state_of(request).parent
    with _parent_kept(request):
        begin(target.folder, **store, new_parent=True)
    assert state_of(request).parent == before
