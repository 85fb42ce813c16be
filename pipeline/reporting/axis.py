"""The axis of a chart that a page draws without a script: places in percent, and round ticks."""

from dataclasses import dataclass

import numpy as np

from pipeline.reporting.page import format_number

# Places are rounded; a step is less than a pixel of a usual screen.
_STEPS_PER_PERCENT = 5
_MAX_DECADES_WITH_STEPS = 2.5
_N_TICKS = 5
_MIN_TICKS = 3


@dataclass(frozen=True)
class Tick:
    """A labelled place on the axis, in percent of its length."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """Linear in the value or in its decimal logarithm, with both ends."""

    low: float
    high: float
    is_log: bool

    def place(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        scaled = float(np.log10(value)) if self.is_log else value
        percent = 100.0 * (scaled - self.low) / (self.high - self.low)
        return round(percent * _STEPS_PER_PERCENT) / _STEPS_PER_PERCENT

    def ticks(self) -> tuple[Tick, ...]:
        """Round values with their places."""
        values = self._log_ticks() if self.is_log else _even_ticks(self.low, self.high)
        ticks = (Tick(self.place(value), format_number(value)) for value in values)
        return tuple(tick for tick in ticks if -0.5 <= tick.at <= 100.5)

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


def axis_over(low: float, high: float, *, is_log: bool) -> Axis:
    """An axis on which a range of values fits, ends included.

    Args:
        low: Lowest value; above 0 on a logarithmic axis.
        high: Highest value.
        is_log: Logarithmic axis.
    """
    if is_log:
        return Axis(float(np.log10(low * 0.9)), float(np.log10(high * 1.1)), is_log=True)
    # What is constant but for rounding needs an axis as well; a twentieth keeps dots off the ends.
    is_constant = high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-300)
    margin = (0.05 * abs(high) or 1.0) if is_constant else 0.05 * (high - low)
    return Axis(low - margin, high + margin, is_log=False)
