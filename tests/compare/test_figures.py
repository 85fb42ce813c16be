import math

import numpy as np
import pytest
from compare_builders import agreed_runs

from pipeline.compare import figures
from pipeline.compare.comparison import CompareSettings, compare_runs

IDS = [f"c{n:02d}" for n in range(8)]
BASE = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85]


def plot_of(changes, *, is_higher_better=True):
    agreed = agreed_runs(
        {"A": {"x": BASE}, "B": {"x": [b + c for b, c in zip(BASE, changes, strict=True)]}}
    )
    found = compare_runs(agreed, CompareSettings(n_bootstrap=100))
    return figures.difference_plot(
        found.classes, [np.array(changes)], IDS, is_higher_better=is_higher_better
    )


def test_dots_lie_left_and_right_of_zero_and_say_which_is_better():
    plot = plot_of([0.01, -0.01, 0.0, 0.02, 0.03, -0.02, 0.01, 0.01])
    (row,) = plot.rows
    assert len(row.dots) == 8
    for dot in row.dots:
        assert 0 <= dot.x <= figures.PLOT_WIDTH
        assert 0 <= dot.y <= plot.row_height
        side = np.sign(round(dot.x - plot.zero_x, 1))
        assert dot.kind == {1: "better", -1: "worse", 0: "equal"}[side]
    assert row.ci_x[0] <= row.mean_x <= row.ci_x[1]
    assert row.bars == (("better", 62.5, 5), ("equal", 12.5, 1), ("worse", 25.0, 2))
    assert not plot.has_outliers
    positions = {(dot.x, dot.y) for dot in row.dots}
    assert len(positions) == 8  # equal values are stacked, not hidden


def test_for_distances_less_is_better():
    plot = plot_of([0.01] * 4 + [-0.01] * 4, is_higher_better=False)
    kinds = {dot.kind for dot in plot.rows[0].dots if dot.x > plot.zero_x}
    assert kinds == {"worse"}


def test_one_rescued_case_does_not_squeeze_the_others():
    changes = [-0.5, 0.01, -0.01, 0.0, 0.005, 0.015, -0.005, 0.012]
    plot = plot_of(changes)
    beyond = [dot for dot in plot.rows[0].dots if dot.beyond]
    assert [(dot.beyond, dot.x, dot.text) for dot in beyond] == [(-1, 0.0, "c00: -0.500")]
    assert plot.has_outliers


def test_missing_values_are_not_drawn():
    plot = plot_of([0.01] * 8)
    assert len(plot.rows[0].dots) == 8
    slopes = figures.slope_plot(
        np.array([0.5, math.nan]), np.array([0.6, 0.7]), ["one", "two"], is_higher_better=True
    )
    assert [s.text for s in slopes.slopes] == ["one: 0.500 to 0.600 (+0.100)"]
    assert slopes.slopes[0].y_run < slopes.slopes[0].y_baseline  # higher values lie higher
    nothing = figures.slope_plot(
        np.array([math.nan]), np.array([0.6]), ["one"], is_higher_better=True
    )
    assert nothing.slopes == ()


def test_very_many_cases_show_the_largest_changes():
    n = figures.MAX_SLOPES + 50
    baseline, run = np.full(n, 0.5), 0.5 + np.arange(n) / 1000
    slopes = figures.slope_plot(baseline, run, [str(i) for i in range(n)], is_higher_better=True)
    assert len(slopes.slopes) == figures.MAX_SLOPES
    assert slopes.slopes[0].text.startswith(f"{n - 1}:")


def test_the_area_of_a_rank_dot_is_its_share():
    runs = {"A": {"x": BASE}, "B": {"x": BASE[::-1]}, "C": {"x": [0.1] * 8}}
    ranking = compare_runs(agreed_runs(runs), CompareSettings(n_bootstrap=300)).rankings[0]
    for place in range(3):
        dots = figures.rank_dots(ranking, place, max_radius=20.0)
        assert sum(dot.share for dot in dots) == pytest.approx(1)
        assert all(dot.radius == pytest.approx(20 * math.sqrt(dot.share), abs=0.05) for dot in dots)
    assert [dot.rank for dot in figures.rank_dots(ranking, 2, max_radius=20.0)] == [3]


def test_many_cases_are_thinned_to_a_fair_picture_with_both_extremes():
    changes = np.random.default_rng(0).normal(size=1000)
    plot = figures.difference_plot(
        [plot_difference()], [changes], [str(n) for n in range(1000)], is_higher_better=True
    )
    assert len(plot.rows[0].dots) == figures.MAX_DOTS
    assert plot.is_thinned
    texts = {dot.text for dot in plot.rows[0].dots}
    for place in (changes.argmin(), changes.argmax()):
        assert f"{place}: {changes[place]:+.3f}" in texts
    assert not plot_of([0.01] * 8).is_thinned


def plot_difference():
    agreed = agreed_runs({"A": {"x": BASE}, "B": {"x": BASE}})
    return compare_runs(agreed, CompareSettings(n_bootstrap=100)).classes[0]
