"""Losses agree with their definitions and with MONAI; an absent class does not pin them."""

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

from pipeline.models.loss_terms import VOXELWISE, LossKind, LossSettings
from pipeline.models.losses import SegmentationLoss, _counts

KINDS = get_args(LossKind)


def sample(seed=0, n_classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, n_classes, 5, 6, 4), generator=generator)
    label = torch.randint(0, n_classes, (2, 5, 6, 4), generator=generator)
    return logits, label


def loss_of(kind, **settings):
    background = {"include_background": kind not in VOXELWISE}
    return SegmentationLoss(LossSettings(kind, **(background | settings)))


def batch_dice_loss(logits, label):
    """Soft batch Dice, background left out, smoothing in the denominator only."""
    probabilities = logits.softmax(1)
    target = functional.one_hot(label, logits.shape[1]).movedim(-1, 1).float()
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    total = probabilities.sum(axes) + target.sum(axes)
    return (1 - 2 * overlap / (total + 1e-5))[1:].mean()


def saturated(label, n_classes, scale=50.0):
    return scale * functional.one_hot(label, n_classes).movedim(-1, 1).float()


@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 6))
def test_parts_follow_their_definitions(seed, n_classes):
    logits, label = sample(seed, n_classes)
    loss = SegmentationLoss(LossSettings("dice_ce", overlap_weight=0.7, voxel_weight=1.3))
    parts = loss(logits, label)
    dice = batch_dice_loss(logits, label)
    cross_entropy = functional.cross_entropy(logits, label)
    assert parts.dice == pytest.approx(float(dice), abs=1e-5)
    assert parts.cross_entropy == pytest.approx(float(cross_entropy), abs=1e-5)
    assert parts.total == pytest.approx(float(0.7 * dice + 1.3 * cross_entropy), abs=1e-5)


MONAI = {"to_onehot_y": True, "smooth_nr": 0.0, "smooth_dr": 1e-5, "softmax": True}


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
@given(seed=st.integers(0, 100))
def test_overlap_terms_agree_with_monai_in_value_and_gradient(seed, batch, background):
    same = {"include_background": background, "batch": batch, **MONAI}
    ours = {"include_background": background, "batch_dice": batch}
    pairs = (
        (loss_of("dice", **ours), DiceLoss(**same)),
        (loss_of("tversky", **ours), TverskyLoss(alpha=0.3, beta=0.7, **same)),
    )
    for mine, theirs in pairs:
        one, label = sample(seed)
        two = one.clone().requires_grad_()
        one.requires_grad_()
        total, expected = mine(one, label).total, theirs(two, label[:, None])
        assert total.item() == pytest.approx(expected.item(), abs=1e-6)
        total.backward()
        expected.backward()
        torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=0)


# MONAI adds its constant to sums of 1/volume; without it both are the same ratio.
GENERALIZED = {"to_onehot_y": True, "smooth_nr": 0.0, "smooth_dr": 0.0, "softmax": True}


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("absent", [None, 1, 3])
@given(seed=st.integers(0, 100))
def test_generalized_dice_agrees_with_monai_also_where_a_class_is_absent(
    absent, background, batch, seed
):
    same = {"include_background": background, "batch": batch, **GENERALIZED}
    mine = loss_of("generalized_dice", include_background=background, batch_dice=batch)
    one, label = sample(seed, 4)
    label[label == absent] = 2
    two = one.clone().requires_grad_()
    one.requires_grad_()
    total, expected = mine(one, label).total, GeneralizedDiceLoss(**same)(two, label[:, None])
    assert total.item() == pytest.approx(expected.item(), abs=1e-6)
    total.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, two.grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [True, False])
def test_generalized_dice_of_patches_without_any_class_is_that_of_monai(batch):
    """Where the label has none of the outputs there are no weights: nothing is lost or learned."""
    logits, label = sample()
    label[0] = 0
    if batch:
        label[1] = 0
    logits.requires_grad_()
    mine = loss_of("generalized_dice", include_background=False, batch_dice=batch)(logits, label)
    theirs = GeneralizedDiceLoss(
        include_background=False, batch=batch, to_onehot_y=True, softmax=True
    )(logits, label[:, None])
    # The constants of MONAI, which an empty label needs there, weigh 1e-3 in such a small patch.
    assert float(mine.total.detach()) == pytest.approx(float(theirs.detach()), abs=1e-3)
    mine.total.backward()
    assert torch.equal(logits.grad[0], torch.zeros_like(logits.grad[0]))
    assert torch.isfinite(logits.grad).all()


def test_generalized_dice_hardly_sees_how_large_a_class_is():
    """Half of a class is lost: with plain sums a small class would cost next to nothing."""
    label = torch.zeros((1, 10, 10, 10), dtype=torch.int64)
    label[:, :8, :, :] = 1
    label[:, 8, :2, :4] = 2
    costs = []
    for lost in (1, 2):
        answer = label.clone()
        halved = (label == lost).nonzero()[::2]
        answer[tuple(halved.T)] = 0
        loss = loss_of("generalized_dice", include_background=False)
        costs.append(float(loss(saturated(answer, 3), label).total))
    assert costs[1] > 0.3
    # Both have the same say in the overlap, divided by the squares of their volumes.
    assert costs[1] > costs[0]


@given(seed=st.integers(0, 100), gamma=st.floats(0.0, 4.0))
def test_the_focal_term_agrees_with_monai(seed, gamma):
    logits, label = sample(seed)
    mine = loss_of("dice_focal", focal_gamma=gamma)(logits, label)
    # MONAI takes the mean over classes too; only one class of a voxel is ever not zero.
    focal = 3 * FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma)(logits, label[:, None])
    assert float(mine.total - mine.dice) == pytest.approx(float(focal), abs=1e-6)


@given(seed=st.integers(0, 100))
def test_weighted_cross_entropy_is_that_of_torch(seed):
    logits, label = sample(seed)
    weights = (0.3, 1.0, 3.0)
    mine = loss_of("ce", class_weights=weights)(logits, label)
    theirs = functional.cross_entropy(logits, label, weight=torch.tensor(weights))
    assert float(mine.total) == pytest.approx(float(theirs), abs=1e-6)
    assert mine.cross_entropy == pytest.approx(float(functional.cross_entropy(logits, label)))


def test_focal_tversky_is_a_root_of_each_class_loss():
    logits, label = sample()
    one_class = {"include_background": False, "tversky_gamma": 2.0}
    label[label == 2] = 1
    plain = loss_of("tversky", **one_class)(logits[:, :2], label).total
    root = loss_of("focal_tversky", **one_class)(logits[:, :2], label).total
    assert float(root) == pytest.approx(float(plain) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 4 / 3, 2.0, 3.0])
def test_a_perfect_overlap_costs_nothing_whatever_the_root(gamma):
    _, label = sample()
    logits = saturated(label, 3).requires_grad_()
    total = loss_of("focal_tversky", tversky_gamma=gamma)(logits, label).total
    assert float(total.detach()) == pytest.approx(0, abs=5e-4)
    total.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_logits_as_large_as_float16_holds_stay_finite(kind):
    logits, label = sample()
    huge = (2e4 * logits.clamp(-3, 3)).half().requires_grad_()
    total = loss_of(kind)(huge, label).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(huge.grad).all()


def test_equal_costs_make_tversky_dice():
    logits, label = sample()
    tversky = loss_of("tversky", tversky_alpha=0.5, tversky_beta=0.5)(logits, label)
    assert float(tversky.total) == pytest.approx(float(tversky.dice), abs=1e-5)


def test_dice_alone_trains_on_dice_alone():
    logits, label = sample()
    parts = loss_of("dice")(logits, label)
    assert float(parts.total) == pytest.approx(float(parts.dice))
    assert parts.cross_entropy > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_costs_nothing_and_a_blank_one_much(kind):
    _, label = sample()
    loss = loss_of(kind)
    perfect, blank = saturated(label, 3), saturated(torch.zeros_like(label), 3)
    assert float(loss(perfect, label).total) == pytest.approx(0, abs=1e-3)
    assert loss(blank, label).total > 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_absent_from_one_patch_is_learned_from_the_other(kind):
    logits, label = sample()
    label[0] = 0
    logits.requires_grad_()
    loss_of(kind)(logits, label).total.backward()
    # Per-sample Dice with smoothing in both places leaves the empty patch a gradient of 1e-7.
    assert logits.grad[0].abs().sum() > 1e-3
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_labels_and_sure_predictions_give_finite_losses_and_gradients(kind, scale):
    background = torch.zeros((2, 4, 4, 4), dtype=torch.int64)
    for label in (background, background + 1):
        logits = saturated(background, 3, scale).requires_grad_()
        total = loss_of(kind)(logits, label).total
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_falls_within_50_steps_on_a_phantom(kind):
    torch.manual_seed(0)
    label = torch.zeros((1, 8, 8, 8), dtype=torch.int64)
    label[:, 2:6, 2:6, 1:4] = 1
    label[:, 2:6, 2:6, 5:7] = 2
    image = label[:, None] + 0.1 * torch.randn((1, 1, 8, 8, 8))
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 8, 1), torch.nn.ReLU(), torch.nn.Conv3d(8, 3, 1)
    )
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=0.05), loss_of(kind)
    first = float(loss(network(image), label).total.detach())
    for _ in range(50):
        optimizer.zero_grad()
        total = loss(network(image), label).total
        total.backward()
        optimizer.step()
    assert float(total.detach()) < 0.5 * first


def test_half_precision_logits_are_computed_in_float32():
    logits, label = sample()
    assert loss_of("dice_ce")(logits.half(), label).total.dtype is torch.float32


def test_weights_travel_with_the_loss_but_not_into_checkpoints():
    loss = loss_of("ce", class_weights=(1.0, 2.0))
    assert loss.state_dict() == {}
    assert len(list(loss.buffers())) == 1


# --- voxels to ignore, classes that nobody drew ---------------------------------------------------

IGNORED = 255


def partial_sample(seed=0, n_classes=4):
    """Logits in double precision, a label with ignored voxels, and classes that were not drawn."""
    logits, label = sample(seed, n_classes)
    generator = torch.Generator().manual_seed(seed)
    label[torch.rand(label.shape, generator=generator) < 0.3] = IGNORED
    is_annotated = torch.rand((2, n_classes), generator=generator) < 0.6
    is_annotated[:, 0] = True
    return logits.double(), label, is_annotated


def plain_loss(logits, label, is_annotated, settings):
    """Dice and cross-entropy voxel by voxel in numpy, with the classes nobody drew merged."""
    n_batch, n_classes = logits.shape[:2]
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    merged = probabilities.copy()
    for n in range(n_batch):
        for c in np.flatnonzero(~is_annotated[n]):
            merged[n, 0] += probabilities[n, c]
    costs, weights = [], []
    for place in np.argwhere(label != IGNORED):
        n, *voxel = place
        c = label[tuple(place)]
        weight = 1.0 if settings.class_weights is None else settings.class_weights[c]
        costs.append(-np.log(merged[(n, c, *voxel)]) * weight)
        weights.append(weight)
    first = 0 if settings.include_background else 1
    rows = [list(range(n_batch))] if settings.batch_dice else [[n] for n in range(n_batch)]
    dices = []
    for row in rows:
        for c in range(first, n_classes):
            patches = [n for n in row if is_annotated[n, c]]
            if not patches:
                continue
            counted = label[patches] != IGNORED
            p, t = merged[patches, c][counted], (label[patches] == c)[counted]
            dices.append(1 - 2 * p[t].sum() / (p.sum() + t.sum() + 1e-5))
    cross_entropy = sum(costs) / sum(weights)
    return np.mean(dices) if dices else 0.0, cross_entropy


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0, 4.0)])
@given(seed=st.integers(0, 1000))
def test_ignored_voxels_and_undrawn_classes_agree_with_plain_numpy(
    batch_dice, background, weights, seed
):
    settings = LossSettings(
        batch_dice=batch_dice,
        include_background=background,
        class_weights=weights,
        ignore_index=IGNORED,
    )
    logits, label, is_annotated = partial_sample(seed)
    dice, cross_entropy = plain_loss(logits.numpy(), label.numpy(), is_annotated.numpy(), settings)
    parts = SegmentationLoss(settings)(logits, label, is_annotated)
    assert float(parts.dice) == pytest.approx(dice, abs=1e-9)
    assert float(parts.total) == pytest.approx(dice + cross_entropy, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_dice", [True, False])
def test_gradients_of_partial_labels_agree_with_finite_differences(kind, batch_dice):
    logits, label, is_annotated = partial_sample(1)
    loss = loss_of(kind, batch_dice=batch_dice, ignore_index=IGNORED)
    few = (slice(None), slice(None), slice(0, 2), slice(0, 3), slice(0, 2))
    small = logits[few].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, label[:, :2, :3, :2], is_annotated).total, (small,), atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
def test_what_is_predicted_at_ignored_voxels_changes_nothing(kind, seed):
    logits, label, is_annotated = partial_sample(seed)
    is_ignored = (label == IGNORED)[:, None].expand_as(logits)
    other = torch.where(is_ignored, 3 * logits + 1, logits)
    loss = loss_of(kind, ignore_index=IGNORED)
    results = []
    for x in (logits.clone().requires_grad_(), other.requires_grad_()):
        parts = loss(x, label, is_annotated)
        parts.total.backward()
        results.append((parts, x.grad))
    (one, first), (two, second) = results
    assert (one.total, one.dice, one.cross_entropy) == (two.total, two.dice, two.cross_entropy)
    torch.testing.assert_close(first, second)
    assert (first[is_ignored] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_punishes_finding_a_class_that_nobody_drew(kind):
    logits, label, is_annotated = partial_sample(3)
    is_annotated = torch.tensor([[True, True, True, False]] * 2)
    label[label == 3] = 0
    loss = loss_of(kind, include_background=False, ignore_index=IGNORED)
    # From background to the class: what a network does that has found it.
    moved = logits.clone()
    is_free = label == 0
    moved[:, 3][is_free] = logits[:, 0][is_free]
    moved[:, 0][is_free] = logits[:, 3][is_free]
    before, after = loss(logits, label, is_annotated), loss(moved, label, is_annotated)
    assert float(after.total) == pytest.approx(float(before.total), abs=1e-9)
    # Without the declaration it would cost much.
    if kind in VOXELWISE:
        sure = logits.clone()
        sure[:, 3][is_free] += 5
        assert loss(sure, label, is_annotated).total < loss(sure, label).total - 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_patches_of_partial_labels_are_what_they_are_alone(kind):
    """Per patch, a mixed batch is the mean of its patches, each computed without the others."""
    logits, label = sample(4, 4)
    is_annotated = torch.tensor([[True] * 4, [True, True, False, True]])
    loss = loss_of(kind, batch_dice=False, include_background=False)
    alone = [loss(logits[n : n + 1], label[n : n + 1], is_annotated[n : n + 1]) for n in (0, 1)]
    complete = loss(logits[:1], label[:1])
    assert float(alone[0].total) == pytest.approx(float(complete.total), abs=1e-6)
    both = loss(logits, label, is_annotated)
    # Three classes are counted in the first patch, two in the second.
    dice = (3 * alone[0].dice + 2 * alone[1].dice) / 5
    assert float(both.dice) == pytest.approx(float(dice), abs=1e-6)
    cross_entropy = (alone[0].cross_entropy + alone[1].cross_entropy) / 2
    assert float(both.cross_entropy) == pytest.approx(float(cross_entropy), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_dice", [True, False])
def test_no_ignored_voxel_and_every_class_drawn_is_the_ordinary_loss(kind, batch_dice):
    logits, label = sample(5)
    plain = loss_of(kind, batch_dice=batch_dice)(logits, label)
    every = torch.ones((2, 3), dtype=torch.bool)
    declared = loss_of(kind, batch_dice=batch_dice, ignore_index=IGNORED)(logits, label, every)
    assert float(declared.total) == pytest.approx(float(plain.total), abs=1e-6)
    assert float(declared.dice) == pytest.approx(float(plain.dice), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_says_nothing_costs_nothing_and_moves_nothing(kind):
    logits, label = sample(6)
    none = torch.tensor([[True, False, False]] * 2)
    logits.requires_grad_()
    loss = loss_of(kind, include_background=False, ignore_index=IGNORED)
    total = loss(logits, torch.full_like(label, IGNORED), none).total
    assert float(total.detach()) == 0.0
    if total.requires_grad:
        total.backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_voxels_are_counted_patch_by_patch():
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 5, 6, 7)))
    expected = torch.stack([patch.flatten().bincount(minlength=6) for patch in label])
    assert torch.equal(_counts(label, 6), expected)
    assert _counts(label, 6).sum(1).tolist() == [5 * 6 * 7] * 3
