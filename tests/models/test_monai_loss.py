"""Losses of MONAI by name: what fits is minimized, what does not is refused by name."""

import pytest
import torch
from monai.losses.dice import DiceCELoss, DiceLoss
from monai.losses.focal_loss import FocalLoss
from monai.losses.tversky import TverskyLoss
from torch.nn import functional

from pipeline.core.errors import ConfigError
from pipeline.models.loss_terms import LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.monai_loss import MonaiLoss, refusal_of

REPORTED = LossSettings("dice")


def sample(seed=0, n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, n_classes, 5, 6, 4), generator=generator)
    label = torch.randint(0, n_classes, (2, 5, 6, 4), generator=generator)
    return logits, label


def loss_of(name, n_outputs=3, **args):
    return MonaiLoss(name, args, REPORTED, n_outputs)


SOFTMAX = {"to_onehot_y": True, "softmax": True}


@pytest.mark.parametrize(
    ("name", "args", "same"),
    [
        ("DiceCELoss", {"lambda_ce": 0.5}, DiceCELoss(lambda_ce=0.5, **SOFTMAX)),
        ("DiceLoss", {"sigmoid": True}, DiceLoss(to_onehot_y=True, sigmoid=True)),
        ("TverskyLoss", {"alpha": 0.2}, TverskyLoss(alpha=0.2, **SOFTMAX)),
        ("FocalLoss", {}, FocalLoss(to_onehot_y=True, use_softmax=True)),
        ("FocalLoss", {"use_softmax": False}, FocalLoss(to_onehot_y=True)),
    ],
)
def test_it_is_what_monai_computes(name, args, same):
    logits, label = sample()
    total = loss_of(name, **args)(logits, label).total
    assert float(total) == pytest.approx(float(same(logits, label[:, None])), abs=1e-6)


def test_dice_and_cross_entropy_are_reported_as_by_the_built_in_losses():
    logits, label = sample()
    ours = SegmentationLoss(REPORTED)(logits, label)
    parts = loss_of("FocalLoss")(logits.requires_grad_(), label)
    assert float(parts.dice) == float(ours.dice)
    assert float(parts.cross_entropy) == float(ours.cross_entropy)
    assert not parts.dice.requires_grad


def test_half_precision_is_widened_and_lists_become_tensors():
    logits, label = sample()
    loss = loss_of("DiceCELoss", weight=[1.0, 2.0, 4.0])
    assert loss(logits.half(), label).total.dtype is torch.float32
    same = DiceCELoss(weight=torch.tensor([1.0, 2.0, 4.0]), **SOFTMAX)
    total = loss(logits, label).total
    assert float(total) == pytest.approx(float(same(logits, label[:, None])), abs=1e-6)


def test_losses_that_take_indices_in_their_own_way():
    logits, label = sample()
    distances = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]
    wasserstein = loss_of("GeneralizedWassersteinDiceLoss", dist_matrix=distances)
    right = 50 * functional.one_hot(label, 3).movedim(-1, 1).float()
    assert wasserstein(right, label).total < wasserstein(logits, label).total
    calibrated = loss_of("NACLLoss", classes=3, dim=3)
    assert calibrated(right, label).total < calibrated(-right, label).total


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("DiceCeLoss", {}, "did you mean 'DiceCELoss'"),
        ("DiceCELoss", {"lamda_ce": 1.0}, "did you mean 'lambda_ce'"),
        ("DiceCELoss", {"lambda_ce": -1.0}, "lambda_ce should be no less than 0.0"),
        ("DiceCELoss", {"weight": [1.0, 2.0]}, "cannot be used for 3 classes"),
        ("DiceLoss", {"reduction": "none"}, "no number to minimize"),
        ("SSIMLoss", {"spatial_dims": 3}, "does not compare the logits of classes"),
        ("AsymmetricUnifiedFocalLoss", {}, "does not compare the logits of classes"),
        ("PerceptualLoss", {}, "does not compare the logits of classes"),
        ("GeneralizedWassersteinDiceLoss", {}, "needs dist_matrix"),
        ("NACLLoss", {"classes": 3, "dim": 2}, "cannot be used for 3 classes"),
    ],
)
def test_what_cannot_work_is_refused_when_made(name, args, message):
    with pytest.raises(ConfigError) as raised:
        loss_of(name, **args)
    assert message in str(raised.value)
    assert "train.loss" in raised.value.where


def test_classes_that_nobody_drew_are_refused_and_the_losses_for_them_named():
    logits, label = sample()
    loss = loss_of("DiceLoss")
    assert loss(logits, label, torch.ones((2, 3), dtype=torch.bool)).total > 0
    with pytest.raises(ConfigError, match="not annotated"):
        loss(logits, label, torch.tensor([[True, True, False], [True, True, True]]))
    assert "dice_ce" in refusal_of("DiceLoss", "task.regions").fix


@pytest.mark.parametrize(
    "name",
    [
        "DiceCELoss",
        "FocalLoss",
        "TverskyLoss",
        "DiceFocalLoss",
        "GeneralizedDiceLoss",
        "GeneralizedDiceFocalLoss",
        "HausdorffDTLoss",
    ],
)
def test_empty_patches_give_finite_losses_and_gradients(name):
    logits, label = sample()
    logits.requires_grad_()
    total = loss_of(name)(logits, torch.zeros_like(label)).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("name", "args"), [("DiceLoss", {"batch": True}), ("DiceCELoss", {"weight": [1.0, 2.0, 4.0]})]
)
def test_a_loss_that_is_no_mean_of_patches_is_that_of_the_whole_batch_in_many_processes(name, args):
    logits, label = sample()
    label[0, :3] = 0
    loss = loss_of(name, **args)
    whole = logits.clone().requires_grad_()
    expected = loss(whole, label).total
    expected.backward()
    # This process has the second patch; what the other one has comes without a gradient.
    own = logits[1:].clone().requires_grad_()
    first = {logits[0].numel(): logits[:1].flatten(1), label[0].numel(): label[:1].flatten(1)}
    loss.gather = lambda rows: torch.cat([first[rows.shape[1]].to(rows), rows])
    total = loss(own, label[1:]).total
    total.backward()
    assert float(total.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(own.grad, whole.grad[1:])


def test_the_loss_of_many_processes_is_the_mean_of_theirs():
    logits, label = sample()
    loss = loss_of("DiceLoss")
    alone = float(loss(logits, label).total)
    loss.gather = lambda rows: torch.cat([rows, rows + 1])
    assert float(loss(logits, label).total) == pytest.approx(alone + 0.5)
