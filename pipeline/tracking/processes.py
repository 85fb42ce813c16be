"""Who is recording a run, and whether it still lives."""

import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

# Times of birth move when the clock is set; a pid is not used again this soon.
_CLOCK_TOLERANCE_S = 30.0


def this_process() -> str:
    """Name this process so that it cannot be mistaken for another with the same pid."""
    pid = os.getpid()
    return f"{this_machine()}/{pid}/{psutil.Process(pid).create_time():.1f}"


def this_machine() -> str:
    """Name the space in which pids mean something: host and container."""
    try:
        pid_space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        pid_space = "0"
    return f"{socket.gethostname().replace('/', '_')}/{pid_space}"


def is_dead(process: str) -> bool:
    """Tell whether a named process of this machine is gone.

    Args:
        process: As `this_process` named it.

    Returns:
        False also for processes of other machines, of which nothing is known.
    """
    machine, _, identity = process.partition(this_machine())
    pid, _, birth_s = identity.removeprefix("/").partition("/")
    if machine or not pid.isdigit():
        return False
    try:
        other = psutil.Process(int(pid))
        is_another = abs(other.create_time() - float(birth_s)) > _CLOCK_TOLERANCE_S
        return is_another or other.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.AccessDenied, ValueError):
        return False


@dataclass(frozen=True)
class Cost:
    """What this process and its children have used so far."""

    cpu_s: float
    peak_memory_mb: float


def cost_so_far() -> Cost:
    """Read processor time and the largest resident memory of one process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    # ru_maxrss is kibibytes on Linux, bytes on macOS.
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return Cost(
        cpu_s=own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        peak_memory_mb=max(own.ru_maxrss, children.ru_maxrss) * unit_bytes / 1e6,
    )
