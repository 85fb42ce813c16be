"""Losses of MONAI by name, for networks with one output per class."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import override

from pipeline.core.errors import ConfigError
from pipeline.models.across import Gather, mean_across, rows_of_all
from pipeline.models.by_name import REFUSALS, checked_arguments, construct, first_line, loss_class
from pipeline.models.loss_terms import LossParts, LossSettings, in_working_precision
from pipeline.models.losses import SegmentationLoss

# Takes class indices without saying so by an argument `to_onehot_y`.
_OF_INDICES: dict[str, Literal["channel", "no channel"]] = {
    "GeneralizedWassersteinDiceLoss": "channel",
    "NACLLoss": "no channel",
}
_ACTIVATIONS = ("softmax", "sigmoid", "use_softmax", "other_act")
_TRIAL_SIZE = 8
# Two sums of the same numbers in float32.
_SAME = 1e-5


class MonaiLoss(nn.Module):
    """A loss of MONAI over classes that exclude each other, in float32.

    Labels are turned one-hot and logits go through a softmax unless the arguments say otherwise.
    Tried out on random numbers when made, so that what cannot work is refused before training.

    Args:
        name: Class in monai.losses.
        args: Its arguments; a list becomes a tensor where one is wanted.
        reported: What the Dice that every kind reports is made of.
        n_outputs: Classes, the background included.

    Raises:
        ConfigError: If there is no such loss, it does not take these arguments, or does not
            compare the logits of classes with a label map.
    """

    # Set where several processes hold parts of a batch: the loss is then that of all of it.
    gather: Gather | None = None

    def __init__(
        self, name: str, args: Mapping[str, Any], reported: LossSettings, n_outputs: int
    ) -> None:
        super().__init__()
        self._name = name
        self._loss = _made(name, args)
        self._has_channel = _OF_INDICES.get(name, "channel") == "channel"
        self._reported = SegmentationLoss(reported)
        self._try_out(n_outputs)

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
            is_annotated: None, or true throughout.

        Returns:
            The loss, and the parts that every kind reports.

        Raises:
            ConfigError: If a class was not drawn in a case: MONAI has no such loss.
        """
        if is_annotated is not None and not bool(is_annotated.all()):
            raise refusal_of(self._name, "cases in which some classes were not annotated")
        with torch.no_grad():
            parts = self._reported(logits, label)
        logits = in_working_precision(logits)
        if self._is_mean_of_patches:
            total = mean_across(self._loss(logits, self._target(label)), self.gather)
        else:
            total = self._loss(
                rows_of_all(logits, self.gather), self._target(rows_of_all(label, self.gather))
            )
        return LossParts(total, parts.dice, parts.cross_entropy)

    def _target(self, label: Int[Tensor, "batch i j k"]) -> Int[Tensor, "..."]:
        return label[:, None] if self._has_channel else label

    def _try_out(self, n_outputs: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (2, n_outputs, _TRIAL_SIZE, _TRIAL_SIZE, _TRIAL_SIZE)
        logits = torch.randn(shape, generator=generator).requires_grad_()
        label = torch.randint(0, n_outputs, (2, *shape[2:]), generator=generator)
        where = f"train.loss.name {self._name}, train.loss.args"
        try:
            with torch.enable_grad():
                total = self._loss(logits, self._target(label))
                halves = [self._loss(logits[[n]], self._target(label[[n]])) for n in range(2)]
        except REFUSALS as error:
            raise ConfigError(
                f"monai.losses.{self._name} cannot be used for {n_outputs} classes: "
                f"{first_line(error)}",
                where=where,
                fix="change train.loss.args, or take a built-in train.loss.kind",
            ) from error
        if total.shape != () or not total.requires_grad or not bool(torch.isfinite(total)):
            raise ConfigError(
                f"monai.losses.{self._name} gives no number to minimize: shape "
                f"{tuple(total.shape)}, {'finite' if total.isfinite().all() else 'not finite'}, "
                f"{'with' if total.requires_grad else 'without'} gradient",
                where=where,
                fix="leave reduction at its default, or change the other arguments",
            )
        # Not so with `batch: true` or with weights that are divided by their sum.
        mean = sum(halves) / 2
        self._is_mean_of_patches = bool(torch.isclose(total, mean, rtol=_SAME, atol=_SAME))


def refusal_of(name: str, what: str) -> ConfigError:
    """The error for labels that MONAI's losses do not know.

    Args:
        name: Class in monai.losses.
        what: What it cannot handle.

    Returns:
        An error that names the losses which can.
    """
    return ConfigError(
        f"monai.losses.{name} cannot handle {what}",
        where="train.loss.kind monai",
        fix="the built-in losses can, all of them: train.loss.kind dice_ce, dice_focal, "
        "generalized_dice_ce, tversky_ce, ...",
    )


def _made(name: str, args: Mapping[str, Any]) -> nn.Module:
    kind, where = loss_class(name), "train.loss.args"
    parameters = inspect.signature(kind).parameters
    if not _is_of_classes(name, parameters):
        raise ConfigError(
            f"monai.losses.{name} does not compare the logits of classes with a label map",
            where="train.loss.name",
            fix="take DiceCELoss, DiceFocalLoss, TverskyLoss, GeneralizedDiceLoss, HausdorffDTLoss "
            "or another loss with the arguments to_onehot_y and softmax",
        )
    known: dict[str, Any] = {"to_onehot_y": True}
    if not any(args.get(key) for key in _ACTIVATIONS):
        known |= {"softmax": True, "use_softmax": True}
    given = checked_arguments(kind, args, known, where)
    tensors = {key: _value(parameters, key, value) for key, value in given.items()}
    return construct(kind, tensors, where)


def _is_of_classes(name: str, parameters: Mapping[str, inspect.Parameter]) -> bool:
    has_activation = "softmax" in parameters or "use_softmax" in parameters
    return name in _OF_INDICES or ("to_onehot_y" in parameters and has_activation)


def _value(parameters: Mapping[str, inspect.Parameter], key: str, value: Any) -> Any:
    """A list as a tensor, where the signature wants one: YAML has no tensors."""
    wanted = str(parameters[key].annotation) if key in parameters else ""
    if isinstance(value, list) and "Tensor" in wanted:
        return torch.tensor(value, dtype=torch.float32)
    return value
