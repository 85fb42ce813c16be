"""Which cases belong to one patient: they are resampled together."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import Splits, read_artifact
from pipeline.compare.inputs import RunScores
from pipeline.core.errors import DataError, MissingInputError, UsageError
from pipeline.core.workspace import Workspace

COLUMNS = ("case_id", "patient")

_log = logging.getLogger(__name__)


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
            case_id, patient = (row["case_id"] or "").strip(), (row["patient"] or "").strip()
            # An empty cell says nothing: such a case is a patient of its own.
            if not case_id or not patient:
                continue
            if patients.setdefault(case_id, patient) != patient:
                raise DataError(
                    f"case {case_id} belongs to two patients: {patients[case_id]} and {patient}",
                    where=f"{file}, line {rows.line_num}",
                    fix="keep one line per case",
                )
    return patients


def check_patients(patients: Mapping[str, str], runs: Sequence[RunScores]) -> None:
    """Refuse a table of patients that is about other cases, and warn of cases it does not name.

    Args:
        patients: Case id to patient.
        runs: The runs.

    Raises:
        DataError: If it names none of the cases.
    """
    case_ids = {case.case_id for run in runs for case in run.cases}
    unnamed = sorted(case_ids - set(patients))
    if len(unnamed) == len(case_ids):
        raise DataError(
            "the table of patients names none of the cases",
            where=f"cases are named like {unnamed[0]}, the table names {sorted(patients)[:3]}",
            fix="write the ids of the cases as in scores.csv",
        )
    if unnamed:
        _log.warning(
            "%d of %d cases are not in the table of patients and count as patients of their own: "
            "%s",
            len(unnamed),
            len(case_ids),
            ", ".join(unnamed[:5]),
        )


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
