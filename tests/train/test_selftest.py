"""The self-test passes the metric and every loss, and catches the classic mistakes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.models.losses import LossSettings, SegmentationLoss
from pipeline.train.selftest import check_loss, check_metric, validation_dice

CPU = torch.device("cpu")
NAMES = ("liver", "tumor")
KINDS = ("dice_ce", "dice", "ce", "dice_focal", "tversky", "tversky_ce", "focal_tversky")


def labels():
    rng = np.random.default_rng(0)
    empty = np.zeros((6, 5, 4), np.uint8)
    full = np.ones((6, 5, 4), np.uint8)
    return [rng.integers(0, 3, (6, 5, 4)).astype(np.uint8), empty, full]


def test_the_metric_of_training_passes_also_on_empty_and_full_patches():
    assert check_metric(validation_dice(NAMES), labels()) == []


@pytest.mark.parametrize(
    ("factor", "what"), [(255, "255 for 1"), (1, "")], ids=["0/255 masks", "correct"]
)
def test_a_naive_dice_that_reads_values_instead_of_masks_is_caught(factor, what):
    def naive(prediction, reference):
        # Sums of values instead of voxels: right for 0 and 1, far above 1 for 0 and 255.
        one, two = factor * (prediction == 1).astype(float), factor * (reference == 1).astype(float)
        return {"liver": float(2 * (one * two).sum() / (one.sum() + two.sum()))}

    found = check_metric(naive, labels()[:1])
    assert [f.check_id for f in found] == (["P04"] if what else [])
    if found:
        assert found[0].value == pytest.approx(255)
        assert "Dice of the reference itself is 255" in found[0].message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("n_classes", [1, 13])
def test_every_loss_passes(kind, batch_dice, n_classes):
    weights = (0.3, *[3.0] * n_classes)
    loss = SegmentationLoss(LossSettings(kind, batch_dice=batch_dice, class_weights=weights))
    assert check_loss(lambda x, y: loss(x, y).total, n_classes, CPU) == []


def test_a_loss_that_cannot_tell_blank_from_right_is_caught():
    def constant(logits, label):
        return 0.0 * functional.cross_entropy(logits, label)

    def shifted_classes(logits, label):
        return functional.cross_entropy(logits, (label + 1) % logits.shape[1])

    for loss in (constant, shifted_classes):
        assert [f.check_id for f in check_loss(loss, 2, CPU)] == ["P04"]
