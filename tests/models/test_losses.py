"""The loss agrees with its definition, and an absent class does not pin it at 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.models.losses import SegmentationLoss


def sample(seed=0, n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, n_classes, 5, 6, 4), generator=generator)
    label = torch.randint(0, n_classes, (2, 5, 6, 4), generator=generator)
    return logits, label


def batch_dice_loss(logits, label):
    """Soft batch Dice, background left out, smoothing in the denominator only."""
    probabilities = logits.softmax(1)
    target = functional.one_hot(label, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    total = probabilities.sum(axes) + target.sum(axes)
    return (1 - 2 * overlap / (total + 1e-5))[1:].mean()


@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 6))
def test_parts_follow_their_definitions(seed, n_classes):
    logits, label = sample(seed, n_classes)
    parts = SegmentationLoss("dice_ce", dice_weight=0.7, ce_weight=1.3)(logits, label)
    dice = batch_dice_loss(logits, label)
    cross_entropy = functional.cross_entropy(logits, label)
    assert parts.dice == pytest.approx(float(dice), abs=1e-5)
    assert parts.cross_entropy == pytest.approx(float(cross_entropy), abs=1e-5)
    assert parts.total == pytest.approx(float(0.7 * dice + 1.3 * cross_entropy), abs=1e-5)


def test_dice_alone_trains_on_dice_alone():
    logits, label = sample()
    parts = SegmentationLoss("dice")(logits, label)
    assert float(parts.total) == pytest.approx(float(parts.dice))
    assert parts.cross_entropy > 0


def test_a_perfect_prediction_costs_nothing_a_blank_one_more_than_random():
    _, label = sample()
    loss = SegmentationLoss("dice_ce")
    perfect = 50 * functional.one_hot(label, 3).movedim(-1, 1).float()
    blank = torch.zeros_like(perfect)
    blank[:, 0] = 50
    assert float(loss(perfect, label).total) == pytest.approx(0, abs=1e-4)
    assert loss(blank, label).total > loss(torch.zeros_like(perfect), label).total


@pytest.mark.parametrize("kind", ["dice", "dice_ce"])
def test_a_class_absent_from_one_patch_is_learned_from_the_other(kind):
    logits, label = sample()
    label[0] = 0
    logits.requires_grad_()
    SegmentationLoss(kind)(logits, label).total.backward()
    # Per-sample Dice with smoothing in both places leaves the empty patch a gradient of 1e-7.
    assert logits.grad[0].abs().sum() > 1e-3
    assert torch.isfinite(logits.grad).all()


def test_all_empty_labels_give_a_finite_loss_and_gradient():
    logits, label = sample()
    label[:] = 0
    logits.requires_grad_()
    total = SegmentationLoss("dice_ce")(logits, label).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_computed_in_float32():
    logits, label = sample()
    parts = SegmentationLoss("dice_ce")(logits.half(), label)
    assert parts.total.dtype is torch.float32
