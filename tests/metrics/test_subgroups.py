import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.subgroups import NOT_GIVEN, summarize_subgroups


def case(name, n_hits):
    return CaseScores(name, (OverlapScores("a", n_hits, 10 - n_hits, 10 - n_hits, 0.001),))


def groups_of(cases, attributes):
    found = summarize_subgroups(cases, attributes, ("a",), n_bootstrap=0)
    return [(g.column, g.value, g.summary.n_cases) for g in found]


def test_each_group_has_its_own_averages():
    cases = [case("one", 9), case("two", 5), case("three", 7)]
    attributes = {"one": {"sex": "f"}, "two": {"sex": "m"}, "three": {"sex": "f"}}
    f, m = summarize_subgroups(cases, attributes, ("a",), n_bootstrap=0)
    assert (f.value, m.value) == ("f", "m")
    assert f.summary.classes["a"].dice.mean == pytest.approx(0.8)
    assert m.summary.mean_foreground_dice == pytest.approx(0.5)


def test_cases_without_a_value_stay_in_sight():
    cases = [case("one", 9), case("two", 5), case("three", 7)]
    attributes = {"one": {"site": "B"}, "two": {"site": " "}}
    assert groups_of(cases, attributes) == [("site", "B", 1), ("site", NOT_GIVEN, 2)]


def test_many_numbers_become_thirds_and_few_stay_in_natural_order():
    cases = [case(str(n), 5) for n in range(9)]
    ages = {str(n): {"age": str(20 + 5 * n)} for n in range(9)}
    assert groups_of(cases, ages) == [
        ("age", "20 to 30", 3),
        ("age", "35 to 45", 3),
        ("age", "50 to 60", 3),
    ]
    grades = {str(n): {"grade": str((10, 9, 2)[n % 3])} for n in range(9)}
    assert [value for _, value, _ in groups_of(cases, grades)] == ["2", "9", "10"]


@given(
    st.lists(
        st.sampled_from(["a", "b", "", "3", "71.5"]) | st.integers(0, 99).map(str), max_size=12
    )
)
def test_every_case_is_in_exactly_one_group_of_a_column(values):
    cases = [case(str(n), 5) for n in range(len(values))]
    attributes = {str(n): {"column": value} for n, value in enumerate(values)}
    assert sum(n for _, _, n in groups_of(cases, attributes)) == len(cases)
