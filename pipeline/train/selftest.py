"""Loss and metric tried on answers that are known, with this task's classes and weights (P04)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from pipeline.artifacts import Finding
from pipeline.metrics.scores import score_label_maps

LossFunction = Callable[[Tensor, Tensor], Tensor]
# Prediction and reference to the Dice of every class; None where it is undefined.
DiceFunction = Callable[
    [Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"]], Mapping[str, float | None]
]

TOLERANCE = 1e-3
# Logits this far apart leave a softmax of 1 and 0 in float32.
_SURE_LOGIT = 50.0


def validation_dice(class_names: Sequence[str]) -> DiceFunction:
    """The Dice that training reports, as a function of two maps of class indices."""

    def dice(
        prediction: Integer[np.ndarray, "i j k"], reference: Integer[np.ndarray, "i j k"]
    ) -> Mapping[str, float | None]:
        case = score_label_maps(
            "self-test",
            prediction=prediction,
            reference=reference,
            class_names=class_names,
            spacing_mm=(1.0, 1.0, 1.0),
        )
        return {scores.class_name: scores.dice.value for scores in case.classes}

    return dice


def check_metric(
    dice: DiceFunction, labels: Sequence[Integer[np.ndarray, "i j k"]]
) -> list[Finding]:
    """P04: Dice is 1 for the reference itself, 0 for an empty answer, between for a shifted one.

    Args:
        dice: The metric.
        labels: Labels of patches, class index per voxel.

    Returns:
        One error per expectation that is not met.
    """
    findings = []
    for label in labels:
        same, empty = dice(label, label), dice(np.zeros_like(label), label)
        shifted = dice(np.roll(label, 1, axis=0), label)
        for name, value in same.items():
            if value is not None:
                findings += _metric_finding(name, "the reference itself", value, 1.0, 1.0)
        for name, value in empty.items():
            if value is not None:
                findings += _metric_finding(name, "an empty prediction", value, 0.0, 0.0)
        for name, value in shifted.items():
            if value is not None:
                findings += _metric_finding(name, "a shifted reference", value, 0.0, 1.0)
    return findings[:1]


def _metric_finding(
    name: str, of_what: str, value: float, low: float, high: float
) -> list[Finding]:
    if low - TOLERANCE <= value <= high + TOLERANCE:
        return []
    wanted = f"{low:g}" if low == high else f"between {low:g} and {high:g}"
    return [
        Finding(
            check_id="P04",
            severity="error",
            class_name=name,
            value=value,
            threshold=wanted,
            message=f"the metric is wrong: Dice of {of_what} is {value:.3f}, not {wanted}",
            fix="label values are not 0 and 1 per class, or the metric reads probabilities; "
            "please report it, this is a defect of Voxline",
        )
    ]


def check_loss(loss: LossFunction, n_classes: int, device: torch.device) -> list[Finding]:
    """P04: the loss of the right answer is about 0, that of a blank one is clearly more.

    Args:
        loss: Logits and label to the loss.
        n_classes: Foreground classes.
        device: Where the loss computes.

    Returns:
        At most one error.
    """
    label = _every_class(n_classes).to(device)
    with torch.no_grad():
        right = float(loss(_sure_logits(label, n_classes), label))
        blank = float(loss(_sure_logits(torch.zeros_like(label), n_classes), label))
    if abs(right) <= TOLERANCE and blank > right + TOLERANCE:
        return []
    return [
        Finding(
            check_id="P04",
            severity="error",
            value=right,
            threshold=TOLERANCE,
            message=f"the loss is wrong: {right:.4f} for the right answer (0 is expected) and "
            f"{blank:.4f} for a blank one",
            fix="check train.loss: weights of 0 or a class count that does not fit the labels",
        )
    ]


def _every_class(n_classes: int) -> Int[Tensor, "batch i j k"]:
    """A small label that shows every class in every patch, so that no term is a constant."""
    return torch.arange(n_classes + 1)[None, :, None, None].repeat(2, 1, 4, 4)


def _sure_logits(
    label: Int[Tensor, "batch i j k"], n_classes: int
) -> Float[Tensor, "batch class i j k"]:
    classes = torch.arange(n_classes + 1, device=label.device)[None, :, None, None, None]
    return _SURE_LOGIT * (label[:, None] == classes).float()
