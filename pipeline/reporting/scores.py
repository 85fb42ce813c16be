"""Dice per class as a table in the terminal and on a page."""

from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.artifacts import Interval, Summary

NOTHING = "-"


def dice_table(summary: Summary, title: str, worst: Mapping[str, str]) -> Table:
    """Lay out Dice per class, with counts beside every mean.

    Args:
        summary: The scores.
        title: Printed above the table.
        worst: For each class, its worst case with its Dice; empty leaves the column out.

    Returns:
        A table for a rich console.
    """
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("mean", "95 % interval", "median", "n", "missed", "halluc."):
        table.add_column(name, justify="right", no_wrap=True)
    if worst:
        table.add_column("worst case", overflow="fold")
    for name, scores in summary.classes.items():
        cells = (
            escape(name),
            format_number(scores.dice.mean),
            format_interval(scores.dice),
            format_number(scores.dice.median),
            str(scores.dice.n),
            str(scores.n_missed),
            str(scores.n_hallucinated),
        )
        table.add_row(*cells, *((escape(worst.get(name, NOTHING)),) if worst else ()))
    table.add_section()
    mean = format_number(summary.mean_foreground_dice)
    table.add_row("foreground mean", mean, "", "", str(summary.n_cases))
    return table


def dice_columns_and_rows(summary: Summary) -> dict[str, object]:
    """Lay out Dice per class for the macro `table` of pages, with counts beside every mean.

    Args:
        summary: The scores.
    """
    columns = [
        {"name": "Class"},
        {"name": "Mean Dice", "is_number": True},
        {"name": "95 % interval", "is_number": True, "help": "of the mean"},
        {"name": "Median", "is_number": True},
        {"name": "n", "is_number": True, "help": "cases with a value"},
        {"name": "Missed", "is_number": True, "help": "in the reference, not predicted at all"},
        {"name": "Hallucinated", "is_number": True, "help": "predicted, not in the reference"},
    ]
    rows = [
        [
            name,
            dice_cell(scores.dice.mean),
            format_interval(scores.dice),
            dice_cell(scores.dice.median),
            scores.dice.n,
            scores.n_missed,
            scores.n_hallucinated,
        ]
        for name, scores in summary.classes.items()
    ]
    return {"columns": columns, "rows": rows}


def dice_cell(value: float | None) -> dict[str, object]:
    """A Dice in a table of a page: three decimals, sorted by its full value."""
    return {"text": format_number(value), "sort": value}


def format_interval(interval: Interval) -> str:
    """The 95 % interval of a mean: "0.871 - 0.897"; a dash if there is none."""
    return NOTHING if interval.ci95 is None else f"{interval.ci95[0]:.3f} - {interval.ci95[1]:.3f}"


def format_mean(interval: Interval) -> str:
    """A mean with its interval: "0.885 [0.871, 0.897]"."""
    if interval.ci95 is None:
        return format_number(interval.mean)
    return f"{format_number(interval.mean)} [{interval.ci95[0]:.3f}, {interval.ci95[1]:.3f}]"


def format_number(value: float | None) -> str:
    """Three decimals, as many as a Dice bears; a dash for an undefined value."""
    return NOTHING if value is None else f"{value:.3f}"
