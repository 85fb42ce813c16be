"""The tables about cases: every case, confused classes, subgroups of cases."""

from collections.abc import Sequence

from pipeline.artifacts import Summary
from pipeline.evaluate.cells import Cell, PageTable, column, mean_cell, value_cell
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases
from pipeline.evaluate.ranking import case_dice, worst_class
from pipeline.metrics.scores import CaseScores

MAX_CONFUSIONS = 60
# With more classes a subgroup shows the foreground mean and its lowest class.
MAX_SUBGROUP_CLASSES = 6

ByClass = dict[str, ClassCases]


def case_table(evaluation: Evaluation) -> PageTable:
    """Every case, worst first.

    Args:
        evaluation: The result.

    Returns:
        One row per scored case.
    """
    has_surfaces = any(case.surfaces for case in evaluation.cases)
    has_calibration = any(case.calibration_error is not None for case in evaluation.cases)
    columns = [
        column("Case", is_number=False),
        column("Mean Dice", "over the classes with a value"),
        column("Worst class", is_number=False),
        column("Its Dice"),
        column("Missed"),
        column("Halluc.", "hallucinated"),
        column("Reference, ml", "volume of all classes"),
        column("Error, ml", "predicted minus reference volume of all classes"),
    ]
    if has_surfaces:
        columns.append(column("Largest HD95, mm", "over classes in both maps"))
    if has_calibration:
        columns.append(column("ECE", "expected calibration error"))
    rows = []
    for case in evaluation.cases:
        cells = _case_row(case, evaluation)
        if has_surfaces:
            cells.append(_largest_hd95(case, evaluation))
        if has_calibration:
            cells.append(value_cell(case.calibration_error))
        rows.append(cells)
    return PageTable(tuple(columns), tuple(rows))


def confusion_table(evaluation: Evaluation, by_class: ByClass) -> PageTable:
    """Which class was predicted where the reference has another one, worst share first.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        The `MAX_CONFUSIONS` largest shares; no rows if no classes were confused.
    """
    columns = (
        column("Class in the reference", is_number=False),
        column("Predicted as", is_number=False),
        column("Share of the class, %", "of its volume over all cases together"),
        column("Volume, ml", "of all cases together"),
        column("Cases", "in which it happened"),
    )
    volumes_ml: dict[tuple[str, str], float] = {}
    n_cases: dict[tuple[str, str], int] = {}
    for case in evaluation.cases:
        voxel_ml = case.classes[0].voxel_ml if case.classes else 0.0
        for found in case.mistaken:
            pair = (found.class_name, found.mistaken_for)
            volumes_ml[pair] = volumes_ml.get(pair, 0.0) + found.n_voxels * voxel_ml
            n_cases[pair] = n_cases.get(pair, 0) + 1
    whole_ml = {
        name: sum(overlap.reference_ml for _, overlap in cases.overlaps)
        for name, cases in by_class.items()
    }
    shares = {pair: volume / whole_ml[pair[0]] for pair, volume in volumes_ml.items()}
    worst = sorted(shares, key=lambda pair: (-shares[pair], pair))[:MAX_CONFUSIONS]
    rows = tuple(
        [
            *pair,
            value_cell(100.0 * shares[pair], "%"),
            value_cell(volumes_ml[pair], "ml"),
            n_cases[pair],
        ]
        for pair in worst
    )
    return PageTable(columns, rows)


def subgroup_tables(evaluation: Evaluation) -> list[tuple[str, PageTable]]:
    """The same averages within groups of cases, one table per attribute.

    Args:
        evaluation: The result.

    Returns:
        Attribute and table, in the order of the columns of the attributes.
    """
    names = evaluation.class_names
    shown = names if len(names) <= MAX_SUBGROUP_CLASSES else ()
    columns = (
        column("Group", is_number=False),
        column("Cases"),
        column("Mean foreground Dice"),
        *(column(f"{name}, Dice [95 %]", "mean over cases, bootstrap interval") for name in shown),
        *(() if shown else (column("Lowest class (Dice)", is_number=False),)),
        column("Undefined", "classes of cases without a value, left out of the means"),
        column("Missed", "in the reference, not predicted"),
        column("Halluc.", "hallucinated: predicted, not in the reference"),
    )
    tables: dict[str, list[Sequence[Cell]]] = {}
    for group in evaluation.subgroups:
        summary = group.summary
        classes = summary.classes.values()
        cells: list[Cell] = [group.value, summary.n_cases]
        cells.append(value_cell(summary.mean_foreground_dice))
        cells += [mean_cell(summary.classes[name].dice, n_beside=summary.n_cases) for name in shown]
        if not shown:
            cells.append(_lowest_class(summary))
        cells.append(sum(c.dice.n_undefined for c in classes))
        cells += [sum(c.n_missed for c in classes), sum(c.n_hallucinated for c in classes)]
        tables.setdefault(group.column, []).append(cells)
    return [(name, PageTable(columns, tuple(rows))) for name, rows in tables.items()]


def _case_row(case: CaseScores, evaluation: Evaluation) -> list[Cell]:
    worst = worst_class(case, evaluation.policy, evaluation.class_names)
    # Regions unite classes that are counted already.
    classes = [c for c in case.classes if c.class_name not in evaluation.region_names]
    statuses = [c.status for c in classes]
    return [
        case.case_id,
        value_cell(case_dice(case, evaluation.policy, evaluation.class_names)),
        None if worst is None else worst[0],
        value_cell(None if worst is None else worst[1]),
        statuses.count("missed"),
        statuses.count("hallucinated"),
        value_cell(float(sum(c.reference_ml for c in classes)), "ml"),
        value_cell(float(sum(c.volume_error_ml for c in classes)), "ml", is_signed=True),
    ]


def _largest_hd95(case: CaseScores, evaluation: Evaluation) -> Cell:
    values = [
        (surface.hd95_mm.value, surface.class_name)
        for surface in case.surfaces
        if surface.hd95_mm.value is not None and surface.class_name not in evaluation.region_names
    ]
    if not values:
        return None
    hd95_mm, name = max(values)
    return {"text": f"{hd95_mm:.2f} ({name})", "sort": hd95_mm}


def _lowest_class(summary: Summary) -> Cell:
    means = [(c.dice.mean, name) for name, c in summary.classes.items()]
    known = [(mean, name) for mean, name in means if mean is not None]
    if not known:
        return None
    mean, name = min(known)
    return {"text": f"{name} ({mean:.3f})", "sort": mean}
