"""Dot strips: one dot per case on a shared axis, drawn without a script.

The dots of a strip are one SVG path of points without length; round line ends make them dots. Equal
positions are drawn once, so that a strip of 10,000 cases is as small as one of a few hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.reporting.axis import Axis, Tick, axis_over
from pipeline.reporting.page import format_number


@dataclass(frozen=True)
class Values:
    """What one strip shows.

    Args:
        name: Text before the strip.
        color: Color of the dots as "#rrggbb".
        numbers: One per case.
        mark: The number to point out, None for none.
    """

    name: str
    color: str
    numbers: tuple[float, ...]
    mark: float | None = None


@dataclass(frozen=True)
class Strip:
    """One strip as the page draws it; places in percent of the axis.

    Args:
        name: Text before the strip.
        color: Color of the dots.
        path: SVG path of all dots.
        median: Place of the median, None without dots.
        mark: Place of the number to point out, None for none.
        text: Median and range in words, for people who do not see the picture.
    """

    name: str
    color: str
    path: str
    median: float | None
    mark: float | None
    text: str


@dataclass(frozen=True)
class StripChart:
    """Strips over one axis.

    Args:
        unit: Name and unit of the axis.
        is_log: Whether the axis is logarithmic.
        ticks: Labelled places.
        rows: The strips.
    """

    unit: str
    is_log: bool
    ticks: tuple[Tick, ...]
    rows: tuple[Strip, ...]


def strip_chart(rows: Sequence[Values], unit: str, *, is_log: bool) -> StripChart:
    """Lay out strips over a shared axis.

    Args:
        rows: What to show; numbers that are not finite, or not positive on a logarithmic axis, are
            left out.
        unit: Name and unit of the axis.
        is_log: Logarithmic axis.

    Returns:
        The chart; without rows if there is no number to show.
    """
    kept = [_shown(row.numbers, is_log=is_log) for row in rows]
    marks = [_shown(() if row.mark is None else (row.mark,), is_log=is_log) for row in rows]
    pooled = [value for values in (*kept, *marks) for value in values]
    if not pooled:
        return StripChart(unit, is_log, (), ())
    axis = axis_over(min(pooled), max(pooled), is_log=is_log)
    strips = [
        _strip(row, values, mark, axis) for row, values, mark in zip(rows, kept, marks, strict=True)
    ]
    return StripChart(unit, is_log, axis.ticks(), tuple(strips))


def _shown(numbers: Sequence[float], *, is_log: bool) -> list[float]:
    return [n for n in numbers if np.isfinite(n) and (n > 0 or not is_log)]


def _strip(row: Values, values: list[float], mark: list[float], axis: Axis) -> Strip:
    places = sorted({axis.place(value) for value in values})
    path = "".join(f"M{place:g} 6h0" for place in places)
    if not values:
        return Strip(row.name, row.color, "", None, _first(mark, axis), f"{row.name}: no value")
    low, middle, high = (format_number(float(f(values))) for f in (min, np.median, max))
    text = f"{row.name}: median {middle}, {low} to {high}, {len(values)} cases"
    if mark:
        text += f"; this case {format_number(mark[0])}"
    median = axis.place(float(np.median(values)))
    return Strip(row.name, row.color, path, median, _first(mark, axis), text)


def _first(mark: list[float], axis: Axis) -> float | None:
    return axis.place(mark[0]) if mark else None
