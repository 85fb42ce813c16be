import pytest

from pipeline.evaluate import figures
from pipeline.evaluate.figures import (
    DENSE_ROW_HEIGHT,
    MAX_CLASSES_WITH_NUMBERS,
    MAX_HEAT_ROWS,
    PLOT_WIDTH,
    dice_color,
    dot_plot,
    heat_map,
)
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.policy import policy_named
from pipeline.metrics.scores import CaseScores

STRICT = policy_named("strict")


def case(case_id, **counts):
    return CaseScores(
        case_id, tuple(OverlapScores(name, *row, 0.001) for name, row in counts.items())
    )


CASES = (
    case("one", a=(4, 1, 1), b=(0, 0, 3)),
    case("two", a=(9, 1, 1), b=(0, 0, 0)),
    case("three", a=(8, 2, 2), b=(5, 0, 0)),
)


def plot(cases, names):
    return dot_plot(cases, summarize(cases, names, n_bootstrap=100), STRICT)


def test_every_value_is_a_dot_at_its_place():
    dots = plot(CASES, ("a", "b"))
    a, b = dots.rows
    assert len(a.dots) == 3
    assert len(b.dots) == 2  # absent has no place on the axis
    assert [d.is_failure for d in b.dots] == [True, False]
    assert (b.dots[0].x, b.dots[1].x) == (0, PLOT_WIDTH)
    assert b.dots[0].text == "one: 0.000 (missed)"
    assert dots.ticks[0] == (0, "0")
    assert dots.ticks[-1] == (PLOT_WIDTH, "1")


def test_the_axis_starts_where_the_values_do():
    dots = plot(CASES, ("a",))
    assert dots.ticks[0] == (0, "0.8")
    assert dots.rows[0].dots[0].x == 0


def test_perfect_scores_still_have_an_axis():
    perfect = tuple(case(str(n), a=(5, 0, 0)) for n in range(4))
    dots = plot(perfect, ("a",))
    assert {d.x for d in dots.rows[0].dots} == {PLOT_WIDTH}
    assert len({d.y for d in dots.rows[0].dots}) == 4


def test_classes_without_values_have_no_mean():
    dots = plot((case("one", a=(0, 0, 0)),), ("a",))
    assert dots.rows[0].mean_x is None
    assert dots.rows[0].text == "a: no value"


def test_many_dots_stay_inside_their_row():
    many = tuple(case(f"{n:03d}", a=(5, 1, 1)) for n in range(300))
    dots = plot(many, ("a",))
    assert all(0 < d.y < dots.row_height for d in dots.rows[0].dots)


def test_the_heat_map_shows_the_first_cases_and_signs():
    rows = heat_map(CASES, ("a", "b", "c"), STRICT).rows
    assert [[cell.sign for cell in row.cells] for row in rows] == [
        ["0.800", "✕", "·"],
        ["0.900", "·", "·"],
        ["0.800", "1.000", "·"],
    ]
    assert rows[0].cells[2].text == "one, c: not scored"
    many = [case(str(n), a=(5, 1, 1)) for n in range(MAX_HEAT_ROWS + 5)]
    assert len(heat_map(many, ("a",), STRICT).rows) == MAX_HEAT_ROWS


def test_many_classes_are_drawn_densely():
    names = [f"c{n}" for n in range(MAX_CLASSES_WITH_NUMBERS + 1)]
    cases = [case("one", **dict.fromkeys(names, (5, 1, 1)))]
    assert plot(cases, names).row_height == DENSE_ROW_HEIGHT
    assert not heat_map(cases, names, STRICT).has_numbers


@pytest.mark.parametrize(("value", "fill"), [(0.0, "#8c2d04"), (0.5, "#e8813a"), (1.0, "#2470ab")])
def test_colors_change_at_their_bounds(value, fill):
    assert dice_color(value)[0] == fill


def test_too_many_dots_become_one_shape_per_class(monkeypatch):
    monkeypatch.setattr(figures, "MAX_NAMED_DOTS", 30)
    n = 31
    many = tuple(case(f"{k:05d}", a=(5, 1, 1)) for k in range(n - 1))
    dots = plot((*many, case("gone", a=(0, 0, 5))), ("a",))
    (row,) = dots.rows
    assert row.dots == ()
    assert (row.path.count("M"), row.failure_path.count("M")) == (n - 1, 1)


def test_few_cases_have_points_and_no_interval():
    few = tuple(case(str(k), a=(5 + k, 1, 1)) for k in range(9))
    assert plot(few, ("a",)).rows[0].ci_x is None
    enough = (*few, case("ten", a=(20, 1, 1)))
    assert plot(enough, ("a",)).rows[0].ci_x is not None
