"""Reading, computing and writing at the same time, one case waiting on either side at most."""

import pickle
import threading
import time
from pathlib import Path

import pytest
from clusters import Cluster
from infer_builders import config_with, opened_threshold, small_data, work_for, write_model

from pipeline.core.errors import CheckpointError
from pipeline.core.parallel import case_runs
from pipeline.core.parallel_config import ParallelConfig
from pipeline.infer import case as case_module
from pipeline.infer.case import CaseWork
from pipeline.infer.cohort import RemoteWork, run_elsewhere, run_in_turns
from pipeline.infer.opened import open_model
from pipeline.io.discover import discover
from pipeline.models.memory import FreeMemory


class Watching(CaseWork):
    """Notes which step of which case runs when."""

    def __init__(self, work, seconds):
        super().__init__(work.opened, work.config, work.root, work.out_dir, work.earlier)
        object.__setattr__(self, "events", [])
        object.__setattr__(self, "seconds", seconds)

    def _noted(self, name, step, case_id, given):
        self.events.append((name, case_id, "start", threading.current_thread().name))
        time.sleep(self.seconds)
        result = step(given)
        self.events.append((name, case_id, "end", threading.current_thread().name))
        return result

    def read(self, case):
        return self._noted("read", super().read, case.case_id, case)

    def segment(self, read):
        return self._noted("segment", super().segment, read.case_id, read)

    def save(self, segmented):
        return self._noted("save", super().save, segmented.case_id, segmented)

    def at(self, name, number, what):
        wanted = (name, f"case_{number:03d}", what)
        return next(i for i, event in enumerate(self.events) if event[:3] == wanted)


def cases_of(data: Path):
    return discover(data, n_channels=1).cases


def test_the_next_case_is_read_and_the_last_written_meanwhile(tmp_path):
    n_threads = threading.active_count()
    data = small_data(tmp_path / "data", 4)
    work = Watching(work_for(opened_threshold(), data, tmp_path / "out"), 0.05)
    records = list(run_in_turns(work, cases_of(data)))
    assert [r.case_id for r in records] == [f"case_{n:03d}" for n in range(4)]
    for n in (1, 2):
        assert work.at("read", n + 1, "start") < work.at("segment", n, "end")
        assert work.at("save", n - 1, "start") < work.at("segment", n, "end")
        # Never two waiting on one side.
        assert work.at("read", n + 1, "start") > work.at("segment", n - 1, "end")
        assert work.at("save", n, "start") > work.at("save", n - 1, "end")
    main = {event[3] for event in work.events if event[0] == "segment"}
    assert main == {threading.main_thread().name}
    assert threading.active_count() <= n_threads


def test_a_case_that_fills_the_memory_is_alone(tmp_path, monkeypatch):
    data = small_data(tmp_path / "data", 3)
    opened = opened_threshold(spacing_mm=(2.0, 2.0, 2.5))
    work = Watching(work_for(opened, data, tmp_path / "out"), 0.01)
    first = work.read(cases_of(data)[0])
    needed = case_module.case_memory(opened.predictor, first.image.volume).ram_bytes("cpu")
    work.events.clear()
    monkeypatch.setattr(case_module, "free_memory", lambda _: FreeMemory(int(1.5 * needed)))
    records = list(run_in_turns(work, cases_of(data)))
    assert [r.status for r in records] == ["done"] * 3
    for n in (0, 1):
        assert work.at("read", n + 1, "start") > work.at("save", n, "end")


def test_an_interruption_waits_for_what_is_being_written(tmp_path):
    n_threads = threading.active_count()
    data = small_data(tmp_path / "data", 3)
    work = Watching(work_for(opened_threshold(), data, tmp_path / "out"), 0.05)
    turns = run_in_turns(work, cases_of(data))
    next(turns)
    with pytest.raises(KeyboardInterrupt):
        turns.throw(KeyboardInterrupt())
    assert work.events[-1][2] == "end"
    assert (tmp_path / "out" / "predictions" / "case_001.nii.gz").is_file()
    assert threading.active_count() <= n_threads


def test_no_cases_are_no_work(tmp_path):
    data = small_data(tmp_path / "data", 1)
    assert list(run_in_turns(work_for(opened_threshold(), data, tmp_path / "out"), ())) == []


def test_the_work_travels_to_other_processes(tmp_path):
    data = small_data(tmp_path / "data", 1)
    file = write_model(tmp_path / "best.pt")
    config = config_with(mirror=(1,))
    digest = open_model([file], config).digest
    work = RemoteWork((file,), digest, config, data, tmp_path / "out")
    arrived = pickle.loads(pickle.dumps(work))  # noqa: S301  # what was pickled here
    record = arrived(cases_of(data)[0])
    assert record.status == "done"
    assert work(cases_of(data)[0]) == record


def test_a_process_that_outlives_a_run_meets_the_model_that_was_trained_anew(tmp_path):
    data, config = small_data(tmp_path / "data", 1), config_with()
    found = []
    for seed in (0, 1):
        file = write_model(tmp_path / "best.pt", seed)
        digest = open_model([file], config).digest
        work = RemoteWork((file,), digest, config, data, tmp_path / "out")
        found.append(work(cases_of(data)[0]))
        assert found[-1].model_digest == digest
    assert found[0].file_hash != found[1].file_hash
    with pytest.raises(CheckpointError, match="another model"):
        RemoteWork((file,), "another", config, data, tmp_path / "out")(cases_of(data)[0])


@pytest.mark.slow
def test_a_cluster_gives_the_predictions_that_one_process_gives(tmp_path):
    data = small_data(tmp_path / "data", 4)
    opened = open_model([write_model(tmp_path / "best.pt")], config_with())
    here = work_for(opened, data, tmp_path / "here" / "out")
    there = work_for(opened, data, tmp_path / "there" / "out")
    expected = [r.file_hash for r in run_in_turns(here, cases_of(data))]
    with Cluster(tmp_path / "cluster") as cluster:
        for name in ("one", "two"):
            cluster.add_worker(name)
        config = ParallelConfig(backend="dask", scheduler=cluster.address)
        with case_runs(config, tmp_path / "there" / "out" / "cases.jsonl"):
            found = list(run_elsewhere(there, cases_of(data)))
    assert [r.file_hash for r in found] == expected
