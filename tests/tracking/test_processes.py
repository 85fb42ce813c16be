"""A process is dead only when that is certain."""

import os
import subprocess
import sys

import psutil

from pipeline.tracking.processes import cost_so_far, is_dead, this_machine, this_process


def _name(pid: int, birth_s: float, machine: str | None = None) -> str:
    return f"{machine or this_machine()}/{pid}/{birth_s:.1f}"


def test_this_process_lives():
    assert not is_dead(this_process())


def test_a_process_that_ended_is_dead():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = _name(process.pid, psutil.Process(process.pid).create_time())
        assert not is_dead(name)
    assert is_dead(name)


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    name = _name(process.pid, psutil.Process(process.pid).create_time())
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(name)
    process.wait()


def test_a_pid_used_again_is_another_process():
    birth_s = psutil.Process().create_time()
    assert is_dead(_name(os.getpid(), birth_s - 3600))
    assert not is_dead(_name(os.getpid(), birth_s - 2))  # the clock was set


def test_nothing_is_known_of_other_machines_or_other_tags():
    assert not is_dead(_name(2**22 - 1, 1.0, machine="other/1"))
    for text in ("", "x", f"{this_machine()}/abc/1"):
        assert not is_dead(text)


def test_cost_grows():
    before = cost_so_far()
    sum(n * n for n in range(300_000))
    after = cost_so_far()
    assert after.cpu_s > before.cpu_s
    assert after.peak_memory_mb >= before.peak_memory_mb > 10
