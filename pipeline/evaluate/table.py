"""The result as a table in the terminal."""

from rich.table import Table

from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.ranking import worst_case
from pipeline.reporting.scores import NOTHING, dice_table


def class_table(evaluation: Evaluation) -> Table:
    """Lay out Dice per class, with counts and the worst case beside every mean.

    Args:
        evaluation: The result.

    Returns:
        A table for a rich console.
    """
    summary, worst = evaluation.summary, {}
    for name in summary.classes:
        found = worst_case(evaluation.cases, name, evaluation.policy)
        worst[name] = NOTHING if found is None else f"{found[0]} {found[1]:.3f}"
    title = f"Dice on {evaluation.dataset_name}, policy {summary.policy}"
    if evaluation.n_unscored:
        total = evaluation.n_references
        title += f"; {evaluation.n_unscored} of {total} cases could NOT be scored"
    return dice_table(summary, title, worst)
