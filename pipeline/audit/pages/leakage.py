"""Folds, patients and look-alikes: what decides whether a validation score can be trusted."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.artifacts import Finding, Splits
from pipeline.audit.pages.distributions import volumes_ml
from pipeline.audit.pages.tables import Cell, Table, column, rounded
from pipeline.audit.view import DatasetView

_MAX_CLASSES = 12
_MAX_PAIRS = 500


def folds_table(dataset: DatasetView, splits: Splits) -> Table:
    """Size of every fold, its foreground volume and how many of its cases show each class.

    Args:
        dataset: All cases.
        splits: The folds.

    Returns:
        One row per fold.
    """
    rows_by_id = {row.case_id: row for row in dataset.rows}
    names = dataset.manifest.task.class_names[:_MAX_CLASSES]
    rows: list[list[Cell]] = []
    for number, fold in enumerate(splits.folds):
        held_out = [rows_by_id[i] for i in fold.validation if i in rows_by_id]
        volumes = [sum(volumes_ml(row)) for row in held_out]
        patients = {splits.groups.get(i, i) for i in fold.validation}
        counts = [sum(row.n_class_voxels[p] > 0 for row in held_out) for p in range(len(names))]
        median = rounded(float(np.median(volumes))) if volumes else None
        sizes = (len(fold.train), len(fold.validation), len(patients))
        rows.append([str(number), *sizes, median, *counts])
    columns = [column("Fold")]
    columns += [
        column(name, is_number=True)
        for name in ("Train", "Validation", "Patients", "Median foreground, ml")
    ]
    columns += [column(f"with {name}", is_number=True) for name in names]
    return {"columns": columns, "rows": rows}


def group_facts(splits: Splits) -> list[tuple[str, str]]:
    """How the folds were made and how many cases a patient has."""
    facts = [("Method", splits.method), ("Seed", str(splits.seed))]
    sizes = Counter(splits.groups.values())
    if sizes:
        largest, n_largest = sizes.most_common(1)[0]
        n_several = sum(n > 1 for n in sizes.values())
        facts.append(("Patients", f"{len(sizes):,}; {n_several:,} with several cases"))
        facts.append(("Largest", f"{largest}: {n_largest:,} cases"))
    else:
        facts.append(("Patients", "every case counts as a patient of its own"))
    return facts


def look_alikes(findings: Sequence[Finding], splits: Splits) -> Table:
    """Pairs of cases that a check found alike, with the folds they are validated in.

    Args:
        findings: All findings; those that name another case in their evidence are pairs.
        splits: The folds.

    Returns:
        One row per pair, pairs across folds first.
    """
    fold_of = {i: number for number, fold in enumerate(splits.folds) for i in fold.validation}
    rows: list[list[Cell]] = []
    seen: set[tuple[str, frozenset[str]]] = set()
    for finding in findings:
        other = finding.evidence.get("same_as")
        if finding.case_id is None or not isinstance(other, str):
            continue
        key = (finding.check_id, frozenset((finding.case_id, other)))
        if key not in seen:
            seen.add(key)
            rows.append(_pair(finding, finding.case_id, other, fold_of))
    rows.sort(key=_rank)
    names = ("Check", "Case", "Fold", "Looks like", "Fold", "Between folds", "What was found")
    return {"columns": [column(name) for name in names], "rows": rows[:_MAX_PAIRS]}


def _pair(finding: Finding, case_id: str, other: str, fold_of: Mapping[str, int]) -> list[Cell]:
    folds = [fold_of.get(case_id), fold_of.get(other)]
    texts = [None if fold is None else str(fold) for fold in folds]
    is_apart = None not in folds and folds[0] != folds[1]
    apart = {"text": "yes", "kind": "bad", "sort": 0}
    together = {"text": "no", "kind": "good", "sort": 1}
    unknown = {"text": "not in the folds", "kind": "plain", "sort": 2}
    cell = unknown if None in folds else apart if is_apart else together
    return [finding.check_id, case_id, texts[0], other, texts[1], cell, finding.message]


def _rank(row: list[Cell]) -> tuple[int, str, str]:
    cell = row[5]
    rank = int(cell["sort"]) if isinstance(cell, dict) else 3
    return rank, str(row[0]), str(row[1])
