"""Fit the patch and batch of a plan to the memory that a step was measured to take.

What is decided is kept in `train/probe.json` and taken from there ever after: free memory differs
from start to start, and a training that is resumed must find the plan it began with, even where
another number format is computed in.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from math import prod
from pathlib import Path

import torch
from filelock import FileLock
from pydantic import Field

from pipeline.artifacts import Plan, Task, read_artifact
from pipeline.core.artifact import Artifact
from pipeline.core.config import StrictModel
from pipeline.core.errors import MissingInputError
from pipeline.core.workspace import write_json
from pipeline.models.device import number_format
from pipeline.models.memory import FreeMemory, free_memory
from pipeline.train.config import TrainConfig
from pipeline.train.plan import MAX_DATA_FRACTION, MIN_BATCH, Budget, usual_budget
from pipeline.train.probe import TIMEOUT_S, Measured, measure_step

logger = logging.getLogger(__name__)

_GIB, _MIB_PER_GIB = 2**30, 1024
# The rest is for the cases in memory (data.RESIDENT_FRACTION), validation, and other programs.
USABLE_FRACTION = 0.6
# A CPU step far below its memory is not worth the seconds that starting a process takes.
FAR_BELOW_FRACTION = 0.1
# Far more than a convolutional network keeps per voxel: every level's channels as if at full
# resolution, six copies of each, and as much again for the gradient.
_COPIES_PER_CHANNEL = 2 * 6 * 4
# Networks whose width the plan does not tell count as this wide.
_UNKNOWN_CHANNELS = 1024
_PLANNED_WIDTH = ("dynunet", "unet", "segresnet")
# Larger steps than usual only up to this: nnU-Net's largest preset (ResEnc XL) trains 3.4 times
# the voxels of its usual one; beyond it a step costs time that more steps use better.
MAX_GROWTH = 4
MAX_PROBES = 8
# Nothing can be learned from less; planning stops there.
MIN_PATCH_VOXELS = 8**3
# A patch becomes smaller by the measured excess, but not by more, nor by less, than this at once.
_SMALLEST_CUT, _LARGEST_CUT = 0.8, 0.25
_SAFETY = 0.95
# What decides how much memory a step takes, beside network, patch and batch.
_CONFIG_IN_KEY = {"loss", "optimizer", "network", "amp", "memory_gb", "patch_size", "batch_size"}


class Decision(StrictModel):
    """What a probe led to."""

    patch_voxels: int
    batch_voxels: int
    max_batch: int
    peak_memory_mb: float | None = Field(description="of the step that was chosen, MiB")
    reason: str = Field(description="for the reader of the plan")


class ProbeBook(Artifact):
    """`probe.json`: every step measured, and every decision drawn from it."""

    measured: dict[str, float | None] = Field(
        default_factory=dict, description="step to its peak in MiB; null: did not fit at all"
    )
    decisions: dict[str, Decision] = Field(
        default_factory=dict, description="inputs of planning to what was decided"
    )


def fit_plan(
    make: Callable[[Budget], Plan],
    task: Task,
    config: TrainConfig,
    device: torch.device,
    file: Path,
    *,
    begun: Plan | None = None,
) -> Plan:
    """Plan a training whose step fits the memory.

    Args:
        make: Plans for a size of step.
        task: Classes or regions.
        config: What the user fixed; `patch_size` and `batch_size` are never changed.
        device: Where training will run.
        file: `probe.json`, read and extended.
        begun: Plan of a training that may be about to go on; its sizes are kept, if they were
            decided for the same configuration and data.

    Returns:
        The plan, with the measured peak and a line of reason.
    """
    usual = usual_budget(device.type)
    first = make(usual)
    if not config.probe:
        return _with(first, None, "memory: not measured, as configured (train.probe)")
    file.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may begin at once: one probes, the others read what it found.
    with FileLock(file.with_suffix(".lock")):
        book = _read_book(file)
        inputs = _decision_key(first, config, device)
        kept = None if begun is None else _size(begun)
        for decision in _decisions_for(inputs, book) if kept else ():
            plan = _planned(decision, make, first)
            if _size(plan) == kept:
                return plan
        # In another number format a step takes another amount of memory, on another GPU other
        # sizes fit.
        gpu = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
        key = f"{inputs} {number_format(device, is_mixed=config.amp)}{gpu}"
        if key not in book.decisions:
            search = _Search(make, task, config, device, dict(book.measured))
            decision = search.decide(usual, first)
            book = ProbeBook(measured=search.measured, decisions={**book.decisions, key: decision})
            write_json(file, book)
    return _planned(book.decisions[key], make, first)


def _read_book(file: Path) -> ProbeBook:
    if not file.is_file():
        return ProbeBook()
    try:
        return read_artifact(file, ProbeBook, made_by="train")
    except MissingInputError as error:
        # Running train again, as the error advises, would only meet it again.
        logger.warning("%s; steps are measured anew (%s)", error.what, file)
        return ProbeBook()


def _decisions_for(inputs: str, book: ProbeBook) -> list[Decision]:
    """Decisions for these inputs in any number format; those of earlier versions name none."""
    return [kept for key, kept in book.decisions.items() if key.partition(" ")[0] == inputs]


def _planned(kept: Decision, make: Callable[[Budget], Plan], first: Plan) -> Plan:
    """What was decided; the first plan is that of the usual budget."""
    budget = Budget(first.device, kept.patch_voxels, kept.batch_voxels, kept.max_batch)
    plan = first if budget == usual_budget(first.device) else make(budget)
    return _with(plan, kept.peak_memory_mb, kept.reason)


class _Search:
    """Tries sizes until one fits; holds what every trial needs."""

    def __init__(
        self,
        make: Callable[[Budget], Plan],
        task: Task,
        config: TrainConfig,
        device: torch.device,
        measured: dict[str, float | None],
    ) -> None:
        self._make, self._task, self._config, self._device = make, task, config, device
        self.measured = measured
        self._allowed_mb = _allowed_bytes(config, free_memory(device), device) / 2**20
        self._n_probes = 0

    def decide(self, usual: Budget, first: Plan) -> Decision:
        """Find the size of a step that fits, beginning with the usual one."""
        if self._is_far_below(first):
            return _decision(
                usual, None, f"memory: far below the {self._allowed()} allowed; not probed"
            )
        found = self._measure(first)
        if found.trouble:
            logger.warning("the memory of a step could not be measured: %s", found.trouble)
            return _decision(usual, None, f"memory: not measured ({found.trouble}); usual sizes")
        if self._fits(found):
            return self._grown(usual, first, found)
        return self._shrunk(usual, first, found)

    def _is_far_below(self, plan: Plan) -> bool:
        """Only for a CPU: a GPU measures in seconds."""
        if self._device.type != "cpu":
            return False
        width = sum(plan.network.features)
        if plan.network.kind not in _PLANNED_WIDTH:
            width = max(width, _UNKNOWN_CHANNELS)
        n_bytes = plan.batch_size * prod(plan.patch_size) * width * _COPIES_PER_CHANNEL
        return n_bytes / 2**20 < FAR_BELOW_FRACTION * self._allowed_mb

    def _shrunk(self, budget: Budget, plan: Plan, found: Measured) -> Decision:
        tried = [self._tried(plan, found)]
        while self._n_probes < MAX_PROBES:
            smaller = self._smaller(budget, plan, found)
            if smaller is None:
                break
            budget, plan = smaller
            found = self._measure(plan)
            if found.trouble:
                break
            if self._fits(found):
                reason = f"{self._tried(plan, found)}; too much was {', '.join(tried)}"
                return _decision(budget, found.peak_mb, f"memory: {reason}")
            tried.append(self._tried(plan, found))
        logger.warning("no step fits the %s allowed: %s", self._allowed(), ", ".join(tried))
        return _decision(
            budget,
            found.peak_mb,
            f"memory: more than the {self._allowed()} allowed ({', '.join(tried)}); the smallest "
            "step tried is taken, though memory may run out",
        )

    def _smaller(self, budget: Budget, plan: Plan, found: Measured) -> tuple[Budget, Plan] | None:
        """Half the batch; when that is at its lowest or fixed, a smaller patch."""
        if plan.batch_size > MIN_BATCH:
            halved = max(MIN_BATCH, plan.batch_size // 2)
            candidate = Budget(
                budget.device, budget.patch_voxels, budget.batch_voxels, max_batch=halved
            )
            other = self._make(candidate)
            if other.batch_size < plan.batch_size:
                return candidate, other
        if self._config.patch_size is not None:
            return None
        voxels = prod(plan.patch_size)
        share = 0.5 if found.peak_mb is None else _SAFETY * self._allowed_mb / found.peak_mb
        share = min(_SMALLEST_CUT, max(_LARGEST_CUT, share))
        while voxels > MIN_PATCH_VOXELS:
            voxels = int(voxels * share)
            candidate = Budget(
                budget.device, voxels, min(budget.batch_voxels, 2 * voxels), budget.max_batch
            )
            other = self._make(candidate)
            if prod(other.patch_size) < prod(plan.patch_size):
                return candidate, other
        return None

    def _grown(self, budget: Budget, plan: Plan, found: Measured) -> Decision:
        """On a GPU, larger steps while they fit; a CPU's usual size is what it has time for."""
        best, best_found, limit = (budget, plan), found, "the usual size"
        factor = 2
        while self._device.type == "cuda" and factor <= MAX_GROWTH:
            usual = usual_budget(budget.device)
            larger = Budget(
                budget.device,
                factor * usual.patch_voxels,
                factor * usual.batch_voxels,
                usual.max_batch,
            )
            candidate = self._make(larger)
            n_voxels = candidate.batch_size * prod(candidate.patch_size)
            if n_voxels <= best[1].batch_size * prod(best[1].patch_size):
                limit = "the typical case, 5 % of the data or the configuration allow no more"
                break
            if n_voxels > MAX_DATA_FRACTION * plan.n_train_cases * prod(plan.median_shape):
                limit = "more would be above 5 % of the data"
                break
            trial = self._measure(candidate)
            if trial.trouble or not self._fits(trial):
                limit = f"too much would be {self._tried(candidate, trial)}"
                break
            best, best_found = (larger, candidate), trial
            limit = f"{factor} times the usual size"
            factor *= 2
        reason = f"memory: {self._tried(best[1], best_found)} of {self._allowed()} allowed; {limit}"
        return _decision(best[0], best_found.peak_mb, reason)

    def _measure(self, plan: Plan) -> Measured:
        key = _step_key(plan, self._config, self._device)
        if key in self.measured:
            peak = self.measured[key]
            return Measured(peak_mb=peak, is_out_of_memory=peak is None)
        self._n_probes += 1
        logger.info("measuring the memory of a step: %s", _size(plan))
        found = measure_step(plan, self._task, self._config, self._device, timeout_s=TIMEOUT_S)
        if not found.trouble:
            self.measured[key] = found.peak_mb
        return found

    def _fits(self, found: Measured) -> bool:
        return found.peak_mb is not None and found.peak_mb <= self._allowed_mb

    def _allowed(self) -> str:
        return f"{self._allowed_mb / _MIB_PER_GIB:.2f} GiB"

    def _tried(self, plan: Plan, found: Measured) -> str:
        if found.trouble:
            return f"{_size(plan)} (not measured: {found.trouble})"
        if found.peak_mb is None:
            return f"{_size(plan)} (memory ran out)"
        return f"{found.peak_mb / _MIB_PER_GIB:.2f} GiB measured for {_size(plan)}"


def _allowed_bytes(config: TrainConfig, free: FreeMemory, device: torch.device) -> float:
    if config.memory_gb is not None:
        return config.memory_gb * _GIB
    left = free.ram if device.type == "cpu" or free.vram is None else free.vram
    return USABLE_FRACTION * left


def _size(plan: Plan) -> str:
    return f"batch {plan.batch_size}, patch {' x '.join(map(str, plan.patch_size))}"


def _decision(budget: Budget, peak_mb: float | None, reason: str) -> Decision:
    sizes = {name: n for name, n in asdict(budget).items() if name != "device"}
    return Decision(**sizes, peak_memory_mb=peak_mb, reason=reason)


def _with(plan: Plan, peak_mb: float | None, reason: str) -> Plan:
    changes = {"peak_memory_mb": peak_mb, "reasons": (*plan.reasons, reason)}
    return plan.model_copy(update=changes)


def _decision_key(plan: Plan, config: TrainConfig, device: torch.device) -> str:
    """Inputs of planning, without what differs from start to start or machine to machine."""
    return _digest(plan, config, device.type)


def _step_key(plan: Plan, config: TrainConfig, device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    numbers = number_format(device, is_mixed=config.amp)
    return f"{_size(plan)}, {_digest(plan, config, name, str(torch.__version__), numbers)}"


def _digest(plan: Plan, config: TrainConfig, *names: str) -> str:
    parts = (
        plan.network.model_dump_json(),
        str(plan.patch_size),
        str(plan.batch_size),
        config.model_dump_json(include=_CONFIG_IN_KEY),
        *names,
    )
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()
