import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Interval
from pipeline.evaluate.cells import format_value, interval_texts, mean_cell, value_cell

MANY = Interval(mean=0.8, median=0.8, ci95=(0.7, 0.9), n=30, n_undefined=0)
SOME = MANY.model_copy(update={"n": 15, "t95": (0.6, 1.1)})
FEW = MANY.model_copy(update={"n": 9, "t95": (0.5, 1.1)})


@pytest.mark.parametrize(
    ("value", "unit", "is_signed", "text"),
    [
        (0.88512, "", False, "0.885"),
        (12.3456, "mm", False, "12.35"),
        (-0.0001, "ml", True, "0.000"),
        (0.0, "ml", True, "0.000"),
        (3.21, "ml", True, "+3.210"),
        (-123.45, "ml", True, "-123.5"),
        (12345.6, "ml", False, "12346"),
        (-8.04, "%", True, "-8.0"),
        (None, "mm", False, "undefined"),
    ],
)
def test_digits_follow_the_unit(value, unit, is_signed, text):
    assert format_value(value, unit, is_signed=is_signed) == text


def test_intervals_depend_on_the_number_of_patients():
    assert interval_texts(MANY) == ["[0.700,\u00a00.900]"]
    assert interval_texts(SOME) == ["[0.700,\u00a00.900]", "t\u00a0[0.600,\u00a01.000]"]
    assert interval_texts(FEW) == []
    assert interval_texts(MANY.model_copy(update={"n_patients": 9})) == []


def test_a_mean_states_its_n_only_where_the_row_has_another():
    assert mean_cell(FEW, n_beside=9) == {"text": "0.800", "sort": 0.8}
    assert mean_cell(FEW, n_beside=12)["text"] == "0.800 (n\u00a09)"
    assert mean_cell(None, n_beside=3) is None
    nothing = Interval(mean=None, median=None, ci95=None, n=0, n_undefined=4)
    assert mean_cell(nothing, n_beside=0) is None


@given(st.floats(-2, 3), st.floats(-2, 3))
def test_no_shown_bound_leaves_the_range_of_its_metric(low, high):
    shown = MANY.model_copy(update={"ci95": (low, high)})
    (text,) = interval_texts(shown)
    assert all(0 <= float(x) <= 1 for x in text.strip("[]").split(",\u00a0"))
    (text,) = interval_texts(shown, "mm")
    assert all(float(x) >= 0 for x in text.strip("[]").split(",\u00a0"))


def test_cells_sort_by_the_full_number():
    assert value_cell(0.12345) == {"text": "0.123", "sort": 0.12345}
    assert value_cell(None) is None


def test_both_ends_of_an_interval_have_the_digits_of_its_mean():
    volumes = MANY.model_copy(update={"mean": -61.3, "ci95": (-210.9, 3.609)})
    assert interval_texts(volumes, "ml", is_signed=True) == ["[-210.9,\u00a0+3.6]"]
