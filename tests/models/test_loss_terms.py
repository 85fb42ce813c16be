"""Sums of patches become terms of a loss; what no case annotates gives none."""

import pytest
import torch

from pipeline.models.loss_terms import LossSettings, Sums, in_working_precision, overlap_losses


def sums(**changes) -> Sums:
    known = {
        "overlap": torch.tensor([[3.0, 1.0], [1.0, 0.0]]),
        "predicted": torch.tensor([[4.0, 2.0], [2.0, 5.0]]),
        "reference": torch.tensor([[4.0, 2.0], [2.0, 5.0]]),
    }
    return Sums(**{**known, **changes})


def test_over_the_batch_voxels_are_added_before_dividing():
    _, batch = overlap_losses(sums(), LossSettings("dice"))
    _, patch = overlap_losses(sums(), LossSettings("dice", batch_dice=False))
    assert float(batch) == pytest.approx(1 - (8 / 12 + 2 / 14) / 2, abs=1e-5)
    assert float(patch) == pytest.approx(1 - (6 / 8 + 2 / 4 + 2 / 4 + 0) / 4, abs=1e-5)


def test_only_annotated_patches_are_added_and_only_annotated_outputs_averaged():
    known = torch.tensor([[True, True], [False, False]])
    _, dice = overlap_losses(sums(is_annotated=known), LossSettings("dice"))
    assert float(dice) == pytest.approx(1 - (6 / 8 + 2 / 4) / 2, abs=1e-5)
    nowhere = torch.tensor([[True, False], [True, False]])
    _, dice = overlap_losses(sums(is_annotated=nowhere), LossSettings("dice"))
    assert float(dice) == pytest.approx(1 - 8 / 12, abs=1e-5)
    overlap, dice = overlap_losses(sums(is_annotated=~nowhere), LossSettings("tversky"), first=1)
    assert float(dice) == pytest.approx(1 - 2 / 14, abs=1e-5)
    assert float(overlap) == pytest.approx(1 - 1 / (1 + 0.3 * 6 + 0.7 * 6), abs=1e-5)


def test_generalized_dice_weighs_by_the_square_of_the_volume():
    settings = LossSettings("generalized_dice")
    total, dice = overlap_losses(sums(), settings)
    # Volumes 6 and 7: weights 1 and 36/49 of the first.
    w = 36 / 49
    assert float(total) == pytest.approx(1 - 2 * (4 + w * 1) / (12 + w * 14), abs=1e-5)
    assert float(dice) == pytest.approx(1 - (8 / 12 + 2 / 14) / 2, abs=1e-5)


def test_generalized_dice_leaves_out_what_no_case_annotates():
    settings = LossSettings("generalized_dice", batch_dice=False)
    known = torch.tensor([[True, False], [False, False]])
    total, _ = overlap_losses(sums(is_annotated=known), settings)
    assert float(total) == pytest.approx(1 - 6 / 8, abs=1e-5)
    absent = sums(reference=torch.tensor([[4.0, 0.0], [0.0, 0.0]]))
    total, _ = overlap_losses(absent, settings)
    # The absent output weighs as much as the one that is there; the empty row costs nothing.
    assert float(total) == pytest.approx((1 - 2 * (3 + 1) / (8 + 2)) / 2, abs=1e-5)


def test_half_precision_is_widened_and_double_kept():
    logits = torch.zeros((1, 2, 1, 1, 1))
    assert in_working_precision(logits.half()).dtype is torch.float32
    assert in_working_precision(logits) is logits
    assert in_working_precision(logits.double()).dtype is torch.float64
