"""Steps reduce the loss, averaged weights follow, a bad step changes nothing."""

import copy

import pytest
import torch
from models_builders import model_info
from workfolders import quick

from pipeline.train.data import Batch
from pipeline.train.learner import Learner

CPU = torch.device("cpu")


def make_batch(seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((2, 1, 16, 16, 16), generator=generator)
    label = (image[:, 0] > 0.3).long() + (image[:, 0] > 1).long()
    return Batch(image, label, ("a", "b"))


@pytest.mark.parametrize("loss", ["dice", "dice_ce"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls(loss, optimizer):
    config = quick(loss={"kind": loss}, optimizer={"kind": optimizer, "momentum": 0.9})
    learner = Learner(model_info().plan, config, CPU)
    rate = 1e-2 if optimizer == "adamw" else 0.1
    losses = [learner.step(make_batch(), rate).loss for _ in range(30)]
    assert losses[-1] < 0.85 * losses[0]


def test_a_state_taken_and_restored_goes_on_alike():
    plan, config = model_info().plan, quick()
    one, two = Learner(plan, config, CPU), Learner(plan, quick(seed=9), CPU)
    one.step(make_batch(0), 1e-2)
    two.restore(copy.deepcopy(one.state()))
    assert one.step(make_batch(1), 1e-2) == two.step(make_batch(1), 1e-2)
    for name, weight in one.weights().items():
        assert torch.equal(weight, two.weights()[name])


def test_averaged_weights_lie_between_start_and_present():
    learner = Learner(model_info().plan, quick(ema_decay=0.9), CPU)
    for step in range(20):
        learner.step(make_batch(step), 1e-2)
    name = next(iter(learner.weights()))
    averaged, present = learner.weights()[name], learner.network.state_dict()[name]
    assert not torch.equal(averaged, present)
    off = Learner(model_info().plan, quick(ema_decay=0.0), CPU)
    off.step(make_batch(), 1e-2)
    assert torch.equal(off.weights()[name], off.network.state_dict()[name])


def test_a_non_finite_step_is_not_taken():
    learner = Learner(model_info().plan, quick(), CPU)
    before = learner.weights()
    batch = make_batch()
    batch.image[0, 0, 3, 3, 3] = float("nan")
    result = learner.step(batch, 1e-2)
    assert not result.is_finite
    assert all(torch.equal(before[name], w) for name, w in learner.weights().items())
    assert learner.step(make_batch(), 1e-2).is_finite


def test_gradients_are_clipped_and_their_norm_reported():
    learner = Learner(model_info().plan, quick(optimizer={"clip_norm": 1e-3}), CPU)
    result = learner.step(make_batch(), 1e-2)
    assert result.gradient_norm > 1e-3
    clipped = [p.grad.norm() for p in learner.network.parameters() if p.grad is not None]
    assert torch.stack(clipped).norm() == pytest.approx(1e-3, rel=0.01)


@pytest.mark.gpu
def test_a_gpu_step_agrees_with_the_cpu():
    plan, config = model_info().plan, quick(amp=False)
    cpu, gpu = Learner(plan, config, CPU), Learner(plan, config, torch.device("cuda"))
    batch = make_batch()
    there = Batch(batch.image.cuda(), batch.label.cuda(), batch.case_ids)
    assert gpu.step(there, 1e-2).loss == pytest.approx(cpu.step(batch, 1e-2).loss, rel=1e-3)
    amp = Learner(plan, quick(amp=True), torch.device("cuda"))
    assert amp.step(there, 1e-2).loss == pytest.approx(cpu.step(batch, 0.0).loss, rel=0.2)
