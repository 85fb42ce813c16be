"""Augmentation, loss and metric tried on what has a known answer, with this task's classes."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from pipeline.artifacts import Finding, Plan, Task
from pipeline.metrics.scores import score_label_maps
from pipeline.train.config import TrainConfig
from pipeline.train.data import BatchSource
from pipeline.train.prepare import PreparedCase
from pipeline.transforms.config import AugmentationConfig

LossFunction = Callable[[Tensor, Tensor], Tensor]
# Prediction and reference to the Dice of every class; None where it is undefined.
DiceFunction = Callable[
    [Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"]], Mapping[str, float | None]
]

TOLERANCE = 1e-3
# Logits this far apart leave a softmax of 1 and 0 in float32.
_SURE_LOGIT = 50.0
# A box that lies in one corner: mirrored or moved, it overlaps itself by a quarter.
_BOX = (0.15, 0.55)
MIN_OVERLAP = 0.5
# Fewer voxels of the box in a patch say nothing about where it lies.
_MIN_BOX_VOXELS = 30


def validation_dice(task: Task) -> DiceFunction:
    """The Dice that training reports, as a function of two maps of class indices."""

    def dice(
        prediction: Integer[np.ndarray, "i j k"], reference: Integer[np.ndarray, "i j k"]
    ) -> Mapping[str, float | None]:
        case = score_label_maps(
            "self-test",
            prediction=prediction,
            reference=reference,
            class_names=task.class_names,
            spacing_mm=(1.0, 1.0, 1.0),
            ignore_index=task.ignore_index,
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


def check_augmentation(
    plan: Plan, n_classes: int, config: TrainConfig, device: torch.device
) -> list[Finding]:
    """P01, P02: a known box comes out of the batches with its own value, under its own image.

    Args:
        plan: Patch and channels.
        n_classes: Foreground classes.
        config: Of the training; only its augmentation is replaced, by one that moves every patch
            and changes no intensity.
        device: Where batches are made.

    Returns:
        At most one error: values that interpolation made, or an image and label that came apart.
    """
    plan = plan.model_copy(update={"batch_size": 2, "mirror_axes": (0, 1, 2)})
    case, highest = _box_case(plan, n_classes), n_classes
    for affine, mirror in ((1.0, 0.0), (0.0, 1.0)):
        moved = config.model_copy(update={"augmentation": _only_moved(affine, mirror)})
        batch = BatchSource([case], plan, moved, device).batch(0)
        made_up = set(torch.unique(batch.label).tolist()) - {0, highest}
        if made_up:
            shown = ", ".join(map(str, sorted(made_up)[:8]))
            return [_value_made_up(shown, highest)]
        overlap = _overlap(batch.image[:, 0] > 0, batch.label > 0)
        if overlap < MIN_OVERLAP:
            return [_came_apart(overlap)]
    return []


def _only_moved(affine: float, mirror: float) -> AugmentationConfig:
    names = [n for n in AugmentationConfig.model_fields if n.endswith("_probability")]
    moved = {"affine_probability": affine, "mirror_probability": mirror}
    return AugmentationConfig().model_copy(update={**dict.fromkeys(names, 0.0), **moved})


def _box_case(plan: Plan, n_classes: int) -> PreparedCase:
    """A case as large as a patch: 1 inside the box, -1 outside, labelled with the last class."""
    inside = np.zeros(plan.patch_size, dtype=bool)
    inside[tuple(slice(int(_BOX[0] * n), max(1, int(_BOX[1] * n))) for n in plan.patch_size)] = True
    image = np.where(inside, 1.0, -1.0).astype(np.float16)
    none = np.zeros((0, 3), dtype=np.int32)
    return PreparedCase(
        case_id="self-test",
        image=np.repeat(image[None], plan.network.n_input_channels, axis=0),
        label=(n_classes * inside).astype(np.uint8),
        coordinates=(*[none] * (n_classes - 1), np.argwhere(inside).astype(np.int32)),
        spacing_mm=plan.preprocessing.spacing_mm,
    )


def _overlap(one: Bool[Tensor, "batch i j k"], two: Bool[Tensor, "batch i j k"]) -> float:
    n_either = int(one.sum()) + int(two.sum())
    return 1.0 if n_either < _MIN_BOX_VOXELS else 2 * int((one & two).sum()) / n_either


def _value_made_up(shown: str, highest: int) -> Finding:
    return Finding(
        check_id="P01",
        severity="error",
        value=shown,
        threshold=f"0 and {highest}",
        message=f"a test label of 0 and {highest} came out of the augmentation with values "
        f"{shown}: labels are interpolated or rescaled",
        fix="labels must be resampled with nearest neighbor and never be normalized; please "
        "report it, this is a defect of Voxline",
    )


def _came_apart(overlap: float) -> Finding:
    return Finding(
        check_id="P02",
        severity="error",
        value=overlap,
        threshold=MIN_OVERLAP,
        message=f"after augmentation a test label overlaps its own image by only {overlap:.0%}: "
        "one is moved or mirrored and the other is not",
        fix="please report it, this is a defect of Voxline",
    )


def check_loss(
    loss: LossFunction, task: Task, device: torch.device, *, has_zero: bool = True
) -> list[Finding]:
    """P04: the loss of the right answer is about 0, that of a blank one is clearly more.

    Args:
        loss: Logits and label to the loss.
        task: Classes and regions.
        device: Where the loss computes.
        has_zero: Whether the loss of the right answer must be 0; some of other libraries are not.

    Returns:
        At most one error.
    """
    label = every_class(len(task.classes)).to(device)
    with torch.no_grad():
        right = float(loss(_sure_logits(label, task), label))
        blank = float(loss(_sure_logits(torch.zeros_like(label), task), label))
    if (abs(right) <= TOLERANCE or not has_zero) and blank > right + TOLERANCE:
        return []
    return [
        Finding(
            check_id="P04",
            severity="error",
            value=right,
            threshold=TOLERANCE,
            message=f"the loss is wrong: {right:.4f} for the right answer"
            f"{' (0 is expected)' if has_zero else ''} and {blank:.4f} for a blank one",
            fix="check train.loss: weights of 0 or a class count that does not fit the labels",
        )
    ]


def every_class(n_classes: int) -> Int[Tensor, "batch i j k"]:
    """A small label that shows every class in every patch, so that no term is a constant."""
    return torch.arange(n_classes + 1)[None, :, None, None].repeat(2, 1, 4, 4)


def _sure_logits(
    label: Int[Tensor, "batch i j k"], task: Task
) -> Float[Tensor, "batch output i j k"]:
    """What a network that is sure of this label would answer."""
    is_class = [label == index for index in range(len(task.classes) + 1)]
    if not task.regions:
        return _SURE_LOGIT * torch.stack(is_class, 1).float()
    inside = [
        torch.stack([is_class[c.index] for c in task.classes if c.name in region.classes]).any(0)
        for region in task.regions
    ]
    return _SURE_LOGIT * (2 * torch.stack(inside, 1).float() - 1)
