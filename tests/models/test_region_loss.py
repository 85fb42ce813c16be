"""Region losses agree with MONAI and torch, and skip what a label cannot tell."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.dice import DiceLoss, GeneralizedDiceLoss
from monai.losses.focal_loss import FocalLoss
from monai.losses.tversky import TverskyLoss
from torch.nn import functional

from pipeline.models.loss_terms import LossKind, LossSettings
from pipeline.models.region_loss import RegionLoss

KINDS = get_args(LossKind)
# Whole, core and enhancing tumor of BraTS, over edema, necrosis and enhancing tumor.
REGIONS = ((1, 2, 3), (2, 3), (3,))
IGNORED = 255


def sample(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, 3, 5, 6, 4), generator=generator)
    label = torch.randint(0, 4, (2, 5, 6, 4), generator=generator)
    return logits, label


def partial_sample(seed=0):
    logits, label = sample(seed)
    generator = torch.Generator().manual_seed(seed)
    label[torch.rand(label.shape, generator=generator) < 0.3] = IGNORED
    is_annotated = torch.rand((2, 4), generator=generator) < 0.7
    is_annotated[:, 0] = True
    return logits.double(), label, is_annotated


def loss_of(kind, **settings) -> RegionLoss:
    return RegionLoss(LossSettings(kind, **settings), REGIONS, 3)


def target_of(label):
    inside = [torch.isin(label, torch.tensor(classes)) for classes in REGIONS]
    return torch.stack(inside, 1).float()


MONAI = {"sigmoid": True, "smooth_nr": 0.0, "smooth_dr": 1e-5}


@pytest.mark.parametrize("batch", [True, False])
@given(seed=st.integers(0, 100))
def test_terms_agree_with_monai_and_torch_in_value_and_gradient(seed, batch):
    def binary(logits, target):
        return functional.binary_cross_entropy_with_logits(logits, target)

    dice = DiceLoss(batch=batch, **MONAI)
    tversky = TverskyLoss(alpha=0.3, beta=0.7, batch=batch, **MONAI)
    focal = FocalLoss(gamma=2.0)
    # Its constants are added to sums of 1/volume, not of voxels.
    generalized = GeneralizedDiceLoss(sigmoid=True, batch=batch, smooth_nr=0.0, smooth_dr=0.0)
    theirs = {
        "dice": dice,
        "tversky": tversky,
        "generalized_dice": generalized,
        "generalized_dice_ce": lambda x, t: generalized(x, t) + binary(x, t),
        "ce": binary,
        "dice_ce": lambda x, t: dice(x, t) + binary(x, t),
        "dice_focal": lambda x, t: dice(x, t) + focal(x, t),
        "tversky_ce": lambda x, t: tversky(x, t) + binary(x, t),
    }
    for kind, other in theirs.items():
        one, label = sample(seed)
        two = one.clone().requires_grad_()
        one.requires_grad_()
        total, expected = (
            loss_of(kind, batch_dice=batch)(one, label).total,
            other(two, target_of(label)),
        )
        assert float(total.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)
        total.backward()
        expected.backward()
        torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=0)


def plain_loss(logits, label, is_annotated, *, batch_dice):
    """Dice and binary cross-entropy region by region in numpy, over what the label can tell."""
    probabilities = 1 / (1 + np.exp(-logits))
    counted = label != IGNORED
    known = np.array([[is_annotated[n, list(r)].all() for r in REGIONS] for n in range(2)])
    costs = []
    for n, r in np.argwhere(known):
        inside = np.isin(label[n], REGIONS[r])
        p = np.where(inside, probabilities[n, r], 1 - probabilities[n, r])
        costs += list(-np.log(p[counted[n]]))
    dices = []
    for row in [[0, 1]] if batch_dice else [[0], [1]]:
        for r, classes in enumerate(REGIONS):
            patches = [n for n in row if known[n, r]]
            if patches:
                p = probabilities[patches, r][counted[patches]]
                t = np.isin(label[patches], classes)[counted[patches]]
                dices.append(1 - 2 * p[t].sum() / (p.sum() + t.sum() + 1e-5))
    return np.mean(dices) if dices else 0.0, np.mean(costs) if costs else 0.0


@pytest.mark.parametrize("batch_dice", [True, False])
@given(seed=st.integers(0, 1000))
def test_ignored_voxels_and_undrawn_classes_agree_with_plain_numpy(batch_dice, seed):
    logits, label, is_annotated = partial_sample(seed)
    dice, cross_entropy = plain_loss(
        logits.numpy(), label.numpy(), is_annotated.numpy(), batch_dice=batch_dice
    )
    loss = loss_of("dice_ce", batch_dice=batch_dice, ignore_index=IGNORED)
    parts = loss(logits, label, is_annotated)
    assert float(parts.dice) == pytest.approx(dice, abs=1e-9)
    assert float(parts.cross_entropy) == pytest.approx(cross_entropy, abs=1e-9)
    assert float(parts.total) == pytest.approx(dice + cross_entropy, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_partial_labels_agree_with_finite_differences(kind):
    logits, label, is_annotated = partial_sample(1)
    loss = loss_of(kind, ignore_index=IGNORED)
    small = logits[:, :, :2, :3, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, label[:, :2, :3, :2], is_annotated).total, (small,), atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
def test_what_the_label_cannot_tell_changes_nothing(kind, seed):
    logits, label, is_annotated = partial_sample(seed)
    is_open = (label == IGNORED)[:, None].expand_as(logits).clone()
    for n, r in np.ndindex(2, 3):
        is_open[n, r] |= not bool(is_annotated[n, list(REGIONS[r])].all())
    other = torch.where(is_open, 3 * logits + 1, logits).requires_grad_()
    logits.requires_grad_()
    loss = loss_of(kind, ignore_index=IGNORED)
    one, two = loss(logits, label, is_annotated), loss(other, label, is_annotated)
    one.total.backward()
    two.total.backward()
    assert (one.total, one.dice, one.cross_entropy) == (two.total, two.dice, two.cross_entropy)
    torch.testing.assert_close(logits.grad, other.grad)
    assert (logits.grad[is_open] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_answer_costs_nothing_and_a_blank_one_much(kind):
    _, label = sample()
    perfect = 50 * (2 * target_of(label) - 1)
    assert float(loss_of(kind)(perfect, label).total) == pytest.approx(0, abs=1e-3)
    assert loss_of(kind)(torch.full_like(perfect, -50.0), label).total > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_logits_as_large_as_float16_holds_stay_finite(kind):
    logits, label = sample()
    huge = (2e4 * logits.clamp(-3, 3)).half().requires_grad_()
    total = loss_of(kind)(huge, label).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(huge.grad).all()
