"""Every loss trains for 50 steps on a phantom with falling loss, and survives empty patches."""

import math
from typing import get_args

import pytest
import torch
from models_builders import model_info
from workfolders import quick

from pipeline.artifacts import Region
from pipeline.train.config import LossConfig
from pipeline.train.data import Batch
from pipeline.train.learner import Learner

CPU = torch.device("cpu")
KINDS = [kind for kind in get_args(LossConfig.model_fields["kind"].annotation) if kind != "monai"]
BY_NAME = [
    "DiceLoss",
    "DiceCELoss",
    "FocalLoss",
    "TverskyLoss",
    "DiceFocalLoss",
    "GeneralizedDiceLoss",
    "HausdorffDTLoss",
]
N_STEPS = 50
# Half a minute in all.
pytestmark = pytest.mark.slow
REGIONS = (
    Region(name="whole", classes=("class_1", "class_2"), paints="class_1"),
    Region(name="core", classes=("class_2",), paints="class_2"),
)


def learner_of(loss, *, regions=False) -> Learner:
    info = model_info()
    plan, task = info.plan, info.task
    if regions:
        network = plan.network.model_copy(update={"n_output_channels": len(REGIONS)})
        plan = plan.model_copy(update={"network": network})
        task = task.model_copy(update={"regions": REGIONS})
    return Learner(plan, task, quick(loss=loss), CPU)


def phantom(*, empty=False) -> Batch:
    """A box with a core, in noise; or noise alone."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros((2, 8, 8, 8), dtype=torch.int64)
    if not empty:
        label[:, 1:7, 2:6, 1:6] = 1
        label[:, 3:5, 3:5, 2:5] = 2
    image = label[:, None] + 0.2 * torch.randn((2, 1, 8, 8, 8), generator=generator)
    return Batch(image, label, ("a", "b"))


def falls(learner: Learner) -> bool:
    batch = phantom()
    losses = [learner.step(batch, 2e-2).loss for _ in range(N_STEPS)]
    assert all(math.isfinite(loss) for loss in losses)
    return sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_falls_on_classes(kind):
    assert falls(learner_of({"kind": kind}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_falls_on_regions(kind):
    assert falls(learner_of({"kind": kind}, regions=True))


@pytest.mark.parametrize("name", BY_NAME)
def test_losses_of_monai_fall(name):
    assert falls(learner_of({"kind": "monai", "name": name}))


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_patches_are_finite_steps(kind, batch_dice, regions):
    learner = learner_of({"kind": kind, "batch_dice": batch_dice}, regions=regions)
    for batch in (phantom(empty=True), phantom(), phantom(empty=True)):
        assert learner.step(batch, 1e-3).is_finite
    assert all(torch.isfinite(w).all() for w in learner.weights().values())


@pytest.mark.parametrize("name", BY_NAME)
def test_empty_patches_are_finite_steps_with_losses_of_monai(name):
    learner = learner_of({"kind": "monai", "name": name})
    for batch in (phantom(empty=True), phantom()):
        assert learner.step(batch, 1e-3).is_finite
