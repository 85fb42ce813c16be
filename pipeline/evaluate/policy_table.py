"""Every headline Dice under every empty-mask policy, side by side."""

from pipeline.evaluate.cells import Cell, PageTable, column
from pipeline.evaluate.class_tables import row_title
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases
from pipeline.metrics.policy import POLICIES, EmptyPolicy


def policy_table(evaluation: Evaluation, by_class: dict[str, ClassCases]) -> PageTable:
    """Foreground mean and mean of every class under every policy.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        One row for the foreground mean and one per class and region, one column per policy; cells
        state how many cases are in the mean.
    """
    columns = (
        column("Dice", is_number=False),
        *(
            column(_title(policy, evaluation), f"absent {_counts(policy.absent)}, missed "
                   f"{_counts(policy.missed)}, hallucinated {_counts(policy.hallucinated)}")
            for policy in POLICIES
        ),
        column("Absent", "cases with the class in neither map"),
        column("Missed", "cases with the class in the reference only"),
        column("Halluc.", "hallucinated: cases with the class in the prediction only"),
    )  # fmt: skip
    summary = evaluation.summary
    of_classes = [summary.classes[name] for name in evaluation.class_names]
    rows: list[list[Cell]] = [
        [
            "foreground mean",
            *(_foreground(evaluation, policy) for policy in POLICIES),
            sum(c.n_absent for c in of_classes),
            sum(c.n_missed for c in of_classes),
            sum(c.n_hallucinated for c in of_classes),
        ]
    ]
    for name, scores in summary.classes.items():
        means = (class_dice(by_class[name], policy) for policy in POLICIES)
        rows.append(
            [
                row_title(evaluation, name),
                *(_mean_cell(mean, n) for mean, n in means),
                scores.n_absent,
                scores.n_missed,
                scores.n_hallucinated,
            ]
        )
    return PageTable(columns, tuple(rows))


def class_dice(cases: ClassCases, policy: EmptyPolicy) -> tuple[float | None, int]:
    """Mean Dice of a class under a policy, and the number of cases in it.

    Args:
        cases: Scores of the class.
        policy: What empty masks count.

    Returns:
        The mean, which may be the stand-in of the policy for no value at all, and n.
    """
    found = (policy.value(overlap.dice) for _, overlap in cases.overlaps)
    values = [value for value in found if value is not None]
    if not values:
        return policy.mean_without_values, 0
    return sum(values) / len(values), len(values)


def _title(policy: EmptyPolicy, evaluation: Evaluation) -> str:
    return f"{policy.name} (chosen)" if policy.name == evaluation.config.policy else policy.name


def _foreground(evaluation: Evaluation, policy: EmptyPolicy) -> Cell:
    mean = evaluation.summary.mean_foreground_dice_policies.get(policy.name)
    return "undefined" if mean is None else {"text": f"{mean:.3f}", "sort": mean}


def _mean_cell(mean: float | None, n: int) -> Cell:
    return None if mean is None else {"text": f"{mean:.3f} ({n})", "sort": mean}


def _counts(value: float | None) -> str:
    return "left out" if value is None else f"counts {value:g}"
