"""The result as a table in the terminal."""

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.artifacts import Interval
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.ranking import worst_case

NOTHING = "-"


def class_table(evaluation: Evaluation) -> Table:
    """Lay out Dice per class, with counts and the worst case beside every mean.

    Args:
        evaluation: The result.

    Returns:
        A table for a rich console.
    """
    summary = evaluation.summary
    table = Table(
        title=f"Dice on {escape(evaluation.dataset_name)}, policy {summary.policy}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("class", overflow="fold")
    for name in ("mean", "95 % interval", "median", "n", "missed", "halluc."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("worst case", overflow="fold")
    for name, scores in summary.classes.items():
        worst = worst_case(evaluation.cases, name, evaluation.policy)
        table.add_row(
            escape(name),
            _number(scores.dice.mean),
            format_interval(scores.dice),
            _number(scores.dice.median),
            str(scores.dice.n),
            str(scores.n_missed),
            str(scores.n_hallucinated),
            NOTHING if worst is None else escape(f"{worst[0]} {worst[1]:.3f}"),
        )
    table.add_section()
    table.add_row(
        "foreground mean", _number(summary.mean_foreground_dice), "", "", str(summary.n_cases)
    )
    return table


def format_interval(interval: Interval) -> str:
    """The 95 % interval of a mean: "0.871 - 0.897"; a dash if there is none."""
    return NOTHING if interval.ci95 is None else f"{interval.ci95[0]:.3f} - {interval.ci95[1]:.3f}"


def format_mean(interval: Interval) -> str:
    """A mean with its interval: "0.885 [0.871, 0.897]"."""
    if interval.ci95 is None:
        return _number(interval.mean)
    return f"{_number(interval.mean)} [{interval.ci95[0]:.3f}, {interval.ci95[1]:.3f}]"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
