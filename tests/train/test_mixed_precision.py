"""Every network and every loss works in bfloat16 on a CPU; losses are computed in float32."""

from typing import get_args

import pytest
import torch
from models_builders import model_info
from network_builders import PARAMETERS, patch_of, small_network
from workfolders import quick

from pipeline.artifacts import Region
from pipeline.models.loss_kinds import LossKind
from pipeline.models.loss_terms import LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.monai_loss import MonaiLoss
from pipeline.models.region_loss import RegionLoss
from pipeline.train.config import TrainConfig
from pipeline.train.data import Batch
from pipeline.train.learner import Learner

CPU = torch.device("cpu")
KINDS = get_args(LossKind)
BY_NAME = ["DiceLoss", "DiceCELoss", "DiceFocalLoss", "TverskyLoss", "GeneralizedDiceLoss"]
REGIONS = (
    Region(name="whole", classes=("class_1", "class_2"), paints="class_1"),
    Region(name="core", classes=("class_2",), paints="class_2"),
)


@pytest.fixture(autouse=True)
def _computes_with_bfloat16(monkeypatch):
    """This CPU emulates what it has no instructions for."""
    for module in ("models.device", "train.learner"):
        monkeypatch.setattr(f"pipeline.{module}.mixed_precision_dtype", lambda _: torch.bfloat16)


def batch_of(patch) -> Batch:
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros((2, *patch), dtype=torch.int64)
    label[:, 2:10, 2:12, 4:14], label[:, 4:8, 4:8, 6:12] = 1, 2
    image = label[:, None] + 0.3 * torch.randn((2, 1, *patch), generator=generator)
    return Batch(image, label, ("a", "b"))


def learner_of(name, *, amp) -> Learner:
    info = model_info(patch_size=patch_of(name))
    plan = info.plan.model_copy(update={"network": small_network(name)})
    return Learner(plan, info.task, TrainConfig(amp=amp), CPU)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_network_takes_the_step_it_would_take_in_float32(name):
    if name == "swinunetr":
        pytest.importorskip("einops")
    batch, gradients, norms = batch_of(patch_of(name)), [], []
    for amp in (True, False):
        learner = learner_of(name, amp=amp)
        result = learner.step(batch, 1e-4)
        assert result.is_finite
        assert {w.dtype for w in learner.weights().values() if w.is_floating_point()} == {
            torch.float32
        }
        norms.append(result.gradient_norm)
        parameters = learner.network.parameters()
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    assert norms[0] == pytest.approx(norms[1], rel=0.05)
    mixed, exact = gradients
    assert float((mixed - exact).norm()) < 0.2 * float(exact.norm())


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_takes_a_step(kind, regions):
    info = model_info()
    plan, task = info.plan, info.task
    changes = {"n_deep_outputs": 1}
    if regions:
        changes["n_output_channels"] = len(REGIONS)
        task = task.model_copy(update={"regions": REGIONS})
    plan = plan.model_copy(update={"network": plan.network.model_copy(update=changes)})
    learner = Learner(plan, task, quick(loss={"kind": kind}), CPU)
    assert learner.step(batch_of((16, 16, 16)), 1e-3).is_finite


def loss_of(name):
    if name in KINDS:
        return SegmentationLoss(LossSettings(name))
    if name == "regions":
        return RegionLoss(LossSettings(), [[1, 2], [2], [1]], 2)
    return MonaiLoss(name, {}, LossSettings("dice"), 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", [*KINDS, "regions", *BY_NAME])
def test_a_loss_of_half_precision_logits_is_that_of_the_same_numbers_in_float32(name, dtype):
    generator = torch.Generator().manual_seed(0)
    # So many voxels that a sum in half precision would be far off.
    short = torch.randn((2, 3, 24, 24, 24), generator=generator).to(dtype).requires_grad_()
    label = torch.randint(0, 3, (2, 24, 24, 24), generator=generator)
    long = short.detach().float().requires_grad_()
    loss = loss_of(name)
    one, other = loss(short, label), loss(long, label)
    assert one.total.dtype is torch.float32
    for part in ("total", "dice", "cross_entropy"):
        assert torch.equal(getattr(one, part), getattr(other, part)), part
    one.total.backward()
    other.total.backward()
    torch.testing.assert_close(short.grad, long.grad.to(dtype))
