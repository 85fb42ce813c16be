"""The result of a training on the terminal."""

from pathlib import Path

from rich.console import Console

from pipeline.artifacts import ModelCard
from pipeline.reporting.scores import dice_table
from pipeline.train.page import PAGE


def show_result(card: ModelCard, model_file: Path) -> None:
    """Print the per-class Dice table of the validation to stdout.

    Args:
        card: Model card with the validation summary.
        model_file: Shown below the table.
    """
    console = Console(soft_wrap=True)
    summary, fold = card.validation, card.info.fold
    if summary is None:
        console.print(f"Trained on all {card.info.plan.n_train_cases} cases; none were held out.")
    else:
        title = f"Dice on {summary.n_cases} cases of fold {fold} that were not trained on"
        console.print(dice_table(summary, title, worst={}))
    console.print(f"Model: {model_file}", markup=False, highlight=False)
    if (model_file.parent / PAGE).is_file():
        console.print(f"Report: {model_file.parent / PAGE}", markup=False, highlight=False)
