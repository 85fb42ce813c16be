"""Measure the memory of one training step, on the device that will train.

A formula knows neither the layouts a convolution copies into, nor what a loss keeps for its
gradient. So the step itself is taken, on noise: on a GPU here, where torch counts every byte; on a
CPU in a process of its own, because only a fresh process has a peak of its own, and because a
system that runs out of memory then ends that process instead of this one.
"""

import gc
import json
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.artifacts import Plan, Task
from pipeline.core.config import StrictModel
from pipeline.models.device import is_out_of_memory, use_all_cores
from pipeline.models.networks import build_network
from pipeline.train.config import TrainConfig
from pipeline.train.data import Batch
from pipeline.train.learner import Learner

# The second step is the first that has the optimizer's state beside activations and gradients.
N_STEPS = 2
# Importing torch and MONAI takes up to 20 s, two steps of any planned size less than a minute.
TIMEOUT_S = 180.0
_STATUS, _KILL_ME_FIRST = Path("/proc/self/status"), Path("/proc/self/oom_score_adj")
_MIB = 2**20
# How Linux ends a process when memory has run out.
_KILLED = -signal.SIGKILL
MAX_TROUBLE_CHARACTERS = 200


class ProbeRequest(StrictModel):
    """What the probing process is told on its standard input."""

    plan: Plan
    task: Task
    config: TrainConfig


@dataclass(frozen=True)
class Measured:
    """What a probe found out.

    Args:
        peak_mb: Memory of a step in MiB: weights, their average, optimizer, activations and
            gradients; None if it was not measured.
        is_out_of_memory: The step does not fit at all.
        trouble: Why nothing was measured otherwise.
    """

    peak_mb: float | None = None
    is_out_of_memory: bool = False
    trouble: str = ""


def measure_step(
    plan: Plan, task: Task, config: TrainConfig, device: torch.device, *, timeout_s: float
) -> Measured:
    """Take training steps on noise and report their peak memory.

    Args:
        plan: Network, patch and batch.
        task: Classes or regions.
        config: Loss, optimizer and precision.
        device: Where training will run.
        timeout_s: How long to wait for the probing process, on a CPU.

    Returns:
        The peak, or why there is none; a failed probe is an answer, never an error.
    """
    if device.type == "cuda":
        return _measure_here(plan, task, config, device)
    request = ProbeRequest(plan=plan, task=task, config=config).model_dump_json()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.train.probe"],
            input=request,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Measured(trouble=f"a step took more than {timeout_s:g} s")
    except OSError as error:
        return Measured(trouble=f"no process could be started: {error}")
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[str]) -> Measured:
    if done.returncode == _KILLED:
        return Measured(is_out_of_memory=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return Measured(trouble=said[-1][:MAX_TROUBLE_CHARACTERS])
    # Libraries may have spoken before.
    return Measured(**json.loads(lines[-1]))


def _measure_here(plan: Plan, task: Task, config: TrainConfig, device: torch.device) -> Measured:
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    found = Measured()
    try:
        _take_steps(plan, task, config, device)
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        found = Measured(peak_mb=round(peak / _MIB, 1))
    except (RuntimeError, MemoryError) as error:
        found = _failure(error)
    gc.collect()
    torch.cuda.empty_cache()
    return found


def _failure(error: RuntimeError | MemoryError) -> Measured:
    if is_out_of_memory(error):
        return Measured(is_out_of_memory=True)
    return Measured(trouble=f"{type(error).__name__}: {error}"[:MAX_TROUBLE_CHARACTERS])


def _take_steps(plan: Plan, task: Task, config: TrainConfig, device: torch.device) -> None:
    learner = Learner(plan, task, config, device)
    shape = (plan.batch_size, *plan.patch_size)
    image = torch.randn((shape[0], plan.network.n_input_channels, *shape[1:]), device=device)
    label = torch.randint(len(task.classes) + 1, shape, device=device)
    batch = Batch(image, label, ("noise",) * plan.batch_size)
    for _ in range(N_STEPS):
        learner.step(batch, plan.learning_rate)


def probe_process(text: str) -> str:
    """Work of the probing process: steps on the CPU of a process that has done nothing else.

    Args:
        text: A `ProbeRequest` as JSON.

    Returns:
        The arguments of `Measured` as JSON.
    """
    request = ProbeRequest.model_validate_json(text)
    use_all_cores()
    # MONAI is imported when the first network is built: its half GiB is no part of a step.
    build_network(request.plan.network)
    before = _memory_bytes("VmRSS")
    try:
        _take_steps(request.plan, request.task, request.config, torch.device("cpu"))
    except (RuntimeError, MemoryError) as error:
        found = _failure(error)
    else:
        peak = max(0, _memory_bytes("VmHWM") - before)
        found = Measured(peak_mb=round(peak / _MIB, 1))
    return json.dumps(vars(found))


def _memory_bytes(row: str) -> int:
    """Memory of this process, at present (VmRSS) or at its peak (VmHWM)."""
    try:
        rows = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return 1024 * int(rows[row].split()[0])
    except (OSError, KeyError):
        # Without /proc. Not used with it: there the peak of the parent would count as well.
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _volunteer() -> None:
    """If memory runs out, this process is to be ended, not the one that waits for it."""
    try:
        _KILL_ME_FIRST.write_text("1000")
    except OSError:
        # Not Linux, or not allowed: the system chooses by size, which mostly is the same.
        return


if __name__ == "__main__":
    _volunteer()
    sys.stdout.write(probe_process(sys.stdin.read()) + "\n")
