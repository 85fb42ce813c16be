"""What every loss is made of: its settings, its parts, and the terms of overlap."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.models.loss_kinds import OVERLAP, VOXELWISE, LossKind

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
        overlap_weight: Factor of the Dice, generalized Dice or Tversky term.
        voxel_weight: Factor of the cross-entropy or focal term.
        include_background: Whether the overlap is also taken of the background.
        batch_dice: Overlap over the whole batch at once instead of per patch.
        focal_gamma: How strongly voxels that are already right are ignored; 0 is cross-entropy.
        tversky_alpha: Cost of a false positive; 0.5 beside a beta of 0.5 is Dice.
        tversky_beta: Cost of a false negative.
        tversky_gamma: Root taken of the Tversky loss by "focal_tversky" and "focal_tversky_ce".
        class_weights: Factor of each class in the term per voxel, background first; None for 1.
        ignore_index: Label of voxels that enter no term; None if every voxel counts.
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
    ignore_index: int | None = None


@dataclass(frozen=True)
class LossParts:
    """A loss, and two numbers that every kind reports so that trainings compare; all scalars.

    Args:
        total: What is minimized.
        dice: Soft Dice loss over the same outputs and patches.
        cross_entropy: Mean cross-entropy over the voxels that count, unweighted.
    """

    total: Tensor
    dice: Tensor
    cross_entropy: Tensor


@dataclass(frozen=True)
class Sums:
    """Sums of probabilities; one row for the batch, or one per patch.

    Args:
        overlap: Probability of the output where the label has it.
        predicted: Probability of the output everywhere.
        reference: Voxels of the label that have it.
        is_annotated: Whether the label can tell, None if it always can.
    """

    overlap: Float[Tensor, "row output"]
    predicted: Float[Tensor, "row output"]
    reference: Float[Tensor, "row output"]
    is_annotated: Bool[Tensor, "row output"] | None = None


def in_working_precision(
    logits: Float[Tensor, "batch output i j k"],
) -> Float[Tensor, "batch output i j k"]:
    """Logits in float32 or, where they come so, float64; half precision cannot add up a patch."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def overlap_losses(sums: Sums, settings: LossSettings, *, first: int = 0) -> tuple[Tensor, Tensor]:
    """The overlap term of a loss, before its weight, and the Dice loss that every kind reports.

    Args:
        sums: One row per patch.
        settings: Says which overlap, and whether of the whole batch.
        first: The first output that counts; 1 leaves the background out.

    Returns:
        Two scalars, the same one for kinds of Dice; means over the outputs some case annotates.
    """
    sums = _over_batch(sums) if settings.batch_dice else sums
    dice = _mean(_dice_loss(sums), sums, first)
    kind = OVERLAP.get(settings.kind, "dice")
    if kind == "dice":
        return dice, dice
    if kind == "generalized_dice":
        return _generalized_dice_loss(sums, first), dice
    loss = _tversky_loss(sums, settings.tversky_alpha, settings.tversky_beta)
    if kind == "focal_tversky":
        loss = loss * loss.clamp(min=_MIN_DISTANCE) ** (1 / settings.tversky_gamma - 1)
    return _mean(loss, sums, first), dice


def voxel_losses(
    of_label: Float[Tensor, "*shape"], settings: LossSettings
) -> Float[Tensor, "*shape"]:
    """Cross-entropy or focal loss of every voxel.

    Args:
        of_label: Logarithm of the probability given to what the label says; any shape.
        settings: Says which.

    Returns:
        The losses, unweighted.
    """
    if VOXELWISE[settings.kind] != "focal":
        return -of_label
    doubt = (1 - of_label.exp()).clamp(min=_MIN_DOUBT)
    return -(doubt**settings.focal_gamma * of_label)


def _over_batch(sums: Sums) -> Sums:
    known = sums.is_annotated
    if known is None:
        return Sums(
            sums.overlap.sum(0, keepdim=True),
            sums.predicted.sum(0, keepdim=True),
            sums.reference.sum(0, keepdim=True),
        )
    return Sums(
        (sums.overlap * known).sum(0, keepdim=True),
        (sums.predicted * known).sum(0, keepdim=True),
        (sums.reference * known).sum(0, keepdim=True),
        known.any(0, keepdim=True),
    )


def _dice_loss(sums: Sums) -> Float[Tensor, "row output"]:
    return 1 - 2 * sums.overlap / (sums.predicted + sums.reference + _SMOOTH)


def _generalized_dice_loss(sums: Sums, first: int) -> Tensor:
    """One Dice of all outputs together, each weighted by one over the square of its volume.

    An output that is absent from the label of a row weighs as much as the smallest one that is
    there, as in MONAI: finding it nevertheless costs most. A row whose label has none of the
    outputs has no weights at all; it costs nothing and moves nothing.

    Source:
        Sudre et al. 2017 (DLMIA), with weights relative to the largest of the row. They cancel
        out, and the constant in the denominator stays the count of voxels that it is in Dice;
        beside plain weights, which fall with the square of the volume, it would outweigh the sums
        of a large patch.
    """
    reference = sums.reference[:, first:]
    is_known = torch.ones_like(reference, dtype=torch.bool)
    if sums.is_annotated is not None:
        is_known = sums.is_annotated[:, first:]
    is_present = is_known & (reference > 0)
    smallest = reference.masked_fill(~is_present, torch.inf).amin(1, keepdim=True)
    weights = torch.where(
        is_present, (smallest / reference.clamp(min=1)) ** 2, is_known.to(reference)
    )
    overlap = (weights * sums.overlap[:, first:]).sum(1)
    both = (weights * (sums.predicted[:, first:] + reference)).sum(1)
    loss = (1 - 2 * overlap / (both + _SMOOTH)) * is_present.any(1)
    return loss.sum() / is_known.any(1).sum().clamp(min=1)


def _tversky_loss(sums: Sums, alpha: float, beta: float) -> Float[Tensor, "row output"]:
    false_positive = sums.predicted - sums.overlap
    false_negative = sums.reference - sums.overlap
    weighted = sums.overlap + alpha * false_positive + beta * false_negative
    return 1 - sums.overlap / (weighted + _SMOOTH)


def _mean(loss: Float[Tensor, "row output"], sums: Sums, first: int) -> Tensor:
    if sums.is_annotated is None:
        return loss[:, first:].mean()
    known = sums.is_annotated[:, first:]
    # Where no case of the batch can tell, there is nothing to learn: no term instead of a 1.
    return (loss[:, first:] * known).sum() / known.sum().clamp(min=1)
