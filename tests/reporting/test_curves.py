import math
import re

from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.curves import Line, curve_chart

NUMBERS = st.lists(
    st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=0, max_size=30
)


def chart(*numbers, is_log=False):
    points = tuple((10.0 * step, value) for step, value in enumerate(numbers, 1))
    return curve_chart("Loss", [Line("loss", "#112233", points)], "step", is_log=is_log)


def places(curve):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^LMh]+)", curve.path)]


@given(NUMBERS, st.booleans())
def test_every_value_that_can_be_shown_lies_on_the_chart(numbers, is_log):
    drawn = chart(*numbers, is_log=is_log)
    shown = [n for n in numbers if math.isfinite(n) and (n > 0 or not is_log)]
    assert (drawn is not None) is bool(shown)
    if drawn is None:
        return
    (curve,) = drawn.curves
    assert len(places(curve)) == len(shown)
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in places(curve))


def test_what_rises_goes_up_and_time_goes_right():
    drawn = chart(0.1, 0.5, 0.9)
    (first, _, last) = places(drawn.curves[0])
    assert first[0] < last[0] == 100
    assert first[1] > last[1]
    # Labels stand where values of their size are drawn: large ones above.
    heights = {float(tick.text): tick.at for tick in drawn.y_ticks}
    assert sorted(heights, key=heights.__getitem__) == sorted(heights, reverse=True)
    assert float(drawn.x_ticks[0].text) == 0


def test_one_value_is_a_dot_and_no_value_no_chart():
    assert chart(0.5).curves[0].path.endswith("h0")
    assert chart() is None
    assert curve_chart("Loss", [], "step") is None


def test_a_line_without_values_is_left_out_of_the_legend():
    lines = [Line("a", "#111111", ((1.0, 2.0),)), Line("b", "#222222", ((1.0, math.nan),))]
    assert [curve.name for curve in curve_chart("Loss", lines, "step").curves] == ["a"]


def test_the_newest_values_are_said_in_words():
    assert chart(0.25, 0.5).text == "Loss, newest: loss 0.5"


def test_a_steep_start_does_not_flatten_what_follows():
    points = ((10.0, 0.0), (50.0, 0.86), (75.0, 0.87), (100.0, 0.88))
    whole = curve_chart("Dice", [Line("a", "#111111", points)], "step")
    later = curve_chart("Dice", [Line("a", "#111111", points)], "step", steep=0.2)
    (_, low, _, high), (_, low_whole, _, high_whole) = (
        [y for _, y in places(chart.curves[0])] for chart in (later, whole)
    )
    assert low - high > 10 * (low_whole - high_whole)
    # One of several lines may end before the others have come that far.
    short = Line("b", "#222222", ((5.0, 0.2), (10.0, 0.5)))
    both = curve_chart("Dice", [Line("a", "#111111", points), short], "step", steep=0.2)
    assert 0 <= places(both.curves[1])[-1][1] <= 100
    # The start lies below the chart, which the page cuts off: on the edge it would look like data.
    assert places(later.curves[0])[0][1] > 100
