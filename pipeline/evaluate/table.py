"""The result as a table in the terminal."""

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.artifacts import Interval
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.ranking import worst_case
from pipeline.reporting.scores import NOTHING, format_interval, format_number


def class_table(evaluation: Evaluation) -> Table:
    """Lay out the scores per class, with counts and the worst case beside every mean.

    Args:
        evaluation: The result.

    Returns:
        A table for a rich console, up to 140 letters wide; distances are in mm.
    """
    summary = evaluation.summary
    has_surfaces = any(scores.nsd is not None for scores in summary.classes.values())
    table = Table(
        title=escape(_title(evaluation)), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1)
    )
    table.add_column("class", overflow="fold")
    for name in ("Dice", "95 % interval", "median", "n", "missed", "halluc."):
        table.add_column(name, justify="right", no_wrap=True)
    if has_surfaces:
        for name in ("HD95 mm", "n", "NSD"):
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst case", overflow="fold")
    for name, scores in summary.classes.items():
        cells = [
            escape(f"{name} (union)" if name in evaluation.region_names else name),
            format_number(scores.dice.mean),
            # As few patients say less than an interval pretends.
            NOTHING if scores.dice.is_small else format_interval(scores.dice),
            format_number(scores.dice.median),
            str(scores.dice.n),
            str(scores.n_missed),
            str(scores.n_hallucinated),
        ]
        if has_surfaces:
            cells += [_millimeters(scores.hd95_mm), _n(scores.hd95_mm)]
            cells.append(NOTHING if scores.nsd is None else format_number(scores.nsd.mean))
        table.add_row(*cells, escape(_worst(evaluation, name)))
    table.add_section()
    mean = format_number(summary.mean_foreground_dice)
    table.add_row("foreground mean", mean, "", "", str(summary.n_cases))
    return table


def _title(evaluation: Evaluation) -> str:
    title = f"Scores on {evaluation.dataset_name}, policy {evaluation.summary.policy}"
    if evaluation.n_unscored:
        total = evaluation.n_references
        title += f"; {evaluation.n_unscored} of {total} cases could NOT be scored"
    return title


def _millimeters(interval: Interval | None) -> str:
    return NOTHING if interval is None or interval.mean is None else f"{interval.mean:.2f}"


def _n(interval: Interval | None) -> str:
    return "0" if interval is None else str(interval.n)


def _worst(evaluation: Evaluation, name: str) -> str:
    found = worst_case(evaluation.cases, name, evaluation.policy)
    return NOTHING if found is None else f"{found[0]} {found[1]:.3f}"
