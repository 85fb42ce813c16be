"""Lines over the course of something, drawn without a script: one SVG path per line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.reporting.axis import Axis, Tick, axis_over
from pipeline.reporting.page import format_number

LINE_COLORS = (
    *("#2a7fc1", "#d98032", "#3f9b6b", "#8a63b5", "#b5526e", "#7d7f2a"),
    *("#4aa5a5", "#a0522d", "#5566cc", "#c2a02c", "#7a8794", "#c05fb0"),
)
# Warm-up of a training, and the first rounds after it.
STEEP_START = 0.2


@dataclass(frozen=True)
class Line:
    """What one line shows.

    Args:
        name: Text of the legend.
        color: Any CSS color.
        points: Place along the chart and value there, in ascending order of the place.
    """

    name: str
    color: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """One line as the page draws it; x and y in percent of the chart, y from above.

    Args:
        name: Text of the legend.
        color: Any CSS color.
        path: SVG path.
        last: Newest value as text.
    """

    name: str
    color: str
    path: str
    last: str


@dataclass(frozen=True)
class CurveChart:
    """Lines over shared axes.

    Args:
        title: What the values are.
        x_name: Name and unit of the horizontal axis.
        x_ticks: Labelled places from the left.
        y_ticks: Labelled places from above.
        curves: The lines.
        text: Newest values in words, for people who do not see the picture.
    """

    title: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    text: str


def curve_chart(
    title: str, lines: Sequence[Line], x_name: str, *, is_log: bool = False, steep: float = 0.0
) -> CurveChart | None:
    """Lay out lines over shared axes; the horizontal one begins at 0.

    Args:
        title: What the values are.
        lines: What to show; values that are not finite, or not positive on a logarithmic axis, are
            left out.
        x_name: Name and unit of the horizontal axis.
        is_log: Logarithmic vertical axis.
        steep: Share of the chart, from the left, whose values do not widen the vertical axis: a
            steep start would flatten all that follows. A line comes in over the edge then.

    Returns:
        The chart; None if there is no value to show.
    """
    kept = [(line, _shown(line.points, is_log=is_log)) for line in lines]
    kept = [(line, points) for line, points in kept if points]
    if not kept:
        return None
    last = max(x for _, points in kept for x, _ in points)
    values = [value for _, points in kept for x, value in points if x >= steep * last]
    # A line that ends before that shows its end at least.
    values += [points[-1][1] for _, points in kept]
    across = Axis(0.0, last or 1.0, is_log=False)
    up = axis_over(min(values), max(values), is_log=is_log)
    curves = tuple(_curve(line, points, across, up) for line, points in kept)
    newest = ", ".join(f"{curve.name} {curve.last}" for curve in curves)
    return CurveChart(
        title=title,
        x_name=x_name,
        x_ticks=across.ticks(),
        y_ticks=tuple(Tick(_from_above(tick.at), tick.text) for tick in up.ticks()),
        curves=curves,
        text=f"{title}, newest: {newest}",
    )


def _curve(line: Line, points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> Curve:
    places = [f"{across.place(x):g} {_from_above(up.place(y)):g}" for x, y in points]
    # A line without length: round ends make a dot of a single value.
    path = f"M{'L'.join(places)}" if len(places) > 1 else f"M{places[0]}h0"
    return Curve(line.name, line.color, path, format_number(points[-1][1]))


def _from_above(percent: float) -> float:
    return round(100.0 - percent, 1)


def _shown(points: Sequence[tuple[float, float]], *, is_log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not is_log)]
