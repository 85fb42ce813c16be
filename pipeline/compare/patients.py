"""Which cases belong to one patient: they are resampled together."""

import csv
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import Splits, read_artifact
from pipeline.compare.inputs import RunScores
from pipeline.core.errors import DataError, MissingInputError, UsageError
from pipeline.core.workspace import Workspace

COLUMNS = ("case_id", "patient")


def read_patients(file: Path) -> dict[str, str]:
    """Read a CSV with the columns case_id and patient.

    Args:
        file: The CSV file.

    Returns:
        Case id to patient.

    Raises:
        UsageError: If there is no such file.
        DataError: If a column is missing or a case is named twice with different patients.
    """
    if not file.is_file():
        raise UsageError("there is no such file", where=str(file), fix="check --patients")
    patients: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.DictReader(text)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(
                f"the table of patients has no column {' and no column '.join(missing)}",
                where=str(file),
                fix=f"name its columns {' and '.join(COLUMNS)}",
            )
        for row in rows:
            case_id, patient = row["case_id"].strip(), row["patient"].strip()
            if patients.setdefault(case_id, patient) != patient:
                raise DataError(
                    f"case {case_id} belongs to two patients: {patients[case_id]} and {patient}",
                    where=f"{file}, line {rows.line_num}",
                    fix="keep one line per case",
                )
    return patients


def known_patients(runs: Sequence[RunScores]) -> dict[str, str] | None:
    """What the folds of the runs say about patients; None if they say nothing.

    Only validation cases are of the data set whose folds are known; ids of other data may be equal
    by chance.

    Args:
        runs: The runs.

    Returns:
        Case id to patient.
    """
    for run in runs:
        if run.table.kind != "validation" or run.table.work is None:
            continue
        try:
            file = Workspace(run.table.work).splits_file
            splits = read_artifact(file, Splits, made_by="audit")
        except MissingInputError:
            continue
        if splits.groups:
            return splits.groups
    return None
