"""Which pseudonym stands for which case: one private table, only ever added to."""

import csv
import io
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ConfigError

TABLE_NAME = "pseudonyms.csv"
COLUMNS = ("pseudonym", "case_id", "dataset")
# For the owner alone: the table undoes the pseudonyms.
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
# Files and folders are named after pseudonyms.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"(?:^|_)case_([0-9]+)$")
_SUBJECT_NUMBER = re.compile(r"^sub-([0-9]+)_")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        pseudonym: What everything below shows.
        case_id: Name by the files.
        dataset: Name of the dataset folder: equal names in two datasets are two cases.
    """

    pseudonym: str
    case_id: str
    dataset: str


def read_table(file: Path) -> tuple[Row, ...]:
    """Read the table; empty if there is none yet.

    Args:
        file: `<work>/pseudonyms.csv`, written here or by the user.

    Returns:
        Its rows; further columns are passed over.

    Raises:
        ConfigError: If columns are missing, a pseudonym is given twice or cannot be a file name, or
            a case has two of them. The message names lines, not cases.
    """
    if not file.exists():
        return ()
    lines = list(csv.DictReader(_text_of(file).splitlines()))
    rows: list[Row] = []
    for number, line in enumerate(lines, start=2):
        values = [(line.get(column) or "").strip() for column in COLUMNS]
        if not all(values):
            raise _table_error(file, f"line {number} lacks one of {', '.join(COLUMNS)}")
        if not _NAME.fullmatch(values[0]):
            raise _table_error(file, f"the pseudonym in line {number} cannot be a file name")
        rows.append(Row(*values))
    _refuse_doubles(file, [row.pseudonym.lower() for row in rows], "a pseudonym")
    _refuse_doubles(file, [(row.dataset, row.case_id) for row in rows], "a case")
    return tuple(rows)


def new_rows(
    table: Sequence[Row], dataset: str, case_ids: Iterable[str], subjects: Mapping[str, str]
) -> tuple[Row, ...]:
    """Give a pseudonym to every case that has none.

    The order is drawn by lot: numbers in the order of the names would tell something about them.
    Cases of one subject share the beginning `sub-0001_`, so that they still never end up in
    training and validation at once.

    Args:
        table: Rows so far.
        dataset: Name of the dataset.
        case_ids: All of its cases.
        subjects: Case id to subject, where names tell it.

    Returns:
        The rows to add.
    """
    known = {row.case_id for row in table if row.dataset == dataset}
    waiting = sorted(set(case_ids) - known)
    # Not seeded on purpose: what can be computed again is no secret.
    secrets.SystemRandom().shuffle(waiting)
    numbers = _counted(_NUMBER, table)
    subject_numbers = _counted(_SUBJECT_NUMBER, table)
    prefixes = _prefixes(table, dataset, subjects)
    rows = []
    for case_id in waiting:
        prefix = ""
        if subject := subjects.get(case_id):
            prefix = prefixes.get(subject) or f"sub-{next(subject_numbers):04d}_"
            prefixes[subject] = prefix
        rows.append(Row(f"{prefix}case_{next(numbers):04d}", case_id, dataset))
    return tuple(sorted(rows, key=lambda row: row.pseudonym))


def add_rows(file: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table, which stays as it is otherwise, in one step.

    Args:
        file: The table; made if there is none.
        rows: New ones.
    """
    if file.exists():
        file.chmod(PRIVATE_FILE)
    if not rows:
        return
    text = _text_of(file) if file.exists() else ""
    header = next(csv.reader(text.splitlines()), list(COLUMNS))
    added = io.StringIO()
    writer = csv.DictWriter(added, header, restval="", lineterminator="\n")
    if not text:
        writer.writeheader()
    writer.writerows({column: getattr(row, column) for column in COLUMNS} for row in rows)
    separator = "" if not text or text.endswith("\n") else "\n"
    _replace(file, text + separator + added.getvalue())


def _replace(file: Path, text: str) -> None:
    """As `core.workspace.write_text`, but never readable for others, not even for a moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _table_error(file, "it is not UTF-8 text") from None


def _counted(pattern: re.Pattern[str], table: Sequence[Row]) -> Iterator[int]:
    """Numbers after the highest one that is taken."""
    found = [pattern.search(row.pseudonym) for row in table]
    highest = max((int(match[1]) for match in found if match), default=0)
    return iter(range(highest + 1, 10**9))


def _prefixes(table: Sequence[Row], dataset: str, subjects: Mapping[str, str]) -> dict[str, str]:
    """Subjects of this dataset that have a number already."""
    found = {}
    for row in table:
        match = _SUBJECT_NUMBER.match(row.pseudonym)
        if match and row.dataset == dataset and row.case_id in subjects:
            found[subjects[row.case_id]] = match[0]
    return found


def _refuse_doubles(file: Path, values: Sequence[object], what: str) -> None:
    seen: dict[object, int] = {}
    for number, value in enumerate(values, start=2):
        if seen.setdefault(value, number) != number:
            raise _table_error(file, f"{what} stands in line {seen[value]} and in line {number}")


def _table_error(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the table of pseudonyms cannot be used: {why}",
        where=str(file),
        fix=f"it is a CSV file with the columns {', '.join(COLUMNS)}; mend it or take a backup: a "
        "new table would give other pseudonyms",
    )
