"""How fast a training runs and what it uses: measured per round, part of no result."""

import importlib.util
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")
# The driver's number is an average over up to a second; asking more often says nothing new.
GPU_USE_EVERY_S = 1.0
# Columns of the history that differ between two runs of the same training.
MEASURED = frozenset(
    (
        "train/steps_per_s",
        "train/samples_per_s",
        "train/data_wait_fraction",
        "train/peak_memory_mb",
        "train/gpu_use_fraction",
        "train/elapsed_min",
    )
)
_BYTES_PER_MB = 2**20
_KIB_PER_MB = 2**10


class RoundMeter:
    """Measures one round after the other.

    Args:
        device: Where the training runs.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        self._device = device
        has_driver = device.type == "cuda" and importlib.util.find_spec("pynvml") is not None
        self._can_ask_gpu = has_driver
        self._step_began_s = self._pending_s = 0.0
        self._asked_at_s = 0.0
        self._restart()

    def _restart(self) -> None:
        self._n_samples, self._data_s, self._work_s = 0, 0.0, 0.0
        self._gpu_use: list[float] = []
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data.

        A GPU computes while the host draws the next batch; that time is no waiting and not counted.
        """
        self._step_began_s = time.monotonic()
        yield
        self._pending_s = time.monotonic() - self._step_began_s

    def step_done(self, n_samples: int) -> None:
        """Count a step, which began with waiting for its data.

        Args:
            n_samples: Patches in its batch.
        """
        now_s = time.monotonic()
        self._n_samples += n_samples
        self._data_s += self._pending_s
        self._work_s += now_s - self._step_began_s
        if self._can_ask_gpu and now_s - self._asked_at_s > GPU_USE_EVERY_S:
            self._asked_at_s = now_s
            self._ask_gpu()

    def _ask_gpu(self) -> None:
        """Ask the driver how busy the GPU is; one that does not tell is not asked again."""
        try:
            self._gpu_use.append(torch.cuda.utilization(self._device) / 100)
        except Exception:  # noqa: BLE001  # parts of a GPU (MIG) and containers refuse, each in its own class; a meter must not end a training
            self._can_ask_gpu = False

    def end_round(self) -> dict[str, float]:
        """What was measured since the last round ended; the next one begins.

        Returns:
            Name of the metric to its value; what could not be measured is not named.
        """
        row = {"train/peak_memory_mb": self._peak_memory_mb()}
        if self._work_s > 0:
            row["train/samples_per_s"] = self._n_samples / self._work_s
            row["train/data_wait_fraction"] = min(1.0, self._data_s / self._work_s)
        if self._gpu_use:
            row["train/gpu_use_fraction"] = sum(self._gpu_use) / len(self._gpu_use)
        self._restart()
        return row

    def _peak_memory_mb(self) -> float:
        """Most memory so far: of the round on a GPU, of the whole process on a CPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / _BYTES_PER_MB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB
