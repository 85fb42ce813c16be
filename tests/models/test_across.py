"""Losses of a batch in two parts: the value of the whole, and gradients that add up to its own."""

import threading

import pytest
import torch
from torch import Tensor

from pipeline.models.across import gather_sums, mean_across, rows_of_all, total_across
from pipeline.models.loss_terms import LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.region_loss import RegionLoss

PARTIAL = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 0]], dtype=torch.bool)
SETTINGS = {
    "dice_ce": LossSettings(),
    "per_patch": LossSettings(batch_dice=False),
    "weighted": LossSettings(class_weights=(0.5, 1.0, 3.0)),
    "ignore": LossSettings(ignore_index=7),
    "ignore_weighted": LossSettings(ignore_index=7, class_weights=(0.5, 1.0, 3.0)),
    "generalized_dice_ce": LossSettings(kind="generalized_dice_ce"),
    "focal_tversky": LossSettings(kind="focal_tversky", include_background=True),
    "dice_focal": LossSettings(kind="dice_focal"),
}


class Meeting:
    """Brings together the rows of two threads that stand for two processes."""

    def __init__(self) -> None:
        self._rows: list[Tensor | None] = [None, None]
        self._barrier = threading.Barrier(2, timeout=20)

    def gather(self, rank: int, rows: Tensor) -> Tensor:
        self._rows[rank] = rows.detach()
        self._barrier.wait()
        other = self._rows[1 - rank]
        self._barrier.wait()
        assert other is not None
        return torch.cat([rows, other] if rank == 0 else [other, rows])


def made(kind: str, settings: LossSettings) -> SegmentationLoss | RegionLoss:
    return (
        SegmentationLoss(settings) if kind == "classes" else RegionLoss(settings, [[1, 2], [2]], 2)
    )


@pytest.mark.parametrize("is_partial", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_two_parts_have_the_loss_and_the_gradient_of_the_whole(kind, name, is_partial):
    settings = SETTINGS[name]
    generator = torch.Generator().manual_seed(3)
    n_outputs = 3 if kind == "classes" else 2
    logits = torch.randn((4, n_outputs, 4, 5, 6), generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (4, 4, 5, 6), generator=generator)
    label[0, :2] = 0
    if settings.ignore_index is not None:
        label[1, :, :3] = settings.ignore_index
    known = PARTIAL if is_partial else None
    whole_logits = logits.clone().requires_grad_()
    whole = made(kind, settings).double()(whole_logits, label, known)
    whole.total.backward()
    meeting, results = Meeting(), {}

    def compute(rank: int) -> None:
        own = slice(2 * rank, 2 * rank + 2)
        part = logits[own].clone().requires_grad_()
        loss = made(kind, settings).double()
        gather_sums(loss, lambda rows: meeting.gather(rank, rows))
        found = loss(part, label[own], None if known is None else known[own])
        found.total.backward()
        results[rank] = (found, part.grad)

    threads = [threading.Thread(target=compute, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for rank in (0, 1):
        found, gradient = results[rank]
        for value in ("total", "dice", "cross_entropy"):
            torch.testing.assert_close(getattr(found, value), getattr(whole, value))
        torch.testing.assert_close(gradient, whole_logits.grad[2 * rank : 2 * rank + 2])


def test_one_process_changes_nothing():
    total, count = torch.tensor(3.0), torch.tensor(2)
    assert total_across(total, count, None) == (total, count)
    assert mean_across(total, None) is total
    assert rows_of_all(count, None) is count


def test_patches_of_all_processes_keep_their_shape_and_kind():
    label = torch.randint(0, 200, (2, 3, 4, 5))
    found = rows_of_all(label, lambda rows: torch.cat([rows, rows]))
    assert found.dtype is label.dtype
    assert torch.equal(found, torch.cat([label, label]))
