import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.axis import axis_over

ENDS = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


@given(ENDS, ENDS)
def test_the_range_and_every_tick_lie_on_a_linear_axis(one, other):
    low, high = sorted((one, other))
    axis = axis_over(low, high, is_log=False)
    assert 0 <= axis.place(low) <= axis.place(high) <= 100
    assert all(-0.5 <= tick.at <= 100.5 for tick in axis.ticks())


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_the_range_and_every_tick_lie_on_a_logarithmic_axis(one, other):
    low, high = sorted((one, other))
    axis = axis_over(low, high, is_log=True)
    assert 0 <= axis.place(low) <= axis.place(high) <= 100
    assert all(-0.5 <= tick.at <= 100.5 for tick in axis.ticks())


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-9, 1e9])
def test_values_that_differ_by_rounding_only_are_one_place(value):
    axis = axis_over(value, math.nextafter(value, math.inf), is_log=False)
    assert 0 <= axis.place(value) <= 100
    assert all(-0.5 <= tick.at <= 100.5 for tick in axis.ticks())


def test_ticks_are_round_numbers_in_order():
    ticks = axis_over(0.13, 0.87, is_log=False).ticks()
    assert [tick.text for tick in ticks] == ["0.2", "0.4", "0.6", "0.8"]
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
