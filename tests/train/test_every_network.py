"""Every kind of network learns a phantom in a few steps."""

import numpy as np
import pytest
import torch
from models_builders import model_info
from network_builders import KINDS, PARAMETERS, patch_of, small_network

from pipeline.train.config import TrainConfig
from pipeline.train.data import Batch
from pipeline.train.learner import Learner

N_STEPS = 50


def phantom_batch(shape, seed=0) -> Batch:
    """Two patches with a bright box inside a grey one, in noise."""
    rng = np.random.default_rng(seed)
    label = np.zeros((2, *shape), dtype=np.int64)
    i, j, k = (n // 4 for n in shape)
    label[:, i : 3 * i, j : 3 * j, k : 3 * k] = 1
    label[:, 3 * i // 2 : 2 * i, 3 * j // 2 : 2 * j, 3 * k // 2 : 2 * k + 2] = 2
    image = label + rng.normal(0, 0.3, label.shape)
    patches = torch.from_numpy(image.astype(np.float32)[:, None])
    return Batch(patches, torch.from_numpy(label), ("one", "other"))


def learner_of(name, patch_size) -> Learner:
    info = model_info(patch_size=patch_size)
    plan = info.plan.model_copy(update={"network": small_network(name), "learning_rate": 3e-3})
    return Learner(plan, info.task, TrainConfig(ema_decay=0.9), torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_fifty_steps_lower_the_loss(name):
    if name == "swinunetr":
        pytest.importorskip("einops")
    patch = patch_of(name)
    learner, batch = learner_of(name, patch), phantom_batch(patch)
    losses = [learner.step(batch, 3e-3).loss for _ in range(N_STEPS)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    with torch.no_grad():
        logits = learner.averaged(batch.image)
    assert logits.shape == (2, 3, *patch)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_state_of_every_network_is_taken_over(name):
    if name == "swinunetr":
        pytest.importorskip("einops")
    patch = patch_of(name)
    batch = phantom_batch(patch)
    first, second = learner_of(name, patch), learner_of(name, patch)
    first.step(batch, 1e-3)
    second.restore(first.state())
    assert first.step(batch, 1e-3).loss == pytest.approx(second.step(batch, 1e-3).loss)
