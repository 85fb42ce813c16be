"""The result of a training on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.artifacts import Interval, ModelCard


def show_result(card: ModelCard, model_file: Path) -> None:
    """Print the per-class Dice table of the validation to stdout.

    Args:
        card: Model card with the validation summary.
        model_file: Shown below the table.
    """
    console = Console(soft_wrap=True)
    summary = card.validation
    if summary is None:
        console.print(f"Trained on all {card.info.plan.n_train_cases} cases; none were held out.")
        console.print(f"Model: {model_file}")
        return
    fold = card.info.fold
    table = Table(title=f"Validation of fold {fold}: {summary.n_cases} cases not trained on")
    table.add_column("class")
    for heading in ("mean Dice", "95 % interval", "median", "n", "missed", "hallucinated"):
        table.add_column(heading, justify="right")
    for name, scores in summary.classes.items():
        table.add_row(
            name,
            _number(scores.dice.mean),
            _interval(scores.dice),
            _number(scores.dice.median),
            str(scores.dice.n),
            str(scores.n_missed),
            str(scores.n_hallucinated),
        )
    table.add_section()
    table.add_row("mean foreground", _number(summary.mean_foreground_dice))
    console.print(table)
    console.print(f"Model: {model_file}")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(scores: Interval) -> str:
    return "-" if scores.ci95 is None else f"{scores.ci95[0]:.4f} .. {scores.ci95[1]:.4f}"
