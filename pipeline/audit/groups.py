"""Which cases are of one patient, and where they were scanned."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.artifacts import CaseRecord
from pipeline.audit.config import GroupConfig
from pipeline.core.errors import ConfigError

# The subject entity of the Brain Imaging Data Structure, as a file or folder name spells it.
_BIDS_SUBJECT = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)(?=[/_.]|$)")
_FILE_FIX = "write a CSV file with a header line 'case_id,group' (and 'site', if known)"


@dataclass(frozen=True)
class Grouping:
    """What is known about patients and sites.

    Args:
        groups: Case id to patient; cases that are not in it stand alone.
        sites: Case id to site; empty if no file tells.
        source: How the patients are known, in words; empty if they are not.
    """

    groups: dict[str, str] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    source: str = ""


def find_groups(cases: Sequence[CaseRecord], config: GroupConfig) -> Grouping:
    """Tell the patient of each case: from a file, else from a pattern, else from BIDS names.

    Args:
        cases: All cases.
        config: CSV file, pattern, and whether BIDS names count.

    Returns:
        The patients; cases that the file or pattern does not cover are left out.

    Raises:
        ConfigError: If the pattern is no regular expression with one group, or the file cannot be
            read, lacks its columns or contradicts itself.
    """
    if config.file is not None:
        return _groups_of_file(config)
    if config.pattern is not None:
        found = _groups_of_pattern([case.case_id for case in cases], config.pattern)
        return Grouping(groups=found, source=f"the pattern {config.pattern}")
    subjects = _bids_subjects(cases) if config.bids else {}
    return Grouping(groups=subjects, source="BIDS subject names (sub-...)" if subjects else "")


def _groups_of_pattern(case_ids: Sequence[str], text: str) -> dict[str, str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise _pattern_error(text, str(error)) from None
    if pattern.groups != 1:
        raise _pattern_error(text, f"it has {pattern.groups} capture groups, not one")
    found = {case_id: pattern.search(case_id) for case_id in case_ids}
    return {i: str(match.group(1)) for i, match in found.items() if match and match.group(1)}


def _pattern_error(pattern: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use the group pattern '{pattern}': {why}",
        where="audit.groups.pattern",
        fix="write a regular expression with one capture group, such as '^(patient[0-9]+)_'",
    )


def _groups_of_file(config: GroupConfig) -> Grouping:
    rows = _read_rows(config)
    groups: dict[str, str] = {}
    sites: dict[str, str] = {}
    for row in rows:
        case_id = (row["case_id"] or "").strip()
        _remember(groups, case_id, row.get("group"), "group", config)
        _remember(sites, case_id, row.get("site"), "site", config)
    source = f"the column group of {config.file}" if groups else ""
    return Grouping(groups=groups, sites=sites, source=source)


def _read_rows(config: GroupConfig) -> list[dict[str, str | None]]:
    try:
        with open(config.file or "", newline="", encoding="utf-8-sig") as stream:  # noqa: PTH123  # csv
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"the group file cannot be read: {error}", where="audit.groups.file", fix=_FILE_FIX
        ) from None
    columns = set(rows[0]) if rows else set()
    if "case_id" not in columns or not columns & {"group", "site"}:
        raise ConfigError(
            "the group file has no columns case_id and group", where=str(config.file), fix=_FILE_FIX
        )
    return [dict(row) for row in rows]


def _remember(
    known: dict[str, str], case_id: str, value: str | None, column: str, config: GroupConfig
) -> None:
    text = (value or "").strip()
    if not text:
        return
    if known.setdefault(case_id, text) != text:
        raise ConfigError(
            f"case {case_id} has two entries in the column {column}: {known[case_id]} and {text}",
            where=str(config.file),
            fix="keep the line that is right",
        )


def _bids_subjects(cases: Sequence[CaseRecord]) -> dict[str, str]:
    found = {case.case_id: _subject_of(case) for case in cases}
    known = {case_id: subject for case_id, subject in found.items() if subject}
    # One name without, or one subject for everything, and it is no BIDS naming of patients.
    is_bids = len(known) == len(cases) and len(set(known.values())) > 1
    return known if is_bids else {}


def _subject_of(case: CaseRecord) -> str:
    names = (case.case_id, *(facts.file for facts in case.image_files))
    found = (_BIDS_SUBJECT.search(name) for name in names)
    return next((str(match.group(1)) for match in found if match), "")
