"""Where the marks of the report's drawings go; the template turns them into SVG.

Drawn as SVG inside the page: sharp in print, follows the light or dark theme, and every mark can
carry its case id as a tooltip.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifacts import Summary
from pipeline.evaluate.cells import interval_texts
from pipeline.metrics.overlap import Status
from pipeline.metrics.policy import EmptyPolicy
from pipeline.metrics.scores import CaseScores

LABEL_WIDTH = 190
PLOT_WIDTH = 860
ROW_HEIGHT = 44
DENSE_ROW_HEIGHT = 26
DOT_RADIUS = 3.2
# Dots closer than this along the axis are stacked instead of drawn over each other.
STACK_WIDTH = 2 * DOT_RADIUS
MAX_HEAT_ROWS = 40
MAX_NAME_LETTERS = 40
# Widest common sans-serif at 12 px.
LETTER_WIDTH = 7.2
MAX_CLASSES_WITH_NUMBERS = 12
# More dots than this are drawn as one shape per class, without a name each: a browser is slow
# with more shapes, and the page would grow by 100 bytes for each.
MAX_NAMED_DOTS = 4000

# Upper bound, fill, text: orange to blue, which color-blind readers can tell apart.
DICE_BINS = (
    (0.5, "#8c2d04", "#ffffff", "below 0.5"),
    (0.7, "#e8813a", "#17212b", "0.5 to 0.7"),
    (0.8, "#fdd09a", "#17212b", "0.7 to 0.8"),
    (0.9, "#b5d5e9", "#17212b", "0.8 to 0.9"),
    (math.inf, "#2470ab", "#ffffff", "0.9 and more"),
)
STATUS_SIGNS: dict[Status, str] = {"absent": "·", "missed": "✕", "hallucinated": "▲", "ok": ""}


@dataclass(frozen=True)
class Dot:
    """One case in the dot plot, at pixel (x, y) within its row."""

    x: float
    y: float
    text: str
    is_failure: bool


@dataclass(frozen=True)
class DotRow:
    """One class in the dot plot; mean and interval in pixels.

    Where there are too many cases, `path` and `failure_path` (missed, hallucinated) hold the dots
    as SVG path data, and `dots` is empty.
    """

    name: str
    dots: tuple[Dot, ...]
    path: str
    failure_path: str
    mean_x: float | None
    ci_x: tuple[float, float] | None
    text: str


@dataclass(frozen=True)
class DotPlot:
    """Dice of every case, one row per class; sizes in pixels."""

    rows: tuple[DotRow, ...]
    row_height: int
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Cell:
    """One case and class of the heat map."""

    fill: str
    ink: str
    sign: str
    text: str


@dataclass(frozen=True)
class HeatRow:
    """One case of the heat map."""

    case_id: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class HeatMap:
    """Dice of the worst cases, one column per class; sizes in pixels."""

    rows: tuple[HeatRow, ...]
    has_numbers: bool
    name_width: int


def dot_plot(cases: Sequence[CaseScores], summary: Summary, policy: EmptyPolicy) -> DotPlot:
    """Lay out the Dice of every case beside mean and interval of its class.

    Args:
        cases: Scored cases.
        summary: Their summary under the same policy.
        policy: Says which cases have a value.

    Returns:
        Positions in pixels; x runs from 0 to `PLOT_WIDTH`.
    """
    values = {name: _class_values(cases, name, policy) for name in summary.classes}
    is_dense = sum(len(points) for points in values.values()) > MAX_NAMED_DOTS
    height = ROW_HEIGHT if len(values) <= MAX_CLASSES_WITH_NUMBERS else DENSE_ROW_HEIGHT
    lowest = min((v.dice for points in values.values() for v in points), default=0.0)
    # The axis starts at a round tenth so that good models still can be told apart.
    start = min(0.9, math.floor(lowest * 10) / 10)

    def to_x(value: float) -> float:
        return round((value - start) / (1 - start) * PLOT_WIDTH, 1)

    rows = []
    for name, points in values.items():
        dice = summary.classes[name].dice
        dots = _stacked([(to_x(v.dice), v) for v in points], height)
        bounds = None if dice.is_small else dice.ci95
        rows.append(
            DotRow(
                name=name,
                dots=() if is_dense else dots,
                path=_path([d for d in dots if not d.is_failure]) if is_dense else "",
                failure_path=_path([d for d in dots if d.is_failure]) if is_dense else "",
                mean_x=to_x(dice.mean) if dice.mean is not None and dice.n else None,
                ci_x=None if bounds is None else (to_x(max(start, bounds[0])), to_x(bounds[1])),
                text=_mean_text(summary, name),
            )
        )
    n_ticks = round((1 - start) * 10)
    n_parts = n_ticks if n_ticks > 2 else n_ticks * 5
    ticks = [start + (1 - start) * n / n_parts for n in range(n_parts + 1)]
    return DotPlot(tuple(rows), height, tuple((to_x(t), f"{t:.3g}") for t in ticks))


def heat_map(
    cases: Sequence[CaseScores], class_names: Sequence[str], policy: EmptyPolicy
) -> HeatMap:
    """Color the Dice of the worst cases, worst first.

    Args:
        cases: Scored cases, worst first; the first `MAX_HEAT_ROWS` are shown.
        class_names: Columns.
        policy: Says which cases have a value.

    Returns:
        The rows; numbers fit into the cells up to `MAX_CLASSES_WITH_NUMBERS` classes.
    """
    rows = tuple(
        HeatRow(case.case_id, tuple(_cell(case, name, policy) for name in class_names))
        for case in cases[:MAX_HEAT_ROWS]
    )
    longest = max((len(row.case_id) for row in rows), default=0)
    return HeatMap(
        rows,
        has_numbers=len(class_names) <= MAX_CLASSES_WITH_NUMBERS,
        name_width=round(min(longest, MAX_NAME_LETTERS) * LETTER_WIDTH) + 16,
    )


def dice_color(value: float) -> tuple[str, str]:
    """Fill and text color of a Dice value."""
    fill, ink = next((fill, ink) for bound, fill, ink, _ in DICE_BINS if value < bound)
    return fill, ink


@dataclass(frozen=True)
class _Value:
    """Dice of one case under the policy."""

    dice: float
    case_id: str
    status: Status


def _class_values(cases: Sequence[CaseScores], name: str, policy: EmptyPolicy) -> list[_Value]:
    values = []
    for case in cases:
        scores = case.of_class(name)
        dice = None if scores is None else policy.value(scores.dice)
        if scores is not None and dice is not None:
            values.append(_Value(dice, case.case_id, scores.status))
    return values


def _stacked(points: list[tuple[float, _Value]], row_height: int) -> tuple[Dot, ...]:
    """Spread dots of nearly equal value over the height of their row, in a fixed order."""
    columns: dict[int, list[tuple[float, _Value]]] = {}
    for x, value in sorted(points, key=lambda point: (point[0], point[1].case_id)):
        columns.setdefault(int(x // STACK_WIDTH), []).append((x, value))
    dots = []
    for column in columns.values():
        step = min(STACK_WIDTH, (row_height - 3 * DOT_RADIUS) / len(column))
        for place, (x, value) in enumerate(column):
            y = row_height / 2 + (place - (len(column) - 1) / 2) * step
            note = "" if value.status == "ok" else f" ({value.status})"
            text = f"{value.case_id}: {value.dice:.3f}{note}"
            is_failure = value.status in ("missed", "hallucinated")
            dots.append(Dot(x, round(y, 1), text, is_failure))
    return tuple(dots)


def _path(dots: Sequence[Dot]) -> str:
    """Lines of no length: with round ends they are dots, a dozen bytes each."""
    return "".join(f"M{d.x:g} {d.y:g}h0" for d in dots)


def _mean_text(summary: Summary, name: str) -> str:
    dice = summary.classes[name].dice
    if dice.mean is None:
        return f"{name}: no value"
    scores = summary.classes[name]
    words = [f"mean {dice.mean:.3f}", *interval_texts(dice)]
    counts = f"n = {dice.n}, {scores.n_missed} missed, {scores.n_hallucinated} hallucinated"
    return f"{name}: {' '.join(words)}, {counts}"


def _cell(case: CaseScores, name: str, policy: EmptyPolicy) -> Cell:
    scores = case.of_class(name)
    value = None if scores is None else policy.value(scores.dice)
    if scores is None or value is None:
        status = "not scored" if scores is None else scores.status
        sign = STATUS_SIGNS["absent"] if scores is None else STATUS_SIGNS[scores.status]
        return Cell("none", "currentColor", sign, f"{case.case_id}, {name}: {status}")
    fill, ink = dice_color(value)
    note = "" if scores.status == "ok" else f" ({scores.status})"
    sign = STATUS_SIGNS[scores.status] or f"{value:.3f}"
    return Cell(fill, ink, sign, f"{case.case_id}, {name}: {value:.3f}{note}")
