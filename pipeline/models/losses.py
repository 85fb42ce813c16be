"""Training losses. Computed in float32, from logits and a label map, without one-hot tensors."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

LossKind = Literal["dice_ce", "dice", "ce", "dice_focal", "tversky", "tversky_ce", "focal_tversky"]

# What each kind is made of: an overlap term and a term per voxel.
_OVERLAP: dict[str, str] = {
    "dice_ce": "dice",
    "dice": "dice",
    "dice_focal": "dice",
    "tversky": "tversky",
    "tversky_ce": "tversky",
    "focal_tversky": "focal_tversky",
}
_VOXELWISE: dict[str, str] = {
    "dice_ce": "ce",
    "ce": "ce",
    "tversky_ce": "ce",
    "dice_focal": "focal",
}
# In denominators only: in a numerator it would count as agreement where nothing agrees.
_SMOOTH = 1e-5
# A power below 1 has no finite slope at zero; below this doubt it is cut off.
_MIN_DOUBT = 1e-6
# The same for the root of an overlap: closer to perfect than this it goes to zero in a straight
# line. A perfect answer then costs nothing, whatever the root.
_MIN_DISTANCE = 1e-4


@dataclass(frozen=True)
class LossSettings:
    """What a loss is made of.

    Args:
        kind: Name of the combination.
        overlap_weight: Factor of the Dice or Tversky term.
        voxel_weight: Factor of the cross-entropy or focal term.
        include_background: Whether the overlap is also taken of the background.
        batch_dice: Overlap over the whole batch at once instead of per patch.
        focal_gamma: How strongly voxels that are already right are ignored; 0 is cross-entropy.
        tversky_alpha: Cost of a false positive; 0.5 beside a beta of 0.5 is Dice.
        tversky_beta: Cost of a false negative.
        tversky_gamma: Root taken of the Tversky loss by "focal_tversky".
        class_weights: Factor of each class in the term per voxel, background first; None for 1.
    """

    kind: LossKind = "dice_ce"
    overlap_weight: float = 1.0
    voxel_weight: float = 1.0
    include_background: bool = False
    batch_dice: bool = True
    focal_gamma: float = 2.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    tversky_gamma: float = 4 / 3
    class_weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class LossParts:
    """A loss, and two numbers that every kind reports so that trainings compare; all scalars.

    Args:
        total: What is minimized.
        dice: Soft Dice loss over the same classes and patches.
        cross_entropy: Mean cross-entropy, unweighted.
    """

    total: Tensor
    dice: Tensor
    cross_entropy: Tensor


@dataclass(frozen=True)
class _Sums:
    """Sums of probabilities; one row for the batch, or one per patch."""

    overlap: Float[Tensor, "row class"]
    predicted: Float[Tensor, "row class"]
    reference: Float[Tensor, "row class"]


class SegmentationLoss(nn.Module):
    """An overlap term, a term per voxel, or both.

    Overlap is taken over the whole batch at once unless configured otherwise ("batch Dice"): a
    class absent from one patch is still learned from the others. One absent from the whole batch
    adds a constant without gradient, which foreground sampling makes rare and cross-entropy makes
    up for.

    Args:
        settings: What it is made of.

    Source:
        Dice as in nnU-Net (Isensee et al. 2021), focal loss Lin et al. 2017, Tversky loss Salehi
        et al. 2017, focal Tversky Abraham & Khan 2019; agree with MONAI 1.6.1 to 1e-6
        (tests/models/test_losses.py).
    """

    _class_weights: Tensor | None

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
        self, logits: Float[Tensor, "batch class i j k"], label: Int[Tensor, "batch i j k"]
    ) -> LossParts:
        """Compare logits with class indices.

        Args:
            logits: Network output.
            label: Class index per voxel, 0 is background.

        Returns:
            The loss and its parts.
        """
        settings = self._settings
        log_probabilities = logits.float().log_softmax(1)
        of_label = log_probabilities.gather(1, label[:, None])[:, 0]
        has_overlap = settings.kind in _OVERLAP
        # What is only reported needs no gradient.
        with torch.set_grad_enabled(has_overlap and torch.is_grad_enabled()):
            sums = _sums(log_probabilities.exp(), of_label.exp(), label)
            sums = _over_batch(sums) if settings.batch_dice else sums
            dice = self._mean(_dice_loss(sums))
        total = torch.zeros((), device=logits.device)
        if has_overlap:
            total = total + settings.overlap_weight * self._overlap_loss(sums, dice)
        if settings.kind in _VOXELWISE and settings.voxel_weight > 0:
            total = total + settings.voxel_weight * self._voxel_loss(of_label, label)
        return LossParts(total, dice.detach(), -of_label.detach().mean())

    def _overlap_loss(self, sums: _Sums, dice: Tensor) -> Tensor:
        settings = self._settings
        kind = _OVERLAP[settings.kind]
        if kind == "dice":
            return dice
        loss = _tversky_loss(sums, settings.tversky_alpha, settings.tversky_beta)
        if kind == "focal_tversky":
            loss = loss * loss.clamp(min=_MIN_DISTANCE) ** (1 / settings.tversky_gamma - 1)
        return self._mean(loss)

    def _voxel_loss(
        self, of_label: Float[Tensor, "batch i j k"], label: Int[Tensor, "batch i j k"]
    ) -> Tensor:
        """Weighted mean over voxels, so that weights do not change the scale of the loss."""
        loss = -of_label
        if _VOXELWISE[self._settings.kind] == "focal":
            doubt = (1 - of_label.exp()).clamp(min=_MIN_DOUBT)
            loss = doubt**self._settings.focal_gamma * loss
        if self._class_weights is None:
            return loss.mean()
        weights = self._class_weights[label]
        return (weights * loss).sum() / weights.sum()

    def _mean(self, per_class: Float[Tensor, "row class"]) -> Tensor:
        first = 0 if self._settings.include_background else 1
        return per_class[:, first:].mean()


def _sums(
    probabilities: Float[Tensor, "batch class i j k"],
    of_label: Float[Tensor, "batch i j k"],
    label: Int[Tensor, "batch i j k"],
) -> _Sums:
    n_batch, n_classes, n_rows = probabilities.shape[:3]
    # Summed row by row: float32 stays exact enough, and a GPU need not queue for a few numbers.
    by_row = torch.zeros((n_batch, n_rows, n_classes), device=label.device)
    by_row = by_row.scatter_add(2, label.flatten(2), of_label.flatten(2))
    offsets = n_classes * torch.arange(n_batch, device=label.device)
    counts = torch.bincount(
        (label + offsets[:, None, None, None]).flatten(), minlength=n_batch * n_classes
    )
    return _Sums(
        overlap=by_row.sum(1),
        predicted=probabilities.flatten(2).sum(2),
        reference=counts.reshape(n_batch, n_classes).float(),
    )


def _over_batch(sums: _Sums) -> _Sums:
    return _Sums(
        sums.overlap.sum(0, keepdim=True),
        sums.predicted.sum(0, keepdim=True),
        sums.reference.sum(0, keepdim=True),
    )


def _dice_loss(sums: _Sums) -> Float[Tensor, "row class"]:
    return 1 - 2 * sums.overlap / (sums.predicted + sums.reference + _SMOOTH)


def _tversky_loss(sums: _Sums, alpha: float, beta: float) -> Float[Tensor, "row class"]:
    false_positive = sums.predicted - sums.overlap
    false_negative = sums.reference - sums.overlap
    weighted = sums.overlap + alpha * false_positive + beta * false_negative
    return 1 - sums.overlap / (weighted + _SMOOTH)
