"""Training losses. Computed in float32, from logits and a label map, without one-hot tensors."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import override

from pipeline.models.across import Gather, mean_across, rows_across, total_across
from pipeline.models.loss_kinds import OVERLAP, VOXELWISE
from pipeline.models.loss_terms import (
    LossParts,
    LossSettings,
    Sums,
    in_working_precision,
    overlap_losses,
    voxel_losses,
)


class SegmentationLoss(nn.Module):
    """An overlap term, a term per voxel, or both, for networks with one output per class.

    Overlap is taken over the whole batch at once unless configured otherwise ("batch Dice"): a
    class absent from one patch is still learned from the others. One absent from the whole batch
    adds a constant without gradient, which foreground sampling makes rare and cross-entropy makes
    up for.

    Where nobody drew a class, its absence from the label says nothing. Such patches enter no
    overlap of the class, and what their label calls background may be background or that class:
    the two probabilities are added up ("marginal" loss).

    Args:
        settings: What it is made of.

    Source:
        Dice as in nnU-Net (Isensee et al. 2021), generalized Dice Sudre et al. 2017, focal loss
        Lin et al. 2017, Tversky loss Salehi et al. 2017, focal Tversky Abraham & Khan 2019; agree
        with MONAI 1.6.1 to 1e-6. Marginal loss Shi et al. 2021 (Medical Image Analysis 70,
        101979), which MONAI does not have; agrees with plain numpy (tests/models/test_losses.py).
    """

    _class_weights: Tensor | None
    # Set where several processes hold parts of a batch: the loss is then that of all of it.
    gather: Gather | None = None

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self._settings = settings
        weights = settings.class_weights
        self.register_buffer(
            "_class_weights",
            None if weights is None else torch.tensor(weights, dtype=torch.float32),
            persistent=False,
        )

    @override
    def forward(
        self,
        logits: Float[Tensor, "batch class i j k"],
        label: Int[Tensor, "batch i j k"],
        is_annotated: Bool[Tensor, "batch class"] | None = None,
    ) -> LossParts:
        """Compare logits with class indices.

        Args:
            logits: Network output.
            label: Class index per voxel, 0 is background.
            is_annotated: Whether each class was drawn in the case of each patch, background first;
                on the CPU. None if all were.

        Returns:
            The loss and its parts.
        """
        settings = self._settings
        log_probabilities = in_working_precision(logits).log_softmax(1)
        is_counted = None
        if settings.ignore_index is not None:
            is_counted = label != settings.ignore_index
            label = label.masked_fill(~is_counted, 0)
        of_label = log_probabilities.gather(1, label[:, None])[:, 0]
        background = None
        if is_annotated is not None:
            background = _merged_background(log_probabilities, is_annotated)
            of_label = torch.where(label == 0, background, of_label)
        has_overlap = settings.kind in OVERLAP
        # What is only reported needs no gradient.
        with torch.set_grad_enabled(has_overlap and torch.is_grad_enabled()):
            sums = _sums(log_probabilities.exp(), of_label.exp(), label, is_counted)
            if is_annotated is not None and background is not None:
                sums = _partial(sums, background.exp(), is_annotated, is_counted)
            overlap, dice = overlap_losses(
                rows_across(sums, self.gather), settings, first=int(not settings.include_background)
            )
        total = torch.zeros((), device=logits.device)
        if has_overlap:
            total = total + settings.overlap_weight * overlap
        if settings.kind in VOXELWISE and settings.voxel_weight > 0:
            total = total + settings.voxel_weight * self._voxel_loss(of_label, label, is_counted)
        return LossParts(total, dice.detach(), _mean(-of_label.detach(), is_counted, self.gather))

    def _voxel_loss(
        self,
        of_label: Float[Tensor, "batch i j k"],
        label: Int[Tensor, "batch i j k"],
        is_counted: Bool[Tensor, "batch i j k"] | None,
    ) -> Tensor:
        """Weighted mean over voxels, so that weights do not change the scale of the loss."""
        loss = voxel_losses(of_label, self._settings)
        if self._class_weights is None:
            return _mean(loss, is_counted, self.gather)
        weights = self._class_weights[label]
        if is_counted is None:
            total, weight = total_across((weights * loss).sum(), weights.sum(), self.gather)
            return total / weight
        weights = weights * is_counted
        # Weights may be small: only a patch without any voxel that counts has a sum of 0.
        total, weight = total_across((weights * loss).sum(), weights.sum(), self.gather)
        return total / weight.clamp(min=torch.finfo(weights.dtype).tiny)


def _merged_background(
    log_probabilities: Float[Tensor, "batch class i j k"], is_annotated: Bool[Tensor, "batch class"]
) -> Float[Tensor, "batch i j k"]:
    """Logarithm of the probability of background or of a class that nobody drew."""
    is_open = ~is_annotated
    parts = [log_probabilities[:, 0]]
    # Only classes that are open in some patch cost anything.
    for index in torch.nonzero(is_open[:, 1:].any(0)).flatten().tolist():
        is_closed = is_annotated[:, index + 1, None, None, None]
        is_closed = is_closed.to(log_probabilities.device, non_blocking=True)
        parts.append(log_probabilities[:, index + 1].masked_fill(is_closed, -torch.inf))
    return torch.stack(parts, 1).logsumexp(1)


def _sums(
    probabilities: Float[Tensor, "batch class i j k"],
    of_label: Float[Tensor, "batch i j k"],
    label: Int[Tensor, "batch i j k"],
    is_counted: Bool[Tensor, "batch i j k"] | None,
) -> Sums:
    n_batch, n_classes, n_rows = probabilities.shape[:3]
    n_bins = n_classes
    if is_counted is not None:
        # Voxels that do not count go to a bin of their own, which is left out in the end.
        n_bins, label = n_classes + 1, label.masked_fill(~is_counted, n_classes)
        probabilities = probabilities * is_counted[:, None]
    # Summed row by row: float32 stays exact enough, and a GPU need not queue for a few numbers.
    by_row = torch.zeros((n_batch, n_rows, n_bins), device=label.device, dtype=of_label.dtype)
    by_row = by_row.scatter_add(2, label.flatten(2), of_label.flatten(2))
    return Sums(
        overlap=by_row.sum(1)[:, :n_classes],
        predicted=probabilities.flatten(2).sum(2),
        reference=_counts(label, n_bins)[:, :n_classes].to(of_label.dtype),
    )


def _counts(label: Int[Tensor, "batch i j k"], n_bins: int) -> Int[Tensor, "batch bin"]:
    """Voxels of each value, patch by patch.

    Not by `bincount`, which asks a GPU for the largest value and waits; nor is it faster on a CPU.
    """
    rows = label.flatten(2)
    # Numbers of a row meet in one place: a GPU need not queue for a few.
    by_row = torch.zeros((*rows.shape[:2], n_bins), device=label.device, dtype=label.dtype)
    return by_row.scatter_add(2, rows, torch.ones_like(rows)).sum(1)


def _partial(
    sums: Sums,
    background: Float[Tensor, "batch i j k"],
    is_annotated: Bool[Tensor, "batch class"],
    is_counted: Bool[Tensor, "batch i j k"] | None,
) -> Sums:
    """Sums of patches in which some classes were not drawn; background is what is left then."""
    background = background if is_counted is None else background * is_counted
    predicted = [background.flatten(1).sum(1)[:, None], sums.predicted[:, 1:]]
    known = is_annotated.to(background.device, non_blocking=True)
    return replace(sums, predicted=torch.cat(predicted, 1), is_annotated=known)


def _mean(
    loss: Float[Tensor, "batch i j k"],
    is_counted: Bool[Tensor, "batch i j k"] | None,
    gather: Gather | None,
) -> Tensor:
    if is_counted is None:
        return mean_across(loss.mean(), gather)
    total, count = total_across((loss * is_counted).sum(), is_counted.sum(), gather)
    return total / count.clamp(min=1)
