"""What stands around one training, and above several."""

import json
from dataclasses import replace

import pytest

from pipeline.artifacts import ModelCard, ModelInfo, Plan
from pipeline.core.workspace import TRACKING_PARENT, Workspace
from pipeline.runner.request import make_request
from pipeline.runner.training import (
    Group,
    _has_training,
    cost_of,
    group_key,
    group_run,
    run_name,
    shelve_other,
    tracking_parent,
)


def group_of(folder, *run_keys: str) -> Group:
    # Nothing else of a card is looked at here.
    cards = [ModelCard.model_construct(run_key=key) for key in run_keys]
    return Group("seeds", folder, "2seeds", cards, [folder.parent / "fold_0"])


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["train.steps=50"], "dice_ce-50steps-lr0.01-f0-s0-work"),
        (["train.epochs=2.5", "train.loss.kind=dice"], "dice-2.5ep-lr0.01-f0-s0-work"),
        (["train.budget_minutes=15", "train.seed=3"], "dice_ce-15min-lr0.01-f0-s3-work"),
        ([], "dice_ce-auto-lr0.01-f0-s0-work"),
    ],
)
def test_the_name_of_a_run_begins_with_what_differs(tmp_path, overrides, name):
    request = make_request(None, tmp_path / "work", None, overrides)
    assert run_name(request, 0.01) == name


def test_the_result_of_other_trainings_is_kept(tmp_path):
    request = make_request(None, tmp_path, None, ["tracking.enabled=false"])
    folder, shelf = tmp_path / "train" / "seeds_fold_0", tmp_path / "train" / "archive"
    for number, keys in enumerate((("a", "b"), ("a", "c"), ("d",))):
        group = group_of(folder, *keys)
        assert group_key(folder) != group.key
        shelve_other(group, shelf)
        assert not folder.exists()
        with group_run(request, group):
            (folder / "summary.json").write_text(str(number))
        assert group_key(folder) == group.key
        shelve_other(group, shelf)
        assert (folder / "summary.json").read_text() == str(number)
    kept = sorted(shelf.iterdir())
    assert [k.name for k in kept] == ["seeds_fold_0-001", "seeds_fold_0-002"]
    assert [(k / "summary.json").read_text() for k in kept] == ["0", "1"]


def test_a_result_that_was_not_finished_is_made_again_in_place(tmp_path):
    request = make_request(None, tmp_path, None, ["tracking.enabled=false"])
    group = group_of(tmp_path / "train" / "seeds_fold_0", "a")

    def fail() -> None:
        with group_run(request, group):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert json.loads((group.folder / "result.json").read_text())["status"] == "failed"
    assert group_key(group.folder) == ""
    shelve_other(group, tmp_path / "archive")
    assert group.folder.is_dir()


def test_what_trainings_cost_together_is_their_sum():
    cards = [
        ModelCard.model_construct(
            training_minutes=minutes,
            info=ModelInfo.model_construct(plan=Plan.model_construct(device=device)),
        )
        for minutes, device in ((30.0, "cuda"), (60.0, "cpu"), (15.0, "cuda"))
    ]
    assert cost_of(cards) == {"cost/training_min": 105.0, "cost/gpu_hours": 0.75}


def test_a_training_that_broke_down_early_has_taken_its_run_too(tmp_path):
    workspace = Workspace(tmp_path)
    assert not _has_training(workspace)
    folder = replace(workspace, train_root=tmp_path / "sweeps" / "g" / "a" / "train").fold_dir("0")
    folder.mkdir(parents=True)
    (folder / TRACKING_PARENT).write_text("abc")
    assert _has_training(workspace)


def test_the_parent_run_is_known_by_a_file(tmp_path):
    assert tracking_parent(tmp_path) is None
    (tmp_path / TRACKING_PARENT).write_text("abc\n")
    assert tracking_parent(tmp_path) == "abc"
