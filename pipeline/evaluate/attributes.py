"""What is known about the cases: patients for the intervals, columns for subgroup tables."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import ConfigError

CASE_COLUMN = "case_id"
PATIENT_COLUMN = "patient"


@dataclass(frozen=True)
class CaseAttributes:
    """A table of case attributes.

    Args:
        patients: Case id to patient; empty if the table does not tell.
        columns: Case id to column to value, for subgroups.
        unknown: Cases of the table that were not scored.
    """

    patients: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def read_attributes(file: Path | None, case_ids: frozenset[str]) -> CaseAttributes:
    """Read the table of case attributes.

    Args:
        file: CSV with a header line and a column case_id; None for no table.
        case_ids: Cases that were scored.

    Returns:
        Patients and columns of the scored cases.

    Raises:
        ConfigError: If the file cannot be read, lacks its column, or names a case twice.
    """
    if file is None:
        return CaseAttributes()
    fix = f"write a CSV file with a header line '{CASE_COLUMN},{PATIENT_COLUMN},sex,scanner'"
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"the table of case attributes cannot be read: {error}",
            where="evaluate.attributes",
            fix=fix,
        ) from None
    if not rows or CASE_COLUMN not in rows[0]:
        raise ConfigError(
            f"the table of case attributes has no column {CASE_COLUMN}", where=str(file), fix=fix
        )
    found = CaseAttributes({}, {}, tuple(sorted({_id(r) for r in rows} - case_ids)))
    for row in rows:
        case_id = _id(row)
        if case_id in found.columns:
            raise ConfigError(f"case '{case_id}' stands there twice", where=str(file), fix=fix)
        if case_id not in case_ids:
            continue
        cells = {name: (value or "").strip() for name, value in row.items() if name}
        if cells.get(PATIENT_COLUMN):
            found.patients[case_id] = cells[PATIENT_COLUMN]
        found.columns[case_id] = {
            name: value
            for name, value in cells.items()
            if name not in {CASE_COLUMN, PATIENT_COLUMN}
        }
    return found


def _id(row: dict[str, str]) -> str:
    return (row[CASE_COLUMN] or "").strip()
