"""The loss over several resolutions is the weighted sum of the losses at each of them."""

import copy

import pytest
import torch

from pipeline.models.deep_supervision import DeepSupervisionLoss, coarse_label, output_weights
from pipeline.models.loss_terms import LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.region_loss import RegionLoss


def outputs_and_label(n_outputs=3, ignore_index=None):
    generator = torch.Generator().manual_seed(0)
    outputs = [
        torch.randn((2, 3, 8 >> level, 8 >> level, 16 >> level), generator=generator)
        for level in range(n_outputs)
    ]
    label = torch.randint(0, 3, (2, 8, 8, 16), generator=generator)
    if ignore_index is not None:
        label[:, :4] = ignore_index
    return outputs, label


def test_weights_halve_and_add_up_to_one():
    assert output_weights(1) == (1.0,)
    assert output_weights(3) == pytest.approx((4 / 7, 2 / 7, 1 / 7))


@pytest.mark.parametrize("ignore_index", [None, 255])
def test_the_total_is_the_weighted_sum_by_hand(ignore_index):
    outputs, label = outputs_and_label(3, ignore_index)
    loss = SegmentationLoss(LossSettings(ignore_index=ignore_index))
    known = torch.tensor([[True, True, False], [True, True, True]])
    parts = DeepSupervisionLoss(loss)(outputs, label, known)
    full, half, quarter = (
        loss(o, label[:, ::n, ::n, ::n].contiguous(), known)
        for o, n in zip(outputs, (1, 2, 4), strict=True)
    )
    expected = (4 * full.total + 2 * half.total + quarter.total) / 7
    torch.testing.assert_close(parts.total, expected)
    assert parts.dice == full.dice
    assert parts.cross_entropy == full.cross_entropy


def test_regions_are_compared_at_every_size_too():
    outputs, label = outputs_and_label(2)
    loss = RegionLoss(LossSettings(), [[1, 2], [2], [1]], 2)
    parts = DeepSupervisionLoss(loss)(outputs, label)
    coarse = loss(outputs[1], label[:, ::2, ::2, ::2].contiguous())
    expected = 2 / 3 * loss(outputs[0], label).total + coarse.total / 3
    torch.testing.assert_close(parts.total, expected)


def test_one_tensor_is_compared_as_without_coarser_outputs():
    outputs, label = outputs_and_label(1)
    loss = SegmentationLoss(LossSettings())
    assert DeepSupervisionLoss(loss)(outputs[0], label).total == loss(outputs[0], label).total


def test_every_output_gets_a_gradient():
    outputs, label = outputs_and_label(3)
    for output in outputs:
        output.requires_grad_()
    DeepSupervisionLoss(SegmentationLoss(LossSettings()))(outputs, label).total.backward()
    assert all(output.grad.abs().sum() > 0 for output in outputs)


def test_coarse_labels_are_taken_never_mixed():
    label = torch.arange(4 * 4 * 8).reshape(1, 4, 4, 8)
    coarse = coarse_label(label, torch.zeros(1, 3, 2, 4, 2))
    assert coarse.tolist() == label[:, ::2, :, ::4].tolist()


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="voxels for"):
        coarse_label(torch.zeros((1, 6, 6, 6), dtype=torch.long), torch.zeros(1, 3, 4, 3, 3))


def test_it_can_be_copied_and_moved():
    weights = (1.0, 2.0, 3.0)
    loss = DeepSupervisionLoss(SegmentationLoss(LossSettings(class_weights=weights)))
    assert [b.dtype for b in copy.deepcopy(loss).to("cpu").buffers()] == [torch.float32]
