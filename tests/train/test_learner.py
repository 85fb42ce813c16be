"""Steps reduce the loss, averaged weights follow, a bad step changes nothing."""

import copy

import pytest
import torch
from models_builders import model_info
from workfolders import quick

from pipeline.artifacts import Region
from pipeline.train.data import Batch
from pipeline.train.learner import MAX_OVERFLOWS_IN_A_ROW, Learner

CPU = torch.device("cpu")


def learner_of(config, info=None, device=CPU) -> Learner:
    info = info or model_info()
    return Learner(info.plan, info.task, config, device)


def make_batch(seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((2, 1, 16, 16, 16), generator=generator)
    label = (image[:, 0] > 0.3).long() + (image[:, 0] > 1).long()
    return Batch(image, label, ("a", "b"))


@pytest.mark.parametrize("loss", ["dice", "dice_ce"])
@pytest.mark.parametrize("optimizer", [{"kind": "adamw"}, {"kind": "sgd", "momentum": 0.9}])
def test_the_loss_falls(loss, optimizer):
    learner = learner_of(quick(loss={"kind": loss}, optimizer=optimizer))
    rate = 1e-2 if optimizer["kind"] == "adamw" else 0.1
    losses = [learner.step(make_batch(), rate).loss for _ in range(30)]
    assert losses[-1] < 0.85 * losses[0]


def test_a_step_says_how_many_patches_show_each_class():
    info = model_info()
    info = info.model_copy(update={"task": info.task.model_copy(update={"ignore_values": (9,)})})
    batch = make_batch()
    n_classes = len(info.task.classes)
    label = torch.zeros_like(batch.label)
    label[0, 0, 0, 0] = 1
    label[1, :2] = 1
    label[1, 3] = info.task.ignore_index or 0
    result = learner_of(quick(), info).step(Batch(batch.image, label, ("a", "b")), 1e-3)
    assert result.n_patches_of == (2, *[0] * (n_classes - 1))


def test_a_state_taken_and_restored_goes_on_alike():
    one, two = learner_of(quick()), learner_of(quick(seed=9))
    one.step(make_batch(0), 1e-2)
    two.restore(copy.deepcopy(one.state()))
    assert one.step(make_batch(1), 1e-2) == two.step(make_batch(1), 1e-2)
    for name, weight in one.weights().items():
        assert torch.equal(weight, two.weights()[name])


def drawing_info():
    """A network with dropout, which draws, and with batch normalization, which keeps statistics."""
    info = model_info()
    args = {"dropout": 0.3, "norm": "batch"}
    network = info.plan.network.model_copy(update={"kind": "unet", "args": args})
    return info.model_copy(update={"plan": info.plan.model_copy(update={"network": network})})


def test_dropout_draws_alike_after_a_state_was_restored():
    one, two = (learner_of(quick(), drawing_info()) for _ in range(2))
    one.step(make_batch(0), 1e-2)
    two.restore(copy.deepcopy(one.state()))
    torch.rand(3)
    assert one.step(make_batch(1), 1e-2) == two.step(make_batch(1), 1e-2)
    for name, weight in one.weights().items():
        assert torch.equal(weight, two.weights()[name]), name


def test_dropout_draws_anew_in_every_step_and_for_every_seed():
    losses = set()
    for seed in (0, 1):
        learner = learner_of(quick(), drawing_info())
        learner._config = quick(seed=seed)
        losses |= {learner.step(make_batch(), 0.0).loss for _ in range(2)}
    assert len(losses) == 4


@pytest.mark.parametrize("is_raised", [False, True])
def test_a_bad_step_leaves_running_statistics_alone(monkeypatch, is_raised):
    """They change as a batch passes, and would stay NaN for ever."""
    learner = learner_of(quick(), drawing_info())
    learner.step(make_batch(), 1e-2)
    before = {name: value.clone() for name, value in learner.network.named_buffers()}
    assert any("running_mean" in name for name in before)
    bad = make_batch(1)
    if is_raised:
        monkeypatch.setattr(learner, "loss", lambda *_: torch.empty(0).item())
        with pytest.raises(RuntimeError):
            learner.step(bad, 1e-2)
    else:
        bad.image[0, 0, 3, 3, 3] = float("nan")
        assert not learner.step(bad, 1e-2).is_finite
    for name, value in learner.network.named_buffers():
        assert torch.equal(value, before[name]), name


def test_averaged_weights_lie_between_start_and_present():
    learner = learner_of(quick(ema_decay=0.9))
    for step in range(20):
        learner.step(make_batch(step), 1e-2)
    name = next(iter(learner.weights()))
    averaged, present = learner.weights()[name], learner.network.state_dict()[name]
    assert not torch.equal(averaged, present)
    off = learner_of(quick(ema_decay=0.0))
    off.step(make_batch(), 1e-2)
    assert torch.equal(off.weights()[name], off.network.state_dict()[name])


def test_a_non_finite_step_is_not_taken():
    learner = learner_of(quick())
    before = learner.weights()
    batch = make_batch()
    batch.image[0, 0, 3, 3, 3] = float("nan")
    result = learner.step(batch, 1e-2)
    assert not result.is_finite
    assert all(torch.equal(before[name], w) for name, w in learner.weights().items())
    assert learner.step(make_batch(), 1e-2).is_finite


def overflowing_learner():
    """The scaler that float16 needs, and gradients that no scale makes finite."""
    learner = learner_of(quick())
    learner._scaler = torch.amp.GradScaler("cpu", enabled=True)
    weight = next(learner.network.parameters())
    return learner, weight.register_hook(lambda gradient: gradient * float("nan"))


def test_overflows_of_float16_are_forgiven_but_not_for_ever():
    learner, hook = overflowing_learner()
    before = learner.weights()
    finite = [learner.step(make_batch(), 1e-2).is_finite for _ in range(26)]
    assert finite == [True] * MAX_OVERFLOWS_IN_A_ROW + [False] * (26 - MAX_OVERFLOWS_IN_A_ROW)
    # No step was taken, and none counts in the average.
    assert all(torch.equal(before[name], new) for name, new in learner.weights().items())
    hook.remove()
    assert learner.step(make_batch(), 1e-2).is_finite
    assert any(not torch.equal(before[name], new) for name, new in learner.weights().items())


def test_a_training_that_began_without_float16_goes_on_with_it():
    state = learner_of(quick()).state()
    assert state["scaler"] == {}
    learner = learner_of(quick())
    learner._scaler = torch.amp.GradScaler("cpu", enabled=True)
    learner.restore(state)
    assert learner.step(make_batch(), 1e-2).is_finite


def test_gradients_are_clipped_and_their_norm_reported():
    learner = learner_of(quick(optimizer={"clip_norm": 1e-3}))
    result = learner.step(make_batch(), 1e-2)
    assert result.gradient_norm > 1e-3
    clipped = [p.grad.norm() for p in learner.network.parameters() if p.grad is not None]
    assert torch.stack(clipped).norm() == pytest.approx(1e-3, rel=0.01)


def region_info():
    """The same two classes as an outer region and an inner one."""
    info = model_info()
    regions = (
        Region(name="whole", classes=("class_1", "class_2"), paints="class_1"),
        Region(name="core", classes=("class_2",), paints="class_2"),
    )
    network = info.plan.network.model_copy(update={"n_output_channels": 2})
    return info.model_copy(
        update={
            "task": info.task.model_copy(update={"regions": regions}),
            "plan": info.plan.model_copy(update={"network": network}),
        }
    )


@pytest.mark.parametrize("loss", ["dice_ce", "ce", "dice_focal", "focal_tversky"])
def test_regions_are_learned_too(loss):
    learner = learner_of(quick(loss={"kind": loss}), region_info())
    losses = [learner.step(make_batch(), 1e-2).loss for _ in range(30)]
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize("info", [model_info(), region_info()], ids=["classes", "regions"])
def test_a_class_nobody_drew_is_not_unlearned(info):
    """Class 2 is drawn in one of two cases; the other one's label calls it background."""
    batch = make_batch()
    label = batch.label.clone()
    label[1][label[1] == 2] = 0
    is_annotated = torch.tensor([[True, True, True], [True, True, False]])
    honest, naive = learner_of(quick(), info), learner_of(quick(), info)
    for _ in range(30):
        honest.step(Batch(batch.image, label, batch.case_ids, is_annotated), 1e-2)
        naive.step(Batch(batch.image, label, batch.case_ids), 1e-2)

    def share_of_class_2(learner):
        logits = learner.network.eval()(batch.image[1:]).detach()
        last = logits.sigmoid()[:, -1] if info.task.regions else logits.softmax(1)[:, 2]
        return float(last[batch.label[1:] == 2].mean())

    assert share_of_class_2(honest) > share_of_class_2(naive) + 0.1


@pytest.mark.gpu
def test_a_gpu_step_agrees_with_the_cpu():
    cuda = torch.device("cuda")
    cpu, gpu = learner_of(quick(amp=False)), learner_of(quick(amp=False), device=cuda)
    batch = make_batch()
    there = Batch(batch.image.cuda(), batch.label.cuda(), batch.case_ids)
    assert gpu.step(there, 1e-2).loss == pytest.approx(cpu.step(batch, 1e-2).loss, rel=1e-3)
    amp = learner_of(quick(amp=True), device=cuda)
    assert amp.step(there, 1e-2).loss == pytest.approx(cpu.step(batch, 0.0).loss, rel=0.2)
