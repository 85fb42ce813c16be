"""Network, averaged weights and optimizer: what one step changes and a checkpoint keeps."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from pipeline.artifacts import Plan, Task
from pipeline.core.seeds import generator_for
from pipeline.models.across import gather_sums
from pipeline.models.deep_supervision import DeepSupervisionLoss
from pipeline.models.device import mixed_precision_dtype, number_format
from pipeline.models.loss_terms import LossParts, LossSettings
from pipeline.models.losses import SegmentationLoss
from pipeline.models.monai_loss import MonaiLoss, refusal_of
from pipeline.models.networks import build_network
from pipeline.models.region_loss import RegionLoss
from pipeline.models.small_convolutions import exact_small_convolutions
from pipeline.train.config import LossConfig, TrainConfig
from pipeline.train.data import Batch
from pipeline.train.ranks import Ranks

# From its first scale of 65,536 a scaler reaches 1 after 16 halvings; what overflows even below
# that is no matter of scale.
MAX_OVERFLOWS_IN_A_ROW = 24


@dataclass(frozen=True)
class StepResult:
    """What one step says about itself.

    Args:
        loss: Total loss.
        dice_loss: Dice part, before its weight.
        cross_entropy: Cross-entropy part, before its weight.
        gradient_norm: Before clipping.
        is_finite: False: the step was not taken, weights are as they were.
        n_patches_of: Patches of the batch that show each class, foreground classes in order.
    """

    loss: float
    dice_loss: float
    cross_entropy: float
    gradient_norm: float
    is_finite: bool
    n_patches_of: tuple[int, ...] = ()


def nothing() -> None:
    """What there is to do while a step is computed, where there is nothing to do."""


class Learner:
    """Everything that learns.

    Args:
        plan: Network and learning rate.
        task: Regions, and voxels to ignore.
        config: Loss, optimizer, averaging, precision and seed.
        device: Where to train.
    """

    def __init__(self, plan: Plan, task: Task, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        # Channels last: the same step of a network with few channels takes a third less on a CPU.
        # On a GPU it makes instance normalization slower than it makes convolutions faster.
        self._memory_format = (
            torch.channels_last_3d if device.type == "cpu" else torch.contiguous_format
        )
        self.network = build_network(plan.network).to(device)
        self.network.to(memory_format=self._memory_format)  # type: ignore[call-overload]  # real
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        self._config, self._device = config, device
        self._plan, self._task = plan, task
        # Values that a label may hold: background, classes, and what is to be ignored.
        self._n_values = 1 + max(len(task.classes), task.ignore_index or 0)
        self.take_loss(config.loss)
        self._optimizer = _optimizer(self.network, plan.learning_rate, config)
        self._n_updates = 0
        self._amp_dtype = mixed_precision_dtype(device) if config.amp else None
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp_dtype is torch.float16)
        self._n_overflows = 0
        # Set where several processes train together; each then brings its share of the batch.
        self.ranks: Ranks | None = None

    def step(
        self, batch: Batch, rate: float, meanwhile: Callable[[], None] = nothing
    ) -> StepResult:
        """Take one optimization step.

        Args:
            batch: Patches and labels.
            rate: Learning rate.
            meanwhile: Called while a GPU works on what the step has given it; raises nothing.

        Returns:
            The loss and whether the step was taken.
        """
        if self.ranks is None:
            return self._step(batch, rate, meanwhile)
        self.ranks.tell("step", rate)
        gather_sums(self.loss, self.ranks.gather_rows)
        with self.ranks.joint_work():
            return self._step(batch, rate, meanwhile)

    def _step(self, batch: Batch, rate: float, meanwhile: Callable[[], None]) -> StepResult:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._seed_draws()
        # Running statistics change as a batch passes, before anyone knows whether it is a good one.
        before = [b.clone() for b in self.network.buffers()]
        is_taken = False
        try:
            result = self._update(batch, meanwhile)
            is_taken = result.is_finite
        finally:
            if not is_taken:
                for buffer, kept in zip(self.network.buffers(), before, strict=True):
                    buffer.copy_(kept)
        return result

    def _seed_draws(self) -> None:
        """Let what the network draws, as dropout does, follow from the seed and the step alone."""
        rank = 0 if self.ranks is None else self.ranks.rank
        rng = generator_for(self._config.seed, "network", self._n_updates, rank)
        number = int(rng.integers(2**63))
        if self._device.type == "cuda":
            torch.cuda.manual_seed(number)
        else:
            torch.default_generator.manual_seed(number)

    def _update(self, batch: Batch, meanwhile: Callable[[], None]) -> StepResult:
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._forward(batch)
        torch.autograd.backward(self._scaler.scale(parts.total))
        n_patches_of = _patches_of(batch.label, self._n_values)[1 : 1 + len(self._task.classes)]
        meanwhile()
        if self.ranks is not None:
            self._add_up(self.ranks, n_patches_of)
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), self._config.optimizer.clip_norm, foreach=True
        )
        # Read at once, before the weights move: on a GPU each reading waits for all work so far.
        numbers = (parts.total.detach(), parts.dice, parts.cross_entropy, norm)
        scalars = torch.stack([number.detach().float() for number in numbers])
        loss, dice_loss, cross_entropy, gradient_norm, *counts = torch.cat(
            [scalars, n_patches_of]
        ).tolist()
        is_overflow = not math.isfinite(gradient_norm)
        self._n_overflows = self._n_overflows + 1 if is_overflow else 0
        # With float16 an overflowing gradient is normal: the scaler skips it and lowers its scale.
        is_forgiven = self._scaler.is_enabled() and self._n_overflows <= MAX_OVERFLOWS_IN_A_ROW
        is_finite = math.isfinite(loss) and (is_forgiven or not is_overflow)
        if is_finite:
            self._scaler.step(self._optimizer)
            if not is_overflow:
                self._average()
        self._scaler.update()
        n_of = tuple(int(n) for n in counts)
        return StepResult(loss, dice_loss, cross_entropy, gradient_norm, is_finite, n_of)

    @property
    def number_format(self) -> str:
        """Name of the number format of convolutions."""
        return number_format(self._device, is_mixed=self._config.amp)

    @property
    def loss_config(self) -> LossConfig:
        """What the present loss is made of; another one than configured after a switch."""
        return self._loss_config

    def take_loss(self, config: LossConfig) -> None:
        """Minimize another loss in the steps to come; part of the state."""
        loss: nn.Module = build_loss(self._plan, self._task, config)
        if self._plan.network.n_deep_outputs > 0:
            loss = DeepSupervisionLoss(loss)
        self.loss = loss.to(self._device)
        self._loss_config = config

    def set_momentum(self, momentum: float) -> None:
        """Change the momentum (SGD) or first beta (AdamW) of the steps to come."""
        if self.ranks is not None:
            self.ranks.tell("momentum", momentum)
        for group in self._optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum

    def _add_up(self, ranks: Ranks, n_patches_of: Float[Tensor, "class"]) -> None:
        """Make gradients, running statistics and counts those of the whole batch."""
        ranks.average([b for b in self.network.buffers() if b.is_floating_point()])
        # Each process differentiates the loss of the whole batch by its own patches only.
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        ranks.add_up([*gradients, n_patches_of])

    def _forward(self, batch: Batch) -> LossParts:
        self.network.train()
        mixed = torch.autocast(
            self._device.type,
            dtype=self._amp_dtype or torch.bfloat16,
            enabled=self._amp_dtype is not None,
        )
        with mixed, exact_small_convolutions(self._device):
            logits = self.network(batch.image.contiguous(memory_format=self._memory_format))
        return self.loss(logits, batch.label, batch.is_annotated)

    def _average(self) -> None:
        """Move the averaged weights towards the present ones (exponential moving average)."""
        self._n_updates += 1
        # Early on the average must follow quickly, or it would remember the random start.
        decay = min(self._config.ema_decay, self._n_updates / (10 + self._n_updates))
        averaged = [p.data for p in self.averaged.parameters()]
        present = [p.data for p in self.network.parameters()]
        torch._foreach_lerp_(averaged, present, 1 - decay)
        for kept, new in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
            kept.copy_(new)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on as if nothing had happened."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "n_updates": self._n_updates,
            "loss": self._loss_config.model_dump_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state made by `state`."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimizer.load_state_dict(state["optimizer"])
        # Empty where training began without float16.
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self._n_updates = int(state["n_updates"])
        loss = LossConfig.model_validate_json(state["loss"])
        if loss != self._loss_config:
            self.take_loss(loss)

    def weights(self) -> dict[str, Tensor]:
        """Averaged weights on the CPU: what a model file holds."""
        return {name: t.detach().cpu().clone() for name, t in self.averaged.state_dict().items()}


def _patches_of(label: Integer[Tensor, "batch i j k"], n_values: int) -> Float[Tensor, "value"]:
    """How many patches hold each value; counted without waiting for a GPU."""
    holds = torch.zeros((len(label), n_values), dtype=torch.bool, device=label.device)
    return holds.scatter_(1, label.flatten(1), value=True).sum(0).float()


def build_loss(
    plan: Plan, task: Task, config: LossConfig
) -> SegmentationLoss | RegionLoss | MonaiLoss:
    """The loss that a training minimizes.

    Args:
        plan: Has the weight of each class.
        task: Regions, and voxels to ignore.
        config: What the loss is made of.

    Returns:
        The loss, on the CPU; of regions if the task has some, else of classes.

    Raises:
        ConfigError: If a loss of MONAI does not exist, or does not fit the task or its arguments.
    """
    settings = LossSettings(
        kind="dice" if config.kind == "monai" else config.kind,
        overlap_weight=config.dice_weight,
        voxel_weight=config.ce_weight,
        include_background=config.has_background_dice,
        batch_dice=config.batch_dice,
        focal_gamma=config.focal_gamma,
        tversky_alpha=config.tversky_alpha,
        tversky_beta=config.tversky_beta,
        tversky_gamma=config.tversky_gamma,
        class_weights=plan.class_weights,
        ignore_index=task.ignore_index,
    )
    if config.kind == "monai":
        name = str(config.name)
        if task.regions or task.ignore_index is not None:
            raise refusal_of(name, "task.regions" if task.regions else "task.ignore")
        return MonaiLoss(name, config.args, settings, plan.network.n_output_channels)
    if not task.regions:
        return SegmentationLoss(settings)
    index_of = {c.name: c.index for c in task.classes}
    regions = [[index_of[name] for name in region.classes] for region in task.regions]
    return RegionLoss(settings, regions, len(task.classes))


def _optimizer(network: nn.Module, rate: float, config: TrainConfig) -> torch.optim.Optimizer:
    chosen = config.optimizer
    if chosen.kind == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=rate,
            momentum=chosen.momentum,
            nesterov=chosen.momentum > 0,
            weight_decay=chosen.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        network.parameters(), lr=rate, weight_decay=chosen.weight_decay, fused=True
    )
