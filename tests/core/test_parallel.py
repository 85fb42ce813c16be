"""Per-case work: every case is tried, failures are named, order is kept."""

import json
import os
import socket

import pytest

from pipeline.core.errors import DataError
from pipeline.core.parallel import available_cores, case_runs, map_cases
from pipeline.core.parallel_config import ParallelConfig


def make_work():
    # Nested, so that worker processes get the function by value: they cannot import this file.
    from pipeline.core.errors import DataError as Refusal

    def work(number: int) -> int:
        if number == 3:
            raise Refusal("three is bad", where="case_003", fix="leave it out")
        return number * number

    return work


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_failing_case_is_named_and_stops_no_other(n_jobs):
    outcomes = map_cases(make_work(), list(range(7)), description="squares", n_jobs=n_jobs)
    assert [o.item for o in outcomes] == list(range(7))
    assert [o.result for o in outcomes] == [0, 1, 4, None, 16, 25, 36]
    failed = [o for o in outcomes if o.error is not None]
    assert [o.item for o in failed] == [3]
    assert isinstance(failed[0].error, DataError)
    assert failed[0].error.where == "case_003"
    assert failed[0].error.fix == "leave it out"


@pytest.mark.parametrize("items", [[], [5]])
def test_few_cases_need_no_workers(items):
    assert [o.result for o in map_cases(make_work(), items, description="few", n_jobs=2)] == [
        item * item for item in items
    ]


def test_a_defect_of_ours_is_not_taken_for_a_bad_case():
    with pytest.raises(ZeroDivisionError):
        map_cases(lambda n: 1 // n, [1, 0], description="defect")


def test_cores_are_at_least_one():
    assert available_cores() >= 1


def lines_of(journal):
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_the_journal_has_one_line_per_case_and_no_host(tmp_path):
    journal = tmp_path / "ingest" / "cases.jsonl"
    items = [(f"case_{n}", n) for n in (1, 3)]
    work = make_work()
    with case_runs(ParallelConfig(), journal):
        map_cases(lambda item: work(item[1]), items, description="squares")
        map_cases(work, [2], description="again")
    first, second, third = lines_of(journal)
    assert set(first) == {"time_s", "work", "case", "seconds", "status", "message"}
    assert (first["work"], first["case"], first["status"]) == ("squares", "case_1", "done")
    assert (second["case"], second["status"]) == ("case_3", "failed")
    assert second["message"] == "three is bad"
    assert (third["work"], third["case"]) == ("again", "")
    assert socket.gethostname() not in journal.read_text()


def test_settings_hold_in_their_block_only(tmp_path):
    def where(_):
        import os

        return os.getpid()

    with case_runs(ParallelConfig(n_jobs=1), None):
        outcomes = map_cases(where, [1, 2, 3], description="here", n_jobs=2)
    assert {o.result for o in outcomes} == {os.getpid()}
    with case_runs(ParallelConfig(n_jobs=2), None):
        outcomes = map_cases(where, [1, 2, 3], description="there")
    assert os.getpid() not in {o.result for o in outcomes}
    outcomes = map_cases(where, [1, 2, 3], description="here")
    assert {o.result for o in outcomes} == {os.getpid()}


def test_what_is_finished_when_the_work_is_interrupted_is_in_the_journal(tmp_path):
    def work(number):
        if number == 2:
            raise KeyboardInterrupt
        return number

    with case_runs(ParallelConfig(), tmp_path / "cases.jsonl"), pytest.raises(KeyboardInterrupt):
        map_cases(work, [0, 1, 2, 3], description="interrupted")
    assert len(lines_of(tmp_path / "cases.jsonl")) == 2
