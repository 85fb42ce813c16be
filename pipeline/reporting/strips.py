"""Dot strips: one dot per case on a shared axis, drawn without a script.

The dots of a strip are one SVG path of points without length; round line ends make them dots. Equal
positions are drawn once, so that a strip of 10,000 cases is as small as one of a few hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.reporting.page import format_number

# Positions are percent of the axis; a step is less than a pixel of a usual screen.
_STEPS_PER_PERCENT = 5
_MAX_DECADES_WITH_STEPS = 2.5
_N_TICKS = 5
_MIN_TICKS = 3


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
class Tick:
    """A labelled place on the axis, in percent of its length."""

    at: float
    text: str


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
    axis = _axis(min(pooled), max(pooled), is_log=is_log)
    strips = [
        _strip(row, values, mark, axis) for row, values, mark in zip(rows, kept, marks, strict=True)
    ]
    return StripChart(unit, is_log, axis.ticks(), tuple(strips))


@dataclass(frozen=True)
class _Axis:
    """Linear in the value or in its decimal logarithm, with both ends."""

    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        scaled = float(np.log10(value)) if self.is_log else value
        percent = 100.0 * (scaled - self.low) / (self.high - self.low)
        return round(percent * _STEPS_PER_PERCENT) / _STEPS_PER_PERCENT

    def ticks(self) -> tuple[Tick, ...]:
        values = self._log_ticks() if self.is_log else _even_ticks(self.low, self.high)
        return tuple(Tick(self.place(value), format_number(value)) for value in values)

    def _log_ticks(self) -> list[float]:
        """Round numbers: 1, 2, 5 times a power of ten; powers alone if there are many."""
        powers = [10.0**p for p in range(int(np.floor(self.low)), int(np.ceil(self.high)) + 1)]
        steps = (1.0, 2.0, 5.0) if self.high - self.low < _MAX_DECADES_WITH_STEPS else (1.0,)
        ticks = [step * power for power in powers for step in steps]
        inside = [tick for tick in ticks if self.low <= np.log10(tick) <= self.high]
        if len(inside) >= _MIN_TICKS:
            return inside
        return _even_ticks(float(10.0**self.low), float(10.0**self.high))


def _even_ticks(low: float, high: float) -> list[float]:
    """About five round numbers at equal distances."""
    rough = (high - low) / _N_TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(m * power for m in (1, 2, 5, 10) if m * power >= rough))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [float(f"{n * step:.6g}") for n in range(first, last + 1)]


def _axis(low: float, high: float, *, is_log: bool) -> _Axis:
    if is_log:
        return _Axis(float(np.log10(low * 0.9)), float(np.log10(high * 1.1)), is_log=True)
    # A constant needs an axis as well; a twentieth keeps dots off the ends.
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return _Axis(low - margin, high + margin, is_log=False)


def _shown(numbers: Sequence[float], *, is_log: bool) -> list[float]:
    return [n for n in numbers if np.isfinite(n) and (n > 0 or not is_log)]


def _strip(row: Values, values: list[float], mark: list[float], axis: _Axis) -> Strip:
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


def _first(mark: list[float], axis: _Axis) -> float | None:
    return axis.place(mark[0]) if mark else None
