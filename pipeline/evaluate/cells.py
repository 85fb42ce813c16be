"""Numbers as tables of the report show them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts import Interval

# A cell of the table macro: text with a value to sort by, a badge kind or a color.
Cell = str | int | float | Mapping[str, str | float | None] | None
# Possible values by unit: an interval of Student may leave them, what is shown must not.
_RANGES = {"": (0.0, 1.0), "mm": (0.0, math.inf), "%": (-100.0, math.inf)}
# Keeps the two ends of an interval on one line.
_NARROW = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class PageTable:
    """A table of the report.

    Args:
        columns: Name, is_number and help of every column, as the table macro takes them.
        rows: One list of cells per row.
    """

    columns: tuple[Mapping[str, str | bool], ...]
    rows: tuple[Sequence[Cell], ...]


def column(name: str, explanation: str = "", *, is_number: bool = True) -> dict[str, str | bool]:
    """One column of a table, with the text shown when pointing at its name."""
    unbroken = name.replace("95 %", f"95{_NARROW}%")
    return {"name": unbroken, "is_number": is_number, "help": explanation}


def format_value(
    value: float | None, unit: str = "", *, is_signed: bool = False, size: float | None = None
) -> str:
    """A number with as many digits as its kind bears; without its unit.

    Args:
        value: The number; None is undefined.
        unit: "" for shares, "mm", "ml" or "%".
        is_signed: Whether a plus is written.
        size: What decides about the digits of volumes, so that numbers that stand together have
            the same; None for the number itself.
    """
    if value is None:
        return "undefined"
    digits = {"": 3, "mm": 2, "%": 1}.get(unit)
    if digits is None:
        largest = abs(value if size is None else size)
        digits = 3 if largest < 10 else 1 if largest < 1000 else 0
    # Rounding must not leave a signed zero.
    rounded = round(value, digits) or 0.0
    return f"{rounded:+.{digits}f}" if is_signed and rounded else f"{rounded:.{digits}f}"


def clip(value: float, unit: str) -> float:
    """The nearest value that a number of this unit can have."""
    low, high = _RANGES.get(unit, (-math.inf, math.inf))
    return min(max(value, low), high)


def value_cell(value: float | None, unit: str = "", *, is_signed: bool = False) -> Cell:
    """A number that sorts by its full precision; empty for None."""
    if value is None:
        return None
    return {"text": format_value(value, unit, is_signed=is_signed), "sort": value}


def mean_cell(
    interval: Interval | None, unit: str = "", *, is_signed: bool = False, n_beside: int | None
) -> Cell:
    """A mean with its intervals, and its own n where the row shows another one.

    Args:
        interval: The mean; None if it was not computed.
        unit: As in `format_value`.
        is_signed: As in `format_value`.
        n_beside: Cases with a value that another column of the row states; None for none.
    """
    if interval is None or interval.mean is None:
        return None
    parts = [format_value(interval.mean, unit, is_signed=is_signed)]
    parts += interval_texts(interval, unit, is_signed=is_signed)
    if interval.n != n_beside:
        parts.append(f"(n{_NARROW}{interval.n})")
    return {"text": " ".join(parts), "sort": interval.mean}


def interval_texts(interval: Interval, unit: str = "", *, is_signed: bool = False) -> list[str]:
    """The intervals of a mean as texts: none below 10 patients, both below 20.

    Args:
        interval: The mean.
        unit: As in `format_value`.
        is_signed: As in `format_value`.

    Returns:
        At most the bootstrap interval and Student's t.
    """
    if interval.is_small:
        return []
    found = []
    for name, bounds in (("", interval.ci95), (f"t{_NARROW}", interval.t95)):
        if bounds is not None:
            low, high = (
                format_value(clip(b, unit), unit, is_signed=is_signed, size=interval.mean)
                for b in bounds
            )
            found.append(f"{name}[{low},{_NARROW}{high}]")
    return found
