"""The loss of networks that answer at several resolutions while they train."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import override

from pipeline.models.loss_terms import LossParts


class DeepSupervisionLoss(nn.Module):
    """A weighted sum of a loss over all outputs; each coarser one counts half of the one before.

    Coarser labels are every n-th voxel of the label: classes are never mixed, and voxels to ignore
    stay so.

    Args:
        loss: Compares logits with a label of the same size.

    Source:
        Weights as in nnU-Net (Isensee et al. 2021): 1, 1/2, 1/4, ... divided by their sum.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.full = loss

    @override
    def forward(
        self,
        outputs: Float[Tensor, "batch output i j k"] | Sequence[Tensor],
        label: Int[Tensor, "batch i j k"],
        is_annotated: Bool[Tensor, "batch class"] | None = None,
    ) -> LossParts:
        """Compare the outputs of a network with class indices.

        Args:
            outputs: Logits; or several, the full ones first.
            label: Class index per voxel of the full ones.
            is_annotated: Whether each class was drawn in the case of each patch, background first;
                None if all were.

        Returns:
            The weighted loss, and the parts of the full output, which compare with those of other
            trainings.
        """
        if isinstance(outputs, Tensor):
            parts: LossParts = self.full(outputs, label, is_annotated)
            return parts
        parts, *coarser = (
            self.full(logits, coarse_label(label, logits), is_annotated) for logits in outputs
        )
        weights = output_weights(len(outputs))
        total = weights[0] * parts.total
        for weight, other in zip(weights[1:], coarser, strict=True):
            total = total + weight * other.total
        return replace(parts, total=total)


def output_weights(n_outputs: int) -> tuple[float, ...]:
    """Weights that halve from one output to the next, and add up to 1."""
    halved = [0.5**level for level in range(n_outputs)]
    return tuple(weight / sum(halved) for weight in halved)


def coarse_label(
    label: Int[Tensor, "batch i j k"], logits: Float[Tensor, "batch output a b c"]
) -> Int[Tensor, "batch a b c"]:
    """Every n-th voxel of a label, as many as there are logits.

    Args:
        label: At full size.
        logits: Of a coarser output; every side divides that of the label.

    Returns:
        A view of the label if the sizes agree, else a copy.

    Raises:
        ValueError: If a side of the output does not divide that of the label.
    """
    sizes = list(zip(label.shape[1:], logits.shape[2:], strict=True))
    if any(full % coarse for full, coarse in sizes):
        raise ValueError(f"an output of {[n for _, n in sizes]} voxels for {[n for n, _ in sizes]}")
    si, sj, sk = (full // coarse for full, coarse in sizes)
    return label[:, ::si, ::sj, ::sk].contiguous()
