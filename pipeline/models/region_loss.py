"""Loss of networks that predict regions: unions of classes, which may lie inside each other."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from typing_extensions import override

from pipeline.models.across import Gather, rows_across, total_across
from pipeline.models.loss_kinds import OVERLAP, VOXELWISE
from pipeline.models.loss_terms import (
    LossParts,
    LossSettings,
    Sums,
    in_working_precision,
    overlap_losses,
    voxel_losses,
)


class RegionLoss(nn.Module):
    """An overlap term, a term per voxel, or both; every output is a sigmoid of its own.

    There is no background: it is where no region is. A region with a class that nobody drew in a
    case cannot be told there and is left out of that patch.

    Args:
        settings: What it is made of; `include_background` and `class_weights` mean nothing here.
        regions: Class indices inside each region, in the order of the outputs.
        n_classes: Foreground classes of the label.

    Source:
        Region-based training as in nnU-Net (Isensee et al. 2021, of BraTS); the sum of a sigmoid
        Dice and a binary cross-entropy or focal loss agrees with MONAI 1.6.1 and torch to 1e-6
        (tests/models/test_region_loss.py).
    """

    _is_member: Tensor
    # Set where several processes hold parts of a batch: the loss is then that of all of it.
    gather: Gather | None = None

    def __init__(
        self, settings: LossSettings, regions: Sequence[Sequence[int]], n_classes: int
    ) -> None:
        super().__init__()
        self._settings = settings
        is_member = torch.zeros((len(regions), n_classes + 1), dtype=torch.bool)
        for output, classes in enumerate(regions):
            is_member[output, list(classes)] = True
        self.register_buffer("_is_member", is_member, persistent=False)

    @override
    def forward(
        self,
        logits: Float[Tensor, "batch region i j k"],
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
        logits = in_working_precision(logits)
        is_counted = torch.ones_like(label, dtype=torch.bool)
        if settings.ignore_index is not None:
            is_counted = label != settings.ignore_index
            label = label.masked_fill(~is_counted, 0)
        target = self._is_member[:, label].movedim(0, 1)
        is_known = self._known(label, is_annotated)
        # sigmoid(x) is the probability of the region, sigmoid(-x) that of the rest.
        of_label = logsigmoid(torch.where(target, logits, -logits))
        counts = _Counted(is_counted, is_known, self.gather)
        has_overlap = settings.kind in OVERLAP
        with torch.set_grad_enabled(has_overlap and torch.is_grad_enabled()):
            sums = rows_across(counts.sums(logits.sigmoid(), target), self.gather)
            overlap, dice = overlap_losses(sums, settings)
        total = torch.zeros((), device=logits.device)
        if has_overlap:
            total = total + settings.overlap_weight * overlap
        if settings.kind in VOXELWISE and settings.voxel_weight > 0:
            total = total + settings.voxel_weight * counts.mean(voxel_losses(of_label, settings))
        return LossParts(total, dice.detach(), counts.mean(-of_label.detach()))

    def _known(
        self, label: Int[Tensor, "batch i j k"], is_annotated: Bool[Tensor, "batch class"] | None
    ) -> Bool[Tensor, "batch region"]:
        """Whether the label of each patch can tell each region: all of its classes were drawn."""
        n_batch, n_regions = label.shape[0], self._is_member.shape[0]
        if is_annotated is None:
            return torch.ones((n_batch, n_regions), dtype=torch.bool, device=label.device)
        is_open = ~is_annotated.to(label.device, non_blocking=True)
        return ~(is_open[:, None] & self._is_member).any(2)


class _Counted:
    """Sums and means over what counts.

    Args:
        is_counted: Voxels that are not ignored.
        is_known: Regions that the label of a patch can tell.
        gather: Brings together what counts in all processes; None if there is one.
    """

    def __init__(
        self,
        is_counted: Bool[Tensor, "batch i j k"],
        is_known: Bool[Tensor, "batch region"],
        gather: Gather | None,
    ) -> None:
        self._is_counted, self._is_known, self._gather = is_counted, is_known, gather

    def sums(
        self,
        probabilities: Float[Tensor, "batch region i j k"],
        target: Bool[Tensor, "batch region i j k"],
    ) -> Sums:
        probabilities = probabilities * self._is_counted[:, None]
        return Sums(
            overlap=(probabilities * target).flatten(2).sum(2),
            predicted=probabilities.flatten(2).sum(2),
            reference=(target & self._is_counted[:, None]).flatten(2).sum(2).to(probabilities),
            is_annotated=self._is_known,
        )

    def mean(self, loss: Float[Tensor, "batch region i j k"]) -> Tensor:
        by_region = (loss * self._is_counted[:, None]).flatten(2).sum(2) * self._is_known
        n_voxels = self._is_counted.flatten(1).sum(1)[:, None] * self._is_known
        total, count = total_across(by_region.sum(), n_voxels.sum(), self._gather)
        return total / count.clamp(min=1)
