"""Training losses. Computed in float32, from logits and a label map."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

LossKind = Literal["dice", "dice_ce"]


@dataclass(frozen=True)
class LossParts:
    """A loss and what it is made of, each a scalar tensor."""

    total: Tensor
    dice: Tensor
    cross_entropy: Tensor


class SegmentationLoss(nn.Module):
    """Soft Dice, alone or with cross-entropy.

    Dice is taken over the whole batch at once ("batch Dice"): a class absent from one patch is
    still learned from the others. One absent from the whole batch adds a constant 1 without
    gradient, which foreground sampling makes rare and cross-entropy makes up for. The smoothing
    term stands in the denominator only, so that it never counts as agreement.

    Args:
        kind: "dice" or "dice_ce".
        dice_weight: Factor of the Dice term.
        ce_weight: Factor of the cross-entropy term; unused by "dice".
        include_background: Whether Dice is also taken of the background.
    """

    def __init__(
        self,
        kind: LossKind,
        *,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        include_background: bool = False,
    ) -> None:
        super().__init__()
        from monai.losses.dice import DiceLoss  # see build_network

        self._dice = DiceLoss(
            include_background=include_background,
            to_onehot_y=True,
            softmax=True,
            batch=True,
            smooth_nr=0.0,
            smooth_dr=1e-5,
        )
        self._dice_weight = dice_weight
        self._ce_weight = ce_weight if kind == "dice_ce" else 0.0

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
        logits = logits.float()
        dice = self._dice(logits, label[:, None])
        if self._ce_weight == 0:
            # Reported, not trained on: the curve shows what Dice alone does to it.
            with torch.no_grad():
                cross_entropy = F.cross_entropy(logits, label)
            return LossParts(self._dice_weight * dice, dice.detach(), cross_entropy)
        cross_entropy = F.cross_entropy(logits, label)
        total = self._dice_weight * dice + self._ce_weight * cross_entropy
        return LossParts(total, dice.detach(), cross_entropy.detach())
