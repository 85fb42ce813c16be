"""Cases on a real dask cluster on loopback: a scheduler and two worker processes."""

import importlib.util
import sys
import threading
import time
from collections import Counter
from importlib.metadata import version

import pytest
from clusters import Cluster, wait_until

from pipeline.core import parallel_dask
from pipeline.core.errors import UsageError
from pipeline.core.parallel import case_runs, map_cases
from pipeline.core.parallel_config import ParallelConfig

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra 'dask' is not installed"
)


def config(cluster):
    return ParallelConfig(backend="dask", scheduler=cluster.address)


def marking_work(folder, seconds):
    # Nested: travels by value, as the workers cannot import this file.
    def work(number):
        import os
        import time
        import uuid

        from pipeline.core.errors import DataError

        name = f"{number}.{os.getpid()}.{uuid.uuid4().hex}"
        (folder / f"started.{name}").touch()
        time.sleep(seconds)
        (folder / f"finished.{name}").touch()
        if number == 3:
            raise DataError("three is bad", where="case_003")
        return number * number

    return work


def marks(folder, kind):
    return Counter(int(p.name.split(".")[1]) for p in folder.glob(f"{kind}.*"))


@needs_dask
@pytest.mark.slow
def test_a_killed_worker_costs_the_case_it_worked_on_and_nothing_else(tmp_path):
    work_dir, marks_dir = tmp_path / "work", tmp_path / "marks"
    marks_dir.mkdir()
    numbers = list(range(16))
    with Cluster(tmp_path / "cluster") as cluster:
        cluster.add_worker("one")
        cluster.add_worker("two")

        def kill_in_the_middle():
            running = f"started.*.{cluster.processes['one'].pid}.*"
            wait_until(lambda: len(list(marks_dir.glob(running))) >= 3)
            time.sleep(0.1)  # the case before has been reported by now, this one is half done
            cluster.kill("one")

        killer = threading.Thread(target=kill_in_the_middle, daemon=True)
        killer.start()
        with case_runs(config(cluster), work_dir / "cases.jsonl"):
            outcomes = map_cases(marking_work(marks_dir, 0.3), numbers, description="squares")
        killer.join()
    local = map_cases(marking_work(tmp_path, 0.0), numbers, description="squares")
    assert [(o.item, o.result) for o in outcomes] == [(o.item, o.result) for o in local]
    assert [str(o.error) for o in outcomes] == [str(o.error) for o in local]
    assert marks(marks_dir, "finished") == dict.fromkeys(numbers, 1)
    started = marks(marks_dir, "started")
    assert sorted(started) == numbers
    assert sorted(started.values()) == [1] * 15 + [2]
    lines = (work_dir / "cases.jsonl").read_text().splitlines()
    assert len(lines) == 16
    assert sum('"failed"' in line for line in lines) == 1


@needs_dask
@pytest.mark.slow
def test_a_case_that_ends_its_workers_fails_alone_and_a_lost_scheduler_is_said(tmp_path):
    def deadly(number):
        import os
        import signal

        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return -number

    def slow(number):
        import time

        time.sleep(0.2)
        return number

    with Cluster(tmp_path / "cluster", allowed_failures=0) as cluster:
        for name in ("one", "two", "three"):  # the last one is left after two deaths
            cluster.add_worker(name)
        with case_runs(config(cluster), None):
            outcomes = map_cases(deadly, list(range(8)), description="deadly")
            assert [o.result for o in outcomes] == [0, -1, None, -3, -4, -5, -6, -7]
            assert "died" in outcomes[2].error.what
            threading.Timer(1.0, lambda: cluster.kill("scheduler")).start()
            with pytest.raises(UsageError, match="connection to the dask scheduler was lost"):
                map_cases(slow, list(range(500)), description="slow")


@needs_dask
def test_a_wrong_address_is_said(monkeypatch):
    monkeypatch.setattr(parallel_dask, "CONNECT_TIMEOUT_S", 0.3)
    with (
        case_runs(ParallelConfig(backend="dask", scheduler="tcp://127.0.0.1:9"), None),
        pytest.raises(UsageError, match="no dask scheduler answers"),
    ):
        map_cases(abs, [1], description="none")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        case_runs(ParallelConfig(backend="dask", scheduler="tcp://127.0.0.1:9"), None),
        pytest.raises(UsageError) as caught,
    ):
        map_cases(abs, [1], description="none")
    assert "voxline[dask]" in caught.value.fix


HERE = version("voxline")


class Answers:
    """Stands for a client whose scheduler and workers look around on other machines."""

    def __init__(self, *, sees=None, scheduler=HERE, worker=HERE):
        self.sees, self.versions = sees, (scheduler, worker)

    def run(self, function, *arguments):
        return {"tcp://10.0.0.1:1": function(*arguments) if self.sees is None else self.sees}

    def get_versions(self, packages):
        scheduler, worker = ({"packages": dict.fromkeys(packages, v)} for v in self.versions)
        return {"scheduler": scheduler, "workers": {"tcp://10.0.0.1:1": worker}}


def test_workers_must_see_the_same_folder_with_the_same_program(tmp_path):
    parallel_dask._check_workers(Answers(), tmp_path)
    for client, what in (
        (Answers(sees=False), "does not see"),
        (Answers(worker="0.0.1"), r"a worker of the cluster runs Voxline 0\.0"),
        (Answers(worker=None), "a worker of the cluster has no Voxline"),
        (Answers(scheduler=None), "the scheduler has no Voxline"),
    ):
        with pytest.raises(UsageError, match=what):
            parallel_dask._check_workers(client, tmp_path)
    assert list(tmp_path.iterdir()) == []
