"""A table of paths: CSV, TSV or JSON with one row per case.

```
case_id,image,label                    case_id,t1,flair,label
p1,scans/p1.nii.gz,masks/p1.nii.gz     p1,p1/t1.nii.gz,p1/flair.nii.gz,p1/lesion.nii.gz
```
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError
from pipeline.io.description import DESCRIPTION_NAME, parse_description
from pipeline.io.layouts.reading import Choice, NoFit, Reading, described
from pipeline.io.layouts.roles import chosen_roles
from pipeline.io.layouts.table import LIST_SUFFIXES, Table, read_table
from pipeline.io.layouts.tree import files_in, folders_in, stem, with_label_files
from pipeline.io.pairing import CaseFiles, relative_name, split_channel, strip_role

_LOOKED_FOR = "a CSV or JSON list with the columns image and label"
_LABEL_COLUMNS = ("label", "labels", "mask", "seg", "segmentation")
_ID_COLUMNS = ("case_id", "case", "id", "subject", "patient")
# A list longer than this is no list of volumes.
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class _Columns:
    """What the columns of a table hold."""

    images: tuple[str, ...]
    label: str | None
    case_id: str | None


def read_path_list(root: Path, choice: Choice) -> Reading | NoFit:
    """Read the one list of paths that lies in a folder.

    Args:
        root: Dataset folder.
        choice: Which columns are the channels.

    Returns:
        One case per row.

    Raises:
        DataError: If a row gives a case a name that no file can have.
    """
    names = {path.name.lower() for path in folders_in(root)}
    lists: list[tuple[Path, Table]] = []
    for file in files_in(root):
        # Beside imagesTr/ it is the description of that layout.
        is_description = file.name == DESCRIPTION_NAME and names & {"imagestr", "imagests"}
        if file.suffix.lower() not in LIST_SUFFIXES or is_description or not _is_small(file):
            continue
        table = read_table(file)
        if table is not None and _points_to_files(table, root):
            lists.append((file, table))
    if len(lists) != 1:
        found = ", ".join(file.name for file, _ in lists)
        return NoFit(
            _LOOKED_FOR, f"several: {found}; give one of them as the dataset" * bool(lists)
        )
    file, table = lists[0]
    return _read(file, table, choice)


def read_given_list(file: Path, choice: Choice) -> Reading:
    """Read a list of paths that was named itself; its paths may lead anywhere.

    Raises:
        DataError: If it is no such list, or names no file that exists.
    """
    table = read_table(file) if _is_small(file) else None
    if table is None or not _columns(table, file.parent).images:
        raise DataError(
            "the file is no list of cases",
            where=str(file),
            fix="give it a column image (or one column per channel), label, and case_id if names "
            "are to be chosen; paths are relative to its folder",
        )
    reading = _read(file, table, choice)
    if not reading.cases:
        problem = reading.problems[0].message if reading.problems else "it has no rows"
        raise DataError(
            f"the list names no case that can be used: {problem}",
            where=str(file),
            fix=f"paths are relative to {file.parent}",
        )
    return reading


def _read(file: Path, table: Table, choice: Choice) -> Reading:
    root = file.parent
    columns = _columns(table, root)
    chosen = chosen_roles(columns.images, asked=choice.channels, expected=choice.expected)
    images = chosen or columns.images
    problems: list[Problem] = []
    listed: list[CaseFiles] = []
    for number, row in enumerate(table.rows, start=1):
        case = _case(row, images, columns, root)
        missing = [path for path in (*case.images, case.label) if path and not path.exists()]
        if missing or not case.images:
            what = f"{relative_name(missing[0], root)} is not there" if missing else "no image"
            problems.append(_unusable(file, number, what))
            continue
        listed.append(case)
    cases = _named(listed, root)
    cases = tuple(replace(case, mask_order=choice.mask_order) for case in cases)
    reading = Reading(
        layout="path_list",
        root=root,
        reason=f"{len(cases)} cases listed in {file.name}",
        cases=cases,
        problems=tuple(problems),
        channel_names=images if len(images) > 1 else (),
    )
    return described(reading, parse_description(table.description, root))


def _columns(table: Table, root: Path) -> _Columns:
    lower = {name.lower(): name for name in reversed(table.columns)}
    label = next((lower[name] for name in _LABEL_COLUMNS if name in lower), None)
    case_id = next((lower[name] for name in _ID_COLUMNS if name in lower), None)
    if "image" in lower:
        return _Columns((lower["image"],), label, case_id)
    others = [name for name in table.columns if name not in (label, case_id)]
    images = tuple(name for name in others if _holds_paths(table, name, root))
    return _Columns(images, label, case_id)


def _holds_paths(table: Table, column: str, root: Path) -> bool:
    """Whether the first entry of a column is a file: ages and sites are none."""
    first = next((paths[0] for row in table.rows if (paths := row.get(column))), None)
    return first is not None and _absolute(first, root).exists()


def _points_to_files(table: Table, root: Path) -> bool:
    columns = _columns(table, root)
    return bool(columns.images) and any(_holds_paths(table, name, root) for name in columns.images)


def _case(
    row: Mapping[str, tuple[str, ...]], images: Sequence[str], columns: _Columns, root: Path
) -> CaseFiles:
    paths = tuple(_absolute(text, root) for name in images for text in row.get(name, ()))
    label = row.get(columns.label, ()) if columns.label else ()
    case_id = row.get(columns.case_id, ()) if columns.case_id else ()
    return with_label_files(
        CaseFiles(
            case_id[0] if case_id else "", paths, _absolute(label[0], root) if label else None
        )
    )


def _absolute(text: str, root: Path) -> Path:
    return Path(os.path.normpath(root / text))


def _named(cases: Sequence[CaseFiles], root: Path) -> tuple[CaseFiles, ...]:
    """Give every case a name: as listed, else by file, by folder, or by its whole path."""
    if all(case.case_id for case in cases):
        return tuple(cases)
    firsts = [case.images[0] for case in cases]
    ways = (
        [strip_role(split_channel(stem(first))[0]) for first in firsts],
        [first.parent.name for first in firsts],
        [relative_name(first.with_name(stem(first)), root).replace("/", "_") for first in firsts],
    )
    names = next((way for way in ways if len(set(way)) == len(way)), ways[-1])
    return tuple(
        replace(case, case_id=case.case_id or name) for case, name in zip(cases, names, strict=True)
    )


def _is_small(file: Path) -> bool:
    return file.is_file() and file.stat().st_size <= _MAX_BYTES


def _unusable(file: Path, number: int, what: str) -> Problem:
    return Problem(
        check_id="F01",
        file=file.name,
        message=f"row {number} of the list cannot be used: {what}",
        fix=f"correct the path (relative to {file.parent.name}/), or take the row out",
    )
