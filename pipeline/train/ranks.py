"""The processes of one training: who takes part, and what they tell each other and add up.

Rank 0 leads: it alone reads the clock, takes decisions and writes files. The others do what it
tells them, with weights that are the same everywhere because every gradient is added up.
"""

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from pipeline.core.errors import ConfigError, TrainingError, UsageError, VoxlineError
from pipeline.models.device import is_out_of_memory

logger = logging.getLogger(__name__)

# The others wait through everything that rank 0 does alone, such as ingesting a large dataset.
# torchrun ends them when a process dies; a time limit would only end healthy trainings.
LONGEST_WAIT = timedelta(days=7)
# Within a step or a validation, where the share of one process may be a few large volumes. One that
# is still there and does not answer (a hung file system, a frozen machine) would hold all of them.
LONGEST_WORK = timedelta(hours=2)
# Commands that end with something every process contributes to.
JOINT_WORK = ("step", "score", "predict")
_GO_ON = (
    "see what that process said (if nothing, the system may have killed it for want of memory); "
    "the same command goes on from the last checkpoint"
)


class SharedMemoryError(MemoryError):
    """Memory ran out in one of the processes; all of them know, and can take a smaller step."""


@dataclass(frozen=True)
class _Trouble:
    """What a process that failed says to the others."""

    rank: int
    is_out_of_memory: bool
    what: str
    where: str = ""
    fix: str = ""


class Ranks:
    """This process among those of one training.

    Args:
        rank: Number of this process; 0 leads.
        world: Number of processes.
        work: Group for joint work, which waits less long than the others wait for commands; None:
            the same group.
    """

    def __init__(self, rank: int, world: int, work: dist.ProcessGroup | None = None) -> None:
        self.rank, self.world, self._work = rank, world, work
        # Asked once per step; a stop asked of any process stops all of them after that step.
        self.should_stop: Callable[[], bool] = _never
        self.is_stop_asked = False
        self._is_joint_work_open = self._is_broken = False
        # All processes have agreed that one of them failed; each is on its way out.
        self.ends_together = False
        # Adds up tensors; on GPUs another one.
        self._group = work

    @property
    def is_leader(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    @property
    def can_be_told(self) -> bool:
        """Whether the others wait for a command; not so when joint work broke off half-way."""
        return not (self._is_joint_work_open or self._is_broken)

    def begin(self, device: torch.device) -> None:
        """Prepare for adding up tensors on a device; all processes call this together.

        Args:
            device: Where tensors are.

        Raises:
            UsageError: If this machine has fewer GPUs than processes.
        """
        self._is_joint_work_open = False
        self.is_stop_asked = False
        if device.type == "cuda" and self._group is self._work:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            if local >= torch.cuda.device_count():
                raise UsageError(
                    f"process {local} of this machine has no GPU of its own: there are "
                    f"{torch.cuda.device_count()}",
                    where="torchrun --nproc-per-node",
                    fix="start as many processes as there are GPUs, or use --device cpu",
                )
            torch.cuda.set_device(local)
            self._group = dist.new_group(backend="nccl")

    def share_of(self, size: int) -> range:
        """Positions of a batch that this process reads.

        Args:
            size: Patches of the whole batch, a multiple of the number of processes.
        """
        n = size // self.world
        return range(self.rank * n, (self.rank + 1) * n)

    def tell(self, name: str, *args: object) -> None:
        """As the leader, have the others do something; they do nothing here.

        Args:
            name: What to do.
            args: Passed on; sent pickled.

        Raises:
            TrainingError: If another process has ended.
        """
        if not self.is_leader:
            return
        if self._is_broken:
            raise _ended("it failed before")
        with self._others_alive():
            dist.broadcast_object_list([(name, *args)], src=0)
        self._is_joint_work_open = name in JOINT_WORK

    def told(self) -> tuple[Any, ...]:
        """Wait for the next command of the leader.

        Returns:
            Its name and its arguments.

        Raises:
            TrainingError: If the leader has died.
        """
        box: list[Any] = [None]
        with self._others_alive():
            dist.broadcast_object_list(box, src=0)
        command: tuple[Any, ...] = box[0]
        self._is_joint_work_open = command[0] in JOINT_WORK
        return command

    def agree(self, trouble: Exception | None = None) -> None:
        """Ask, before something that takes every process, whether each can do its part.

        Over gloo also where GPUs add up tensors: one that waits for another there waits for ever.

        Args:
            trouble: Why this process cannot.

        Raises:
            SharedMemoryError: If memory ran out somewhere and nothing else is wrong; all of the
                processes raise it, and the others then wait for a command.
            TrainingError: If another process failed; this one cannot tell the others anything more.
        """
        has_trouble = torch.tensor([int(trouble is not None)])
        with self._others_alive():
            dist.all_reduce(has_trouble, group=self._work)
        if not has_trouble:
            return
        said: list[_Trouble | None] = [None] * self.world
        with self._others_alive():
            told = None if trouble is None else _in_words(trouble, self.rank)
            dist.all_gather_object(said, told, group=self._work)
        self._is_joint_work_open = False
        found = [one for one in said if one is not None]
        first = next((one for one in found if not one.is_out_of_memory), None)
        if first is None:
            raise SharedMemoryError(f"process {found[0].rank}: {found[0].what}") from trouble
        self.break_off()
        self.ends_together = True
        if trouble is not None:
            raise trouble
        raise _said_at_once(
            TrainingError(
                f"process {first.rank} of this training failed: {first.what}",
                where=first.where,
                fix=first.fix or _GO_ON,
            )
        )

    @contextmanager
    def joint_work(self) -> Iterator[None]:
        """Tell the others when this process fails inside, instead of letting them wait.

        Raises:
            SharedMemoryError: See `agree`.
        """
        try:
            yield
        except Exception as error:
            if self._is_joint_work_open and not self._is_broken:
                self.agree(error)
            raise

    def break_off(self) -> None:
        """Say nothing to the others any more: this process ends, and they will notice."""
        self._is_broken = True

    def gather_rows(self, rows: Float[Tensor, "row column"]) -> Float[Tensor, "all_rows column"]:
        """The rows of all processes, in the order of the batch.

        The gradient goes to the rows of this process only. Every process then computes the same
        loss, and the gradients of all of them add up to that of one process.

        Args:
            rows: Of this process; every process has as many.
        """
        # Memory first: what can fail here must fail before the others begin to wait.
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        own = rows.detach().contiguous()
        self.agree()
        with self._others_alive():
            dist.all_gather(parts, own, group=self._group)
        parts[self.rank] = rows
        return torch.cat(parts)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sum over all processes, and hear whether any was told to stop.

        Args:
            tensors: Of the same shapes everywhere; changed in place.
        """
        is_asked = torch.tensor([float(self.should_stop())], device=tensors[0].device)
        flat = torch.cat([*(t.reshape(-1) for t in tensors), is_asked.to(tensors[0].dtype)])
        self.agree()
        with self._others_alive():
            dist.all_reduce(flat, group=self._group)
        *sums, n_asked = torch.split(flat, [*(t.numel() for t in tensors), 1])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view(tensor.shape))
        self.is_stop_asked = self.is_stop_asked or bool(n_asked > 0)
        self._is_joint_work_open = False

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over all processes.

        Args:
            tensors: Floating point, of the same shapes everywhere; changed in place.
        """
        if tensors:
            self.agree()
        for tensor in tensors:
            with self._others_alive():
                dist.all_reduce(tensor, group=self._group)
            tensor /= self.world

    def collect(self, own: Sequence[Any]) -> list[list[Any]]:
        """Bring together what every process found.

        Args:
            own: What this process found; sent pickled.

        Returns:
            On the leader the lists of all processes by rank, elsewhere nothing.
        """
        self.agree()
        found: list[Any] | None = [None] * self.world if self.is_leader else None
        with self._others_alive():
            dist.gather_object(list(own), found, dst=0, group=self._work)
        self._is_joint_work_open = False
        return found or []

    @contextmanager
    def _others_alive(self) -> Iterator[None]:
        """Say in words what it means when the connection breaks."""
        try:
            yield
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            self.break_off()
            raise _said_at_once(_ended(_cause(error))) from error


# Like the process group of torch that it stands for, it belongs to the process as a whole.
_PRESENT: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


def present_ranks() -> Ranks | None:
    """The processes that train together here; None if this process trains alone."""
    return _PRESENT.get()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes that torchrun has started, while the block runs.

    Yields:
        This process among them.

    Raises:
        UsageError: If the processes cannot reach each other.
    """
    try:
        # Commands and results go over gloo; NCCL, which knows only tensors on GPUs, adds those up.
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the processes of this training cannot reach each other: {error}",
            where="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of the environment",
            fix="start them with 'torchrun --nproc-per-node=N -m pipeline train ...'",
        ) from error
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(timeout=LONGEST_WORK))
    token = _PRESENT.set(ranks)
    try:
        yield ranks
    except BaseException:
        # The leader has told the others, if they can be told; nobody waits for what others tell.
        if not ranks.is_leader:
            ranks.break_off()
        raise
    finally:
        _PRESENT.reset(token)
        with suppress(RuntimeError):
            # Waiting for members of the group that are gone could last.
            if ranks.can_be_told or ranks.ends_together:
                # Together: a process that ends while gloo still sends to another is aborted.
                dist.barrier()
        # Left to the end of Python, its threads would abort the process and change its status.
        with suppress(RuntimeError):
            dist.destroy_process_group()


def refuse_uneven(batch_size: int, ranks: Ranks) -> None:
    """Stop where the batch cannot be shared out evenly.

    Args:
        batch_size: Patches per step, of all processes together.
        ranks: How many processes there are.

    Raises:
        ConfigError: If it is not a multiple of the number of processes.
    """
    if batch_size % ranks.world == 0:
        return
    multiple = -(-batch_size // ranks.world) * ranks.world
    raise ConfigError(
        f"a batch of {batch_size} patches cannot be shared out evenly to {ranks.world} processes",
        where="train.batch_size and torchrun --nproc-per-node",
        fix=f"--set train.batch_size={multiple} (all processes together), or start another number",
    )


def _never() -> bool:
    return False


def _ended(said: str) -> TrainingError:
    return TrainingError(
        "another process of this training has ended or does not answer; the last checkpoint is "
        "safe",
        where=f"process {os.environ.get('RANK', '0')}: {said}",
        fix=_GO_ON,
    )


def _cause(error: Exception) -> str:
    """What gloo says, without where in its source it says so and what it advises."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"^\[/[^]]*\] ", "", said).split(". This is typically")[0]


def _said_at_once(error: TrainingError) -> TrainingError:
    """Log an error that ends this process: torchrun may end it before the error is shown."""
    logger.error("%s (%s); %s", error.what, error.where, error.fix)
    return error


def _in_words(error: Exception, rank: int) -> _Trouble:
    is_memory = is_out_of_memory(error)
    if isinstance(error, VoxlineError):
        return _Trouble(rank, is_memory, error.what, error.where, error.fix)
    return _Trouble(rank, is_memory, f"{type(error).__name__}: {error}")
