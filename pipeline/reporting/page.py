"""Turning results into self-contained HTML pages."""

import math
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

MISSING = "\N{EN DASH}"


def render_page(template: str, context: Mapping[str, object]) -> str:
    """Render one page of `pipeline/reporting/templates`.

    Every value is escaped, so that a case id or class name can hold any character. A variable that
    the template names and the context lacks is an error, not an empty place in a report.

    Args:
        template: File name, such as "audit.html.j2".
        context: Values the template uses.

    Returns:
        The page as HTML; it loads nothing from anywhere.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["percent"] = format_percent
    return environment.get_template(template).render(context)


def format_number(value: object, digits: int = 3) -> str:
    """A value as people read it: 1,234,567 or 0.0312; a dash for None.

    Args:
        value: Number, text or None.
        digits: Significant digits of a number with a fraction; whole digits are never cut.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return _format_real(float(value), digits)


def format_percent(value: float | None, digits: int = 3) -> str:
    """A fraction as a percentage; a dash for None."""
    return MISSING if value is None else f"{format_number(100.0 * value, digits)} %"


def _format_real(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return MISSING
    n_whole_digits = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if value.is_integer() or n_whole_digits >= digits:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{digits}g}"
