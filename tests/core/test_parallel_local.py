"""Worker processes of this machine: killed ones cost no finished case, and are blamed rightly."""

import os
import signal

import pytest

from pipeline.core.errors import DataError
from pipeline.core.parallel import case_runs, map_cases
from pipeline.core.parallel_config import ParallelConfig


def deadly_work(folder, *, n_deaths):
    """Case 5 ends its process the first n times; every call leaves a mark when it is done."""

    def work(number):
        import os
        import signal
        import time
        import uuid

        if number == 5 and len(list(folder.glob("death.*"))) < n_deaths:
            (folder / f"death.{uuid.uuid4().hex}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        (folder / f"done.{number}.{uuid.uuid4().hex}").touch()
        return number * number

    return work


def test_a_process_killed_once_loses_nothing(tmp_path, caplog):
    numbers = list(range(12))
    work = deadly_work(tmp_path, n_deaths=1)
    with case_runs(ParallelConfig(), tmp_path / "cases.jsonl"):
        outcomes = map_cases(work, numbers, description="squares", n_jobs=3)
    assert [o.result for o in outcomes] == [n * n for n in numbers]
    assert [o.error for o in outcomes] == [None] * 12
    assert "a worker process was killed" in caplog.text
    assert "in 1 processes" in caplog.text
    assert len((tmp_path / "cases.jsonl").read_text().splitlines()) == 12
    # Only the few that had been handed out may be done again.
    assert len(list(tmp_path.glob("done.*"))) <= 12 + 3 * 2


def test_a_case_that_always_ends_its_process_fails_alone(tmp_path):
    work = deadly_work(tmp_path, n_deaths=99)
    outcomes = map_cases(work, list(range(8)), description="squares", n_jobs=2)
    assert [o.result for o in outcomes] == [0, 1, 4, 9, 16, None, 36, 49]
    assert isinstance(outcomes[5].error, DataError)
    assert "memory ran out" in outcomes[5].error.what
    assert len(list(tmp_path.glob("death.*"))) == 2


def test_a_defect_of_ours_ends_the_work(tmp_path):
    with pytest.raises(ZeroDivisionError):
        map_cases(lambda n: 1 // n, [1, 0, 1, 1], description="defect", n_jobs=2)


def test_threads_of_libraries_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")

    def threads(_):
        import os

        return os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]

    outcomes = map_cases(threads, list(range(3)), description="threads", n_jobs=3)
    n_cores = len(os.sched_getaffinity(0))
    assert {o.result for o in outcomes} == {(str(max(1, n_cores // 3)), "7")}


def test_an_interrupt_ends_the_processes(tmp_path):
    def slow(number):
        import os
        import signal
        import time

        if number == 0:
            os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.5)
        (tmp_path / str(number)).touch()

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            map_cases(slow, list(range(40)), description="slow", n_jobs=2)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert len(list(tmp_path.iterdir())) < 40
