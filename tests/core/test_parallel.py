"""Per-case work: every case is tried, failures are named, order is kept."""

import pytest

from pipeline.core.errors import DataError
from pipeline.core.parallel import available_cores, map_cases


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
