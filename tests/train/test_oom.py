"""Memory that runs out in the middle: a smaller batch, once, and the training goes on."""

import pytest
import torch
from workfolders import audited, quick, sharing

from pipeline.artifacts import ModelCard, read_artifact
from pipeline.core.errors import InterruptedByUserError, TrainingError
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state
from pipeline.models.device import is_out_of_memory
from pipeline.train import stage
from pipeline.train.data import Batch
from pipeline.train.learner import Learner, StepResult
from pipeline.train.oom import smaller
from pipeline.train.select import select_training
from pipeline.train.stage import train


class Tags(NullTracker):
    """Remembers what is set."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def set_tags(self, tags) -> None:
        self.tags |= tags


class Full:
    """A device that is too small for some steps: raises as torch does, where torch does."""

    def __init__(self, monkeypatch, *, at: set[int], error=torch.OutOfMemoryError) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._at, self._error = at, error
        self._real = Learner.step
        monkeypatch.setattr(Learner, "step", lambda *args: self._step(*args))

    def _step(self, learner: Learner, batch: Batch, rate: float, *_: object) -> StepResult:
        self.shapes.append(tuple(batch.label.shape))
        if len(self.shapes) - 1 in self._at:
            raise self._error("DefaultCPUAllocator: not enough memory: you tried to allocate 9 GB")
        return self._real(learner, batch, rate)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Workspace:
    return audited(tmp_path_factory.mktemp("oom"))


@pytest.fixture
def workspace(pristine, tmp_path) -> Workspace:
    return sharing(pristine, tmp_path / "work")


def run(workspace: Workspace, tracker=None, **changes):
    usual = {"steps": 6, "n_validations": 1, "batch_size": 4, "cleanup": False}
    config = quick(**(usual | changes))
    return train(select_training(config, workspace), workspace, tracker or NullTracker())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_the_batch_is_halved_and_training_goes_on(workspace, monkeypatch, caplog, error):
    full = Full(monkeypatch, at={3}, error=error)
    tracker = Tags()
    result = run(workspace, tracker)
    assert [shape[0] for shape in full.shapes] == [4, 4, 4, 4, 2, 2, 2]
    assert result.card.n_steps == 6
    said = "memory ran out at step 3: batch 2, patch 16 x 16 x 16 from there on"
    assert said in caplog.text
    assert tracker.tags["guard.out_of_memory"] == said
    # In the card and in the model file, not in the plan that a resumed training is compared with.
    card_file = workspace.fold_dir("0") / "model_card.json"
    card = read_artifact(card_file, ModelCard, made_by="train")
    assert card.info.plan.reasons[-1] == said
    assert card.info.plan.batch_size == 4
    assert run(workspace).was_already_done


def test_an_undisturbed_training_has_no_such_note(workspace):
    tracker = Tags()
    result = run(workspace, tracker)
    assert "guard.out_of_memory" not in tracker.tags
    assert not any("ran out" in reason for reason in result.card.info.plan.reasons)


def test_a_resumed_training_keeps_the_smaller_batch(workspace, monkeypatch):
    full = Full(monkeypatch, at={3})
    real_loop = stage.run_loop
    monkeypatch.setattr(
        stage, "run_loop", lambda parts, _: real_loop(parts, lambda: len(full.shapes) >= 6)
    )
    with pytest.raises(InterruptedByUserError):
        run(workspace)
    monkeypatch.setattr(stage, "run_loop", real_loop)
    tracker = Tags()
    run(workspace, tracker)
    assert [shape[0] for shape in full.shapes] == [4, 4, 4, 4, 2, 2, 2]
    assert "guard.out_of_memory" in tracker.tags
    resumed = load_state(workspace.fold_dir("0") / "last.pt", torch.device("cpu"))

    other = Workspace(workspace.root.parent / "other")
    (other.root / "train").mkdir(parents=True)
    for name in ("ingest", "audit"):
        (other.root / name).symlink_to(workspace.root / name)
    full.shapes.clear()
    run(other)
    whole = load_state(other.fold_dir("0") / "last.pt", torch.device("cpu"))
    for name, weight in whole["learner"]["network"].items():
        assert torch.equal(weight, resumed["learner"]["network"][name]), name


def test_the_second_time_training_stops_and_the_checkpoint_is_there(workspace, monkeypatch):
    Full(monkeypatch, at={2, 5})
    with pytest.raises(TrainingError, match="again at step 4") as caught:
        run(workspace)
    assert caught.value.fix
    assert (workspace.fold_dir("0") / "last.pt").is_file()
    # The next start has its memory back, and ends the training with the reduced batch.
    monkeypatch.undo()
    assert run(workspace).card.n_steps == 6


def test_a_step_that_does_not_fit_reduced_either_stops(workspace, monkeypatch):
    Full(monkeypatch, at={2, 3})
    with pytest.raises(TrainingError, match="again at step 2"):
        run(workspace)
    assert (workspace.fold_dir("0") / "last.pt").is_file()


def test_memory_that_is_too_small_from_the_beginning(workspace, monkeypatch):
    # With a time budget the very first steps measure the time of a step.
    full = Full(monkeypatch, at={0})
    result = run(workspace, steps=None, budget_minutes=0.01)
    assert full.shapes[0][0] == 4
    assert {shape[0] for shape in full.shapes[1:]} == {2}
    assert "memory ran out at step 0" in result.card.info.plan.reasons[-1]


def test_other_errors_pass(workspace, monkeypatch):
    Full(monkeypatch, at={1}, error=ValueError)
    with pytest.raises(ValueError, match="not enough memory"):
        run(workspace)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 3 bytes"), True),
        (RuntimeError("size mismatch"), False),
        (OSError("Cannot allocate memory"), False),
    ],
)
def test_what_counts_as_memory_running_out(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("size", "device", "expected"),
    [
        ((9, (32, 32, 32)), "cpu", (4, (32, 32, 32))),
        ((3, (32, 32, 32)), "cpu", (2, (32, 32, 32))),
        ((2, (32, 48, 32)), "cpu", (2, (32, 24, 32))),
        ((2, (32, 48, 32)), "cuda", (1, (32, 48, 32))),
        ((1, (24, 40, 24)), "cuda", (1, (24, 16, 24))),
        ((2, (8, 8, 16)), "cpu", (2, (8, 8, 16))),
    ],
)
def test_how_a_step_gets_smaller(size, device, expected):
    assert smaller(*size, (8, 8, 8), device) == expected
