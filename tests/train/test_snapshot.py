"""A training that dies at any step goes on from its checkpoint as if nothing had happened."""

import json

import pytest
import torch
from workfolders import audited, quick, sharing

from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state, save_state
from pipeline.train.growth import stage_at
from pipeline.train.learner import Learner
from pipeline.train.select import select_training
from pipeline.train.stage import train

CPU = torch.device("cpu")
N_STEPS = 6
GROWING = {"patch_size": [24, 24, 16], "growth_stages": 3, "n_validations": 2}
TINY = {"base_features": 4, "max_features": 8}
# Dropout draws, batch normalization keeps statistics.
DRAWING = {"network": {"kind": "unet", **TINY, "args": {"dropout": 0.3, "norm": "batch"}}}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("snapshot"))


def run(workspace: Workspace, **changes: object) -> None:
    # A checkpoint after every step; nothing depends on how much memory is free at the moment.
    usual = {"checkpoint_minutes": 1e-9, "cleanup": False, "probe": False, "batch_size": 2}
    config = quick(**{"steps": N_STEPS, **usual, **changes})
    train(select_training(config, workspace), workspace, NullTracker())


def state_of(workspace: Workspace) -> dict:
    return load_state(workspace.fold_dir("0") / "last.pt", CPU)


def die_before(patch, step: int) -> None:
    """End the process, as far as the training can tell, instead of taking a step."""
    real, count = Learner.step, iter(range(step))

    def dying(self, batch, rate, *_):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return real(self, batch, rate)

    patch.setattr(Learner, "step", dying)


def assert_same_end(one: Workspace, two: Workspace) -> None:
    first, second = state_of(one)["learner"], state_of(two)["learner"]
    for part in ("network", "averaged"):
        assert first[part].keys() == second[part].keys()
        assert [n for n, w in first[part].items() if not torch.equal(w, second[part][n])] == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"growth": "patch", **GROWING}, id="growing patches"),
        pytest.param({"growth": "resize", **GROWING}, id="growing resolution"),
        pytest.param(DRAWING, id="dropout and running statistics"),
    ],
)
def test_dying_on_the_way_changes_nothing(pristine, tmp_path, monkeypatch, changes):
    calm, dying = (sharing(pristine, tmp_path / name) for name in ("calm", "dying"))
    run(calm, **changes)
    for n_steps in (1, 3):
        with monkeypatch.context() as patch:
            die_before(patch, n_steps)
            with pytest.raises(KeyboardInterrupt):
                run(dying, **changes)
    run(dying, **changes)
    assert_same_end(calm, dying)


@pytest.mark.parametrize("growth", ["patch", "resize"])
def test_the_growth_above_happens_within_the_steps_above(pristine, growth):
    stages = select_training(quick(growth=growth, **GROWING), pristine).plan.growth
    sizes = [stage_at(stages, step / N_STEPS).patch_size for step in range(N_STEPS)]
    assert sizes[2] != sizes[3]
    assert sizes[3] == sizes[-1] == tuple(GROWING["patch_size"])


def test_a_checkpoint_without_the_newer_fields_goes_on(pristine, tmp_path, monkeypatch):
    workspace = sharing(pristine, tmp_path / "work")
    with monkeypatch.context() as patch:
        die_before(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(workspace)
    state = state_of(workspace)
    loop = json.loads(state["loop"])
    loop.pop("picture_s", None)
    older = {**state, "loop": json.dumps(loop)}
    older.pop("format")
    save_state(workspace.fold_dir("0") / "last.pt", older)
    run(workspace)
    assert json.loads(state_of(workspace)["loop"])["step"] == N_STEPS
