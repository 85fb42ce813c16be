"""A class that collapses under an overlap alone gets cross-entropy, once, and keeps it."""

import logging

import pytest
import torch
from models_builders import model_info
from pydantic import ValidationError
from workfolders import audited, quick

from pipeline.artifacts import Findings, read_artifact
from pipeline.core.errors import InterruptedByUserError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state
from pipeline.train import collapse, rounds
from pipeline.train.collapse import with_cross_entropy
from pipeline.train.config import LossConfig
from pipeline.train.guard import ClassShares
from pipeline.train.learner import Learner
from pipeline.train.select import select_training
from pipeline.train.stage import train

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"kind": "dice"}, "dice_ce"),
        ({"kind": "generalized_dice"}, "generalized_dice_ce"),
        ({"kind": "tversky", "tversky_alpha": 0.1}, "tversky_ce"),
        ({"kind": "focal_tversky", "tversky_gamma": 2.0}, "focal_tversky_ce"),
        ({"kind": "dice_focal", "ce_weight": 0.0, "focal_gamma": 3.0}, "dice_ce"),
        ({"kind": "tversky_ce", "ce_weight": 0.0}, "tversky_ce"),
    ],
)
def test_the_overlap_stays_what_it_was(before, after):
    config = LossConfig.model_validate({**before, "batch_dice": False})
    switched = with_cross_entropy(config)
    assert switched is not None
    assert (switched.kind, switched.ce_weight) == (after, 1.0)
    assert switched.has_voxel_term
    assert switched.has_background_dice == config.has_background_dice
    assert switched.batch_dice is False
    assert switched.tversky_alpha == config.tversky_alpha
    assert switched.tversky_gamma == config.tversky_gamma
    # What a checkpoint keeps is what a configuration may say.
    assert LossConfig.model_validate_json(switched.model_dump_json()) == switched
    assert with_cross_entropy(switched) is None


@pytest.mark.parametrize("kind", ["dice_ce", "ce", "dice_focal", "tversky_ce"])
def test_a_loss_that_counts_every_voxel_is_kept(kind):
    assert with_cross_entropy(LossConfig(kind=kind)) is None


def test_a_loss_of_monai_cannot_be_switched_and_the_configuration_says_so():
    with pytest.raises(ValidationError, match="on_collapse"):
        quick(on_collapse="dice_ce", loss={"kind": "monai", "name": "DiceLoss"})


def test_a_state_carries_the_loss():
    info, config = model_info(), quick(loss={"kind": "dice"})
    one, two = (Learner(info.plan, info.task, config, CPU) for _ in range(2))
    switched = with_cross_entropy(config.loss)
    assert switched is not None
    one.take_loss(switched)
    two.restore(one.state())
    assert two.loss_config == switched
    logits = torch.randn((1, 3, 4, 4, 4))
    label = torch.zeros((1, 4, 4, 4), dtype=torch.int64)
    assert two.loss(logits, label).total == one.loss(logits, label).total


# --- in a training ---------------------------------------------------------------------------


class Tags(NullTracker):
    """Remembers tags."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_tags(self, tags):
        self.tags.update(tags)


@pytest.fixture(scope="module")
def audited_workspace(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("collapse"), n_cases=4)


@pytest.fixture
def workspace(audited_workspace, tmp_path) -> Workspace:
    own = Workspace(tmp_path / "work")
    own.root.mkdir()
    for name in ("ingest", "audit"):
        (own.root / name).symlink_to(audited_workspace.root / name)
    return own


@pytest.fixture
def blank(monkeypatch):
    """Every validation says that nothing was found."""
    measured = rounds.predicted_shares

    def nothing(*args):
        shares = measured(*args)
        return {name: ClassShares(0.0, share.reference) for name, share in shares.items()}

    monkeypatch.setattr(rounds, "predicted_shares", nothing)


def config_of(**changes):
    values = {
        "steps": 8,
        "n_validations": 4,
        "n_validation_cases": 1,
        "loss": {"kind": "dice"},
        "on_collapse": "dice_ce",
    }
    return quick(**{**values, **changes})


def state_of(workspace):
    return load_state(workspace.fold_dir("0") / "last.pt", CPU)


def kind_in(workspace) -> str:
    return LossConfig.model_validate_json(state_of(workspace)["learner"]["loss"]).kind


def answers(workspace) -> list[str]:
    file = workspace.fold_dir("0") / "guard.json"
    found = read_artifact(file, Findings, made_by="train").findings
    return [str(f.evidence["loss"]) for f in found if "loss" in f.evidence]


@pytest.mark.usefixtures("blank")
def test_a_blank_answer_brings_cross_entropy_in_and_says_so(workspace, caplog):
    tracker = Tags()
    with caplog.at_level(logging.WARNING, logger="pipeline.train.collapse"):
        train(select_training(config_of(), workspace), workspace, tracker)
    assert kind_in(workspace) == "dice_ce"
    done = "dice_ce instead of dice from step 4"
    assert tracker.tags["guard.loss_switched"] == done
    # Both classes of the phantom are nowhere.
    assert answers(workspace) == [done, done]
    (record,) = [r for r in caplog.records if r.name == "pipeline.train.collapse"]
    assert "predicted nowhere in 2 validations" in record.getMessage()
    assert "no slope there" in record.getMessage()


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    "changes",
    [{"on_collapse": "warn"}, {"loss": {"kind": "dice_ce"}}, {"n_validations": 2}],
    ids=["not told to", "has it already", "found after the last step"],
)
def test_otherwise_the_loss_stays(workspace, changes):
    config = config_of(**changes)
    tracker = Tags()
    train(select_training(config, workspace), workspace, tracker)
    assert kind_in(workspace) == config.loss.kind
    assert answers(workspace) == []
    assert "guard.loss_switched" not in tracker.tags


def test_a_healthy_training_keeps_its_loss(workspace, monkeypatch):
    def found(_scores, _cases, names):
        return dict.fromkeys(names, ClassShares(0.02, 0.02))

    monkeypatch.setattr(rounds, "predicted_shares", found)
    train(select_training(config_of(), workspace), workspace, NullTracker())
    assert kind_in(workspace) == "dice"


@pytest.mark.usefixtures("blank")
def test_an_interrupted_training_goes_on_with_the_loss_it_had(
    workspace, audited_workspace, tmp_path, monkeypatch
):
    config = config_of()
    train(select_training(config, workspace), workspace, NullTracker())
    expected = state_of(workspace)["learner"]["network"]

    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    for name in ("ingest", "audit"):
        (other.root / name).symlink_to(audited_workspace.root / name)
    step = Learner.step

    def interrupted(self, batch, rate, *_):
        if self.loss_config.kind == "dice_ce":
            raise InterruptedByUserError("right after the switch")
        return step(self, batch, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        with pytest.raises(InterruptedByUserError):
            train(select_training(config, other), other, NullTracker())
    assert kind_in(other) == "dice_ce"
    switched = []
    monkeypatch.setattr(collapse, "share_start", switched.append)
    train(select_training(config, other), other, NullTracker())
    # Restored, not switched a second time.
    assert switched == []
    resumed = state_of(other)["learner"]["network"]
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_training_that_really_fills_everything_is_brought_back(workspace):
    """False positives cost nothing here: only cross-entropy teaches what background is."""
    config = config_of(
        ema_decay=0.0,
        loss={
            "kind": "tversky",
            "tversky_alpha": 0.0,
            "tversky_beta": 1.0,
            "include_background": False,
        },
        optimizer={"learning_rate": 0.1, "warmup_fraction": 0.0},
    )
    train(select_training(config, workspace), workspace, NullTracker())
    assert kind_in(workspace) == "tversky_ce"


def test_losses_from_before_are_no_measure_for_those_to_come(workspace, blank, monkeypatch):
    seen = []
    answer = rounds.answer_collapse

    def spied(parts, state, found):
        state.guard.first_loss = 0.1
        answer(parts, state, found)
        seen.append((state.guard.losses == [], state.guard.first_loss))

    monkeypatch.setattr(rounds, "answer_collapse", spied)
    train(select_training(config_of(), workspace), workspace, NullTracker())
    assert seen == [(False, 0.1), (True, None), (False, 0.1), (False, 0.1)]
