"""What travels: expected errors become results, defects do not, and every case has a name."""

import pickle
from types import SimpleNamespace

import pytest

from pipeline.core.errors import DataError
from pipeline.core.parallel_work import Guarded, case_name


def test_results_and_refusals_come_back_with_their_time():
    done = Guarded(lambda n: n + 1)(1)
    assert (done.result, done.error) == (2, None)
    assert done.elapsed_s >= 0

    def refuse(_):
        raise DataError("bad", where="case a")

    done = Guarded(refuse)(1)
    assert done.result is None
    assert str(done.error) == str(DataError("bad", where="case a"))


def test_too_little_memory_is_the_case_s_failure():
    def greedy(_):
        raise MemoryError

    error = Guarded(greedy)(SimpleNamespace(case_id="huge")).error
    assert isinstance(error, DataError)
    assert "memory" in error.what
    assert error.where == "huge"


def test_a_defect_is_raised_and_names_the_case_also_from_another_process():
    with pytest.raises(KeyError) as caught:
        Guarded(lambda _: {}["absent"])("case_7")
    there_and_back = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert there_and_back.__notes__ == ["while working on case 'case_7'"]


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("case_1", "case_1"),
        (SimpleNamespace(case_id="case_2"), "case_2"),
        (SimpleNamespace(record=SimpleNamespace(case_id="case_3")), "case_3"),
        (("case_4", object()), "case_4"),
        ((SimpleNamespace(case_id="case_5"), 1), "case_5"),
        ((), ""),
        (7, ""),
        (None, ""),
    ],
)
def test_names_of_cases(item, name):
    assert case_name(item) == name
