"""In which cases nobody drew a class: declared by the user, checked against the data."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.artifacts import Task
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.task import TaskConfig

_WHERE = "task.unannotated"
_COLUMNS = ("case_id", "class")


def with_listed_cases(
    config: TaskConfig, task: Task, case_ids: Iterable[str], *, is_complete: bool = True
) -> TaskConfig:
    """Check what is declared not annotated, and take in the rows of the CSV file.

    Args:
        config: Section `task`.
        task: Classes of the dataset.
        case_ids: All cases of the dataset.
        is_complete: Whether other cases than these are an error; they are not where a test set is
            scored with the declarations of the training set.

    Returns:
        The section with every row of the CSV among `unannotated.cases`, and without the file.

    Raises:
        ConfigError: If the CSV cannot be read, or a class or a case is not known.
    """
    declared = config.unannotated
    known_cases = list(case_ids)
    cases = {name: list(ids) for name, ids in declared.cases.items()}
    for case_id, name in _read_csv(declared.csv) if declared.csv is not None else ():
        cases.setdefault(name, []).append(case_id)
    for name in (*cases, *(() if declared.absent == "all" else declared.absent)):
        _check(name, task.class_names, "class")
    for case_id in dict.fromkeys(case_id for ids in cases.values() for case_id in ids):
        if is_complete:
            _check(case_id, known_cases, "case")
    checked = declared.model_copy(
        update={"cases": {name: tuple(ids) for name, ids in cases.items()}, "csv": None}
    )
    return config.model_copy(update={"unannotated": checked})


def unannotated_classes(
    config: TaskConfig, task: Task, case_id: str, label_values: Iterable[int]
) -> tuple[str, ...]:
    """Classes that nobody drew in a case: there, missing does not mean background.

    Args:
        config: Section `task`, from `with_listed_cases`.
        task: Classes of the dataset.
        case_id: The case.
        label_values: Values in its label file.

    Returns:
        Class names in task order: those listed for the case, and those declared `absent` of which
        the label shows no voxel.
    """
    declared = config.unannotated
    there = set(label_values)
    return tuple(
        c.name
        for c in task.classes
        if case_id in declared.cases.get(c.name, ())
        or (
            (declared.absent == "all" or c.name in declared.absent)
            and there.isdisjoint(c.source_values)
        )
    )


def _check(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        raise ConfigError(
            f"there is no {what} '{name}'", where=_WHERE, fix=did_you_mean(name, known)
        )


def _read_csv(file: Path) -> list[tuple[str, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the list of classes not annotated: {error}",
            where=f"{_WHERE}.csv",
            fix="the path counts from the folder that the command is run in",
        ) from None
    reader = csv.DictReader(text.splitlines())
    try:
        rows, columns = list(reader), reader.fieldnames or ()
    except csv.Error as error:
        raise ConfigError(
            f"the list is no CSV: {error}", where=str(file), fix="export it as CSV, UTF-8"
        ) from None
    if not set(_COLUMNS) <= set(columns):
        raise ConfigError(
            f"the columns are {', '.join(columns) or 'not named'}",
            where=str(file),
            fix=f"name them {' and '.join(_COLUMNS)}",
        )
    return [_pair(row) for row in rows if any(row.get(name) for name in _COLUMNS)]


def _pair(row: Mapping[str, str | None]) -> tuple[str, str]:
    return (row["case_id"] or "").strip(), (row["class"] or "").strip()
