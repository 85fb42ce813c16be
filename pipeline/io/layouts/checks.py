"""What every layout's cases must hold: files inside the folder, names that are names, no twins."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError
from pipeline.io.layouts.tree import leads_out
from pipeline.io.pairing import CaseFiles, folded, relative_name

# A case id becomes part of file names; with suffixes these may have 255 bytes.
_CASE_ID = re.compile(r"(?!\.)[^/\\\0\n\r]{1,150}")


def checked_cases(
    cases: Sequence[CaseFiles], root: Path, *, allow_links: bool
) -> tuple[tuple[CaseFiles, ...], tuple[Problem, ...]]:
    """Leave out cases that cannot be worked on safely.

    Args:
        cases: Cases of any layout.
        root: Dataset folder.
        allow_links: Whether files may be reached through links that lead out of the folder.

    Returns:
        The other cases, sorted by id, and a problem for each that is left out.

    Raises:
        DataError: If two cases have the same id, an id cannot be the name of a file, or no case is
            inside the folder.
    """
    _check_ids(cases, root)
    inside, problems = list(cases), []
    if not allow_links:
        real_root = Path(os.path.realpath(root))
        known: dict[Path, bool] = {}
        found = {case.case_id: _outside(case, real_root, known) for case in cases}
        outside = {case_id: file for case_id, file in found.items() if file is not None}
        inside = [case for case in cases if case.case_id not in outside]
        problems = [_link(case_id, file, root) for case_id, file in outside.items()]
        if cases and not inside:
            raise DataError(problems[0].message, where=str(root), fix=problems[0].fix)
    twins = _twins(inside)
    problems += [_twin(case, twins[case.case_id], root) for case in inside if case.case_id in twins]
    kept = sorted((c for c in inside if c.case_id not in twins), key=lambda case: case.case_id)
    return tuple(kept), tuple(problems)


def _check_ids(cases: Sequence[CaseFiles], root: Path) -> None:
    for case in cases:
        if not _CASE_ID.fullmatch(case.case_id):
            raise DataError(
                f"a case cannot be called {case.case_id[:80]!r}: files are named after it",
                where=str(root),
                fix="use names without slashes, not starting with a dot, of up to 150 letters",
            )
    doubled = [name for name, n in Counter(case.case_id for case in cases).items() if n > 1]
    if doubled:
        raise DataError(
            f"two cases are called '{doubled[0]}'", where=str(root), fix="rename one of them"
        )


def _outside(case: CaseFiles, real_root: Path, known: dict[Path, bool]) -> Path | None:
    files = (*case.images, *case.label_files)
    return next((file for file in files if leads_out(file, real_root, known)), None)


def _twins(cases: Sequence[CaseFiles]) -> dict[str, list[str]]:
    """Cases whose ids differ in upper and lower case alone, each with all of its kind."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[folded(case.case_id)].append(case.case_id)
    return {name: sorted(group) for group in groups.values() if len(group) > 1 for name in group}


def _link(case_id: str, file: Path, root: Path) -> Problem:
    name = relative_name(file, root)
    return Problem(
        check_id="F01",
        file=name,
        message=f"{name} of case {case_id} leads out of the dataset folder",
        fix="copy the file into the folder, or set ingest.allow_links: true",
    )


def _twin(case: CaseFiles, twins: Sequence[str], root: Path) -> Problem:
    return Problem(
        check_id="F01",
        file=relative_name(case.images[0], root),
        message=f"case ids differ in upper and lower case or the form of accents only: "
        f"{', '.join(twins)}; on many disks "
        "they would be one file",
        fix="rename all but one of them, or take them out",
    )
