"""A real dask cluster on loopback, each part of it a process that a test may kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]


class Cluster:
    """One scheduler and workers with one thread each, as processes of their own.

    Args:
        folder: Gets logs and scratch files; created.
        allowed_failures: How many workers a case may end before it has failed.
    """

    def __init__(self, folder: Path, *, allowed_failures: int = 3) -> None:
        folder.mkdir()
        self._folder = folder
        self._environment = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        file = folder / "scheduler.json"
        self._start("scheduler", "scheduler", "--port", "0", "--scheduler-file", str(file))
        wait_until(file.is_file)
        self.address = str(json.loads(file.read_text())["address"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def add_worker(self, name: str) -> None:
        """Start one more worker; the scheduler gives it work as soon as it is there."""
        options = ("--nthreads", "1", "--no-nanny", "--name", name)
        self._start("worker", name, self.address, *options, "--local-directory", str(self._folder))

    def kill(self, name: str) -> None:
        """End a process as the system does when memory runs out."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def _start(self, kind: str, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments]
        command += ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        with (self._folder / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )


def wait_until(is_true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for something that other processes do; fails when it does not happen in time."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)
