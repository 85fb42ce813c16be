"""The self-test passes the metric and every loss, and catches the classic mistakes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.artifacts import LabelClass, Region, Task
from pipeline.models.loss_terms import LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.region_loss import RegionLoss
from pipeline.train.selftest import check_loss, check_metric, validation_dice

CPU = torch.device("cpu")
NAMES = ("liver", "tumor")
KINDS = ("dice_ce", "dice", "ce", "dice_focal", "tversky", "tversky_ce", "focal_tversky")


def task_of(n_classes=2, regions=(), ignore_values=()) -> Task:
    names = [*NAMES, *(f"class_{n}" for n in range(3, n_classes + 1))][:n_classes]
    classes = tuple(
        LabelClass(name=name, index=n, source_values=(n,)) for n, name in enumerate(names, start=1)
    )
    return Task(channels=(), classes=classes, regions=regions, ignore_values=ignore_values)


def labels():
    rng = np.random.default_rng(0)
    empty = np.zeros((6, 5, 4), np.uint8)
    full = np.ones((6, 5, 4), np.uint8)
    return [rng.integers(0, 3, (6, 5, 4)).astype(np.uint8), empty, full]


def test_the_metric_of_training_passes_also_on_empty_and_full_patches():
    assert check_metric(validation_dice(task_of()), labels()) == []
    partly_ignored = labels()[0]
    partly_ignored[0] = 255
    dice = validation_dice(task_of(ignore_values=(9,)))
    assert check_metric(dice, [partly_ignored]) == []


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
    assert check_loss(lambda x, y: loss(x, y).total, task_of(n_classes), CPU) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_of_regions_passes_and_one_in_another_order_is_caught(kind):
    whole = Region(name="whole", classes=NAMES, paints="liver")
    core = Region(name="core", classes=("tumor",), paints="tumor")
    right = RegionLoss(LossSettings(kind), [(1, 2), (2,)], 2)
    swapped = RegionLoss(LossSettings(kind), [(2,), (1, 2)], 2)
    task = task_of(regions=(whole, core))
    assert check_loss(lambda x, y: right(x, y).total, task, CPU) == []
    assert [f.check_id for f in check_loss(lambda x, y: swapped(x, y).total, task, CPU)] == ["P04"]


def test_a_loss_that_cannot_tell_blank_from_right_is_caught():
    def constant(logits, label):
        return 0.0 * functional.cross_entropy(logits, label)

    def shifted_classes(logits, label):
        return functional.cross_entropy(logits, (label + 1) % logits.shape[1])

    for loss in (constant, shifted_classes):
        assert [f.check_id for f in check_loss(loss, task_of(), CPU)] == ["P04"]
