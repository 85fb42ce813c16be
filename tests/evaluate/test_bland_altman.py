import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.bland_altman import (
    HEIGHT,
    MAX_NAMED_POINTS,
    WIDTH,
    bland_altman_plot,
    volume_agreement,
)
from pipeline.metrics.overlap import OverlapScores


def overlaps(*counts):
    return [(f"c{n}", OverlapScores("a", *row, 0.5)) for n, row in enumerate(counts)]


def test_bias_and_limits_are_those_of_the_paper():
    # Errors of 1, 2 and 6 ml: mean 3, standard deviation sqrt(7).
    found = volume_agreement(overlaps((8, 2, 0), (8, 4, 0), (8, 12, 0), (0, 0, 0)))
    assert [p.error_ml for p in found.points] == [1.0, 2.0, 6.0]
    assert [p.mean_ml for p in found.points] == [4.5, 5.0, 7.0]
    assert found.bias_ml == pytest.approx(3.0)
    assert found.limits_ml == pytest.approx((3 - 1.96 * 7**0.5, 3 + 1.96 * 7**0.5))


def test_missed_structures_are_errors_and_absent_ones_no_case():
    found = volume_agreement(overlaps((0, 0, 10), (0, 4, 0), (0, 0, 0)))
    assert [(p.error_ml, p.status) for p in found.points] == [(-5, "missed"), (2, "hallucinated")]
    assert found.limits_ml is None
    plot = bland_altman_plot(found)
    assert [m.is_failure for m in plot.marks] == [True, True]
    assert "n = 2" in plot.text
    assert "limits" not in plot.text


def test_without_cases_there_is_nothing_to_draw():
    found = volume_agreement(overlaps((0, 0, 0)))
    assert found.bias_ml is None
    assert bland_altman_plot(found) is None


def test_larger_errors_are_higher_and_larger_volumes_further_right():
    plot = bland_altman_plot(volume_agreement(overlaps((10, 0, 0), (40, 10, 0), (80, 40, 0))))
    assert [m.x for m in plot.marks] == sorted(m.x for m in plot.marks)
    assert [m.y for m in plot.marks] == sorted((m.y for m in plot.marks), reverse=True)
    assert [kind for _, kind in plot.lines] == ["zero", "bias", "limit", "limit"]


def test_many_cases_become_one_shape():
    n = MAX_NAMED_POINTS + 1
    plot = bland_altman_plot(volume_agreement(overlaps(*[(n, 1, 0)] * n, (0, 0, 5))))
    assert plot.marks == ()
    assert plot.path.count("M") == n
    assert plot.failure_path.count("M") == 1


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=20))
def test_everything_lies_inside_the_frame(counts):
    plot = bland_altman_plot(volume_agreement(overlaps(*counts)))
    if plot is None:
        return
    assert all(0 <= m.x <= WIDTH and 0 <= m.y <= HEIGHT for m in plot.marks)
    assert all(0 <= y <= HEIGHT for y, _ in plot.lines)
    assert all(0 <= place <= WIDTH for place, _ in plot.x_ticks)
    assert np.all(np.diff([place for place, _ in plot.y_ticks]) < 0)
