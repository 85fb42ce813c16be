"""The processes of one training: who takes part, and what they tell each other and add up.

Rank 0 leads: it alone reads the clock, takes decisions and writes files. The others do what it
tells them, with weights that are the same everywhere because every gradient is added up.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from pipeline.core.errors import ConfigError, TrainingError, UsageError

logger = logging.getLogger(__name__)

# The others wait through everything that rank 0 does alone, such as ingesting a large dataset.
# torchrun ends them when a process dies; a time limit would only end healthy trainings.
LONGEST_WAIT = timedelta(days=7)
# Commands that end with something every process contributes to.
JOINT_WORK = ("step", "score", "predict")


class Ranks:
    """This process among those of one training.

    Args:
        rank: Number of this process; 0 leads.
        world: Number of processes.
    """

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        # Asked once per step; a stop asked of any process stops all of them after that step.
        self.should_stop: Callable[[], bool] = _never
        self.is_stop_asked = False
        self._is_joint_work_open = False
        self._group: dist.ProcessGroup | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    @property
    def can_be_told(self) -> bool:
        """Whether the others wait for a command; not so when joint work broke off half-way."""
        return not self._is_joint_work_open

    def begin(self, device: torch.device) -> None:
        """Prepare for adding up tensors on a device; all processes call this together.

        Args:
            device: Where tensors are.

        Raises:
            UsageError: If this machine has fewer GPUs than processes.
        """
        self._is_joint_work_open = False
        self.is_stop_asked = False
        if device.type == "cuda" and self._group is None:
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
        """
        if not self.is_leader:
            return
        with _others_alive():
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
        with _others_alive():
            dist.broadcast_object_list(box, src=0)
        command: tuple[Any, ...] = box[0]
        return command

    def gather_rows(self, rows: Float[Tensor, "row column"]) -> Float[Tensor, "all_rows column"]:
        """The rows of all processes, in the order of the batch.

        The gradient goes to the rows of this process only. Every process then computes the same
        loss, and the gradients of all of them add up to that of one process.

        Args:
            rows: Of this process; every process has as many.
        """
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        with _others_alive():
            dist.all_gather(parts, rows.detach().contiguous(), group=self._group)
        parts[self.rank] = rows
        return torch.cat(parts)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sum over all processes, and hear whether any was told to stop.

        Args:
            tensors: Of the same shapes everywhere; changed in place.
        """
        is_asked = torch.tensor([float(self.should_stop())], device=tensors[0].device)
        flat = torch.cat([*(t.reshape(-1) for t in tensors), is_asked.to(tensors[0].dtype)])
        with _others_alive():
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
        for tensor in tensors:
            with _others_alive():
                dist.all_reduce(tensor, group=self._group)
            tensor /= self.world

    def collect(self, own: Sequence[Any]) -> list[list[Any]]:
        """Bring together what every process found.

        Args:
            own: What this process found; sent pickled.

        Returns:
            On the leader the lists of all processes by rank, elsewhere nothing.
        """
        found: list[Any] | None = [None] * self.world if self.is_leader else None
        with _others_alive():
            dist.gather_object(list(own), found, dst=0)
        self._is_joint_work_open = False
        return found or []


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
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    token = _PRESENT.set(ranks)
    try:
        yield ranks
    finally:
        _PRESENT.reset(token)
        # Taking part in the end of a group whose other members are gone would wait for them.
        if ranks.can_be_told:
            # Together: a process that ends while gloo still sends to another is aborted.
            dist.barrier()
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


@contextmanager
def _others_alive() -> Iterator[None]:
    """Say in words what it means when the connection breaks."""
    try:
        yield
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(
            "another process of this training has ended",
            where=f"process {os.environ.get('RANK', '0')}: {str(error).splitlines()[0]}",
            fix="see what that process said; the same command goes on from the last checkpoint",
        ) from error
