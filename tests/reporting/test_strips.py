import math
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.strips import Values, strip_chart

NUMBERS = st.lists(
    st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=0, max_size=30
)


def chart(*numbers, mark=None, is_log=False):
    return strip_chart([Values("liver", "#E69F00", tuple(numbers), mark)], "ml", is_log=is_log)


def places(strip):
    return [float(x) for x in re.findall(r"M(\S+) 6h0", strip.path)]


@given(NUMBERS, st.booleans())
def test_every_dot_and_tick_lies_on_the_axis(numbers, is_log):
    drawn = chart(*numbers, is_log=is_log)
    shown = [n for n in numbers if math.isfinite(n) and (n > 0 or not is_log)]
    assert bool(drawn.rows) is bool(shown)
    for strip in drawn.rows:
        assert all(0 <= x <= 100 for x in places(strip))
        assert 1 <= len(places(strip)) <= len(shown)
    assert all(-0.5 <= tick.at <= 100.5 for tick in drawn.ticks)


def test_order_is_kept_and_equal_places_are_drawn_once():
    drawn = chart(1.0, 10.0, 10.0, 100.0, is_log=True)
    assert len(places(drawn.rows[0])) == 3
    assert places(drawn.rows[0]) == sorted(places(drawn.rows[0]))
    assert drawn.rows[0].median == places(drawn.rows[0])[1]


def test_many_cases_stay_small():
    numbers = np.random.default_rng(0).normal(100, 10, 10_000)
    assert len(chart(*(float(n) for n in numbers)).rows[0].path) < 6_000


def test_the_marked_case_is_on_the_axis_even_far_outside():
    row = chart(1.0, 2.0, 3.0, mark=1000.0).rows[0]
    assert row.mark is not None
    assert row.mark > 90
    assert "this case 1,000" in row.text


def test_one_value_is_a_chart():
    assert chart(5.0).rows[0].median is not None
    assert chart(0.0).rows
    assert chart(0.0, is_log=True).rows == ()
    assert strip_chart([], "ml", is_log=True).rows == ()


def test_a_class_without_values_keeps_its_row():
    rows = [Values("a", "#000000", (1.0, 2.0)), Values("b", "#000000", ())]
    drawn = strip_chart(rows, "ml", is_log=False)
    assert [row.name for row in drawn.rows] == ["a", "b"]
    assert drawn.rows[1].text == "b: no value"


def test_narrow_logarithmic_axes_have_ticks():
    texts = [tick.text for tick in chart(3.0, 3.8, 5.0, is_log=True).ticks]
    assert len(texts) >= 3
    wide = [tick.text for tick in chart(0.01, 10_000.0, is_log=True).ticks]
    assert wide == ["0.01", "0.1", "1", "10", "100", "1,000", "10,000"]
