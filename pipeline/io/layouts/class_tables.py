"""Which value each named structure gets, where label files name their structures."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import FileFormatError
from pipeline.core.text import some_of
from pipeline.io.layouts.reading import Choice, Reading
from pipeline.io.layouts.tree import is_dicom_file
from pipeline.io.masks import mask_name
from pipeline.io.nrrd import nrrd_segments
from pipeline.io.nrrd_header import parse_nrrd_header
from pipeline.io.pairing import CaseFiles, relative_name

# Enough for all but the longest headers: more of thousands of files takes minutes to read.
_HEADER_BYTES = 1 << 16
# A header with hundreds of segments stays far below this.
_MAX_HEADER_BYTES = 1 << 20


def with_class_table(reading: Reading, choice: Choice | None = None) -> Reading:
    """Give every structure that a label names one value in the whole data set.

    Names are gathered over all labels. The classes of a model, else of `dataset.json`, keep their
    values; the others follow in the order of their names. Labels are read with this table; where
    the task selects structures, the others get 0 (so that it does not matter what they overlap),
    and those of one class all get the first of its values.

    Args:
        reading: A data set; nothing changes where labels are plain label maps.
        choice: The classes of a model, if one is to be used, and what the task selects.

    Returns:
        The reading with `class_values`, and with `label_values` in each case that needs them.
    """
    choice = choice or Choice()
    names_of = {case.case_id: label_names(case) for case in reading.cases}
    names = sorted({name for found in names_of.values() for name in found})
    if not names:
        return reading
    table = dict(choice.known_values or reading.class_values or {})
    new = [name for name in names if name not in table]
    if choice.drops_others:
        table |= dict.fromkeys(new, (0,))
    else:
        taken = {v for values in table.values() for v in values} | {*reading.ignore_values, 0}
        free = (value for value in range(1, len(new) + len(taken) + 1) if value not in taken)
        table |= {name: (value,) for name, value in zip(new, free, strict=False)}
    painted = table if choice.selected is None else _selected(table, choice.selected)
    cases = tuple(
        replace(case, label_values=painted) if names_of[case.case_id] else case
        for case in reading.cases
    )
    doubts = _missing(reading, names_of, painted)
    if reading.class_values is None and choice.known_values is None:
        doubts += _unnamed(reading, names_of)
    unknown = f"; structures that the model does not know: {some_of(new, 5)}"
    return replace(
        reading,
        cases=cases,
        class_values=table,
        problems=(*reading.problems, *doubts),
        reason=reading.reason + (unknown if new and choice.known_values is not None else ""),
    )


def label_names(case: CaseFiles) -> tuple[str, ...]:
    """Names of the structures a case's label declares; empty for a plain or a damaged file."""
    if case.masks:
        return tuple(mask_name(file, case.case_id) for file in case.masks)
    if case.label is None or case.label.is_dir():
        return ()
    if case.label.name.lower().endswith((".nrrd", ".nhdr")):
        return _nrrd_names(case.label)
    return _dicom_names(case.label) if is_dicom_file(case.label) else ()


def _selected(
    table: Mapping[str, tuple[int, ...]], groups: Sequence[tuple[int | str, ...]]
) -> dict[str, tuple[int, ...]]:
    """Values that labels are read with: 0 for what no class is made of."""
    painted: dict[str, tuple[int, ...]] = dict.fromkeys(table, (0,))
    for parts in groups:
        values = [
            value
            for part in parts
            for value in (table.get(part, ()) if isinstance(part, str) else (part,))
        ]
        of_class = (name for name, own in table.items() if own[0] in values)
        painted |= dict.fromkeys(of_class, tuple(values[:1]))
    return painted


def _missing(
    reading: Reading,
    names_of: Mapping[str, tuple[str, ...]],
    painted: Mapping[str, tuple[int, ...]],
) -> list[Problem]:
    """Classes that some labels do not name: not drawn there, or not there?"""
    named = [case for case in reading.cases if names_of[case.case_id]]
    values_of = {c.case_id: {painted[name][0] for name in names_of[c.case_id]} for c in named}
    counts = Counter(value for values in values_of.values() for value in values)
    # Names with one value are one class to the task: any of them will do.
    names: dict[int, list[str]] = defaultdict(list)
    for name, values in sorted(painted.items()):
        names[values[0]].append(name)
    missing = {
        " or ".join(group): len(named) - counts[value] for value, group in names.items() if value
    }
    listed = some_of([f"{group} in {n} cases" for group, n in missing.items() if n], 5)
    if not any(missing.values()):
        return []
    return [
        Problem(
            check_id="F01",
            file=relative_name(next(c.label for c in named if c.label), reading.root),
            message=f"structures that some labels do not hold, of {len(named)}: {listed}; there "
            "they count as background",
            fix="give one structure one name in all labels; set task.unannotated.absent for "
            "classes that nobody drew there",
            severity="warning",
        )
    ]


def _unnamed(reading: Reading, names_of: Mapping[str, tuple[str, ...]]) -> list[Problem]:
    """Plain label maps among labels with names: their values may mean something else."""
    plain = [case for case in reading.cases if case.label and not names_of[case.case_id]]
    if not plain or plain[0].label is None:
        return []
    return [
        Problem(
            check_id="E12",
            file=relative_name(plain[0].label, reading.root),
            message=f"{len(plain)} labels do not name their structures, the others do: their "
            "values need not mean the same",
            fix="add a dataset.json with the values of all classes, or use one kind of labels",
            severity="warning",
        )
    ]


def _nrrd_names(file: Path) -> tuple[str, ...]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_HEADER_BYTES)
            if not any(end in raw for end in (b"\n\n", b"\n\r\n")):
                raw += stream.read(_MAX_HEADER_BYTES)
        header = parse_nrrd_header(raw, file)
        return tuple(segment.name for segment in nrrd_segments(header, file))
    except (OSError, FileFormatError):  # reading the case reports it
        return ()


def _dicom_names(file: Path) -> tuple[str, ...]:
    # Imported here: needs the optional extra `dicom`.
    from pipeline.io.dicom.find import segment_names

    try:
        return segment_names(file)
    except FileFormatError:  # reading the case reports it
        return ()
