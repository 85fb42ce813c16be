"""Seeded cross-validation folds that keep a patient's cases together."""

import csv
import re
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import KFold

from pipeline.artifacts import Fold, Splits
from pipeline.audit.config import AuditConfig, GroupConfig
from pipeline.core.errors import ConfigError, DataError


def make_splits(case_ids: Sequence[str], groups: Mapping[str, str], config: AuditConfig) -> Splits:
    """Divide the cases into folds; each case validates exactly once.

    Without groups these are the folds of nnU-Net (shuffled KFold over sorted ids), so that numbers
    per fold compare with published ones. With groups, whole groups go to folds: largest first, each
    to the fold with the fewest cases so far, in seeded order among equals.

    Args:
        case_ids: Usable cases, in any order.
        groups: Case id to patient; cases that are not in it stand alone. Empty for no groups.
        config: Number of folds and seed.

    Returns:
        As many folds as configured, or fewer if there are fewer cases or groups than that.

    Raises:
        DataError: If there are fewer than two cases, or than two groups.
    """
    ids = sorted(set(case_ids))
    members = _members(ids, groups)
    n_folds = min(config.n_folds, len(members))
    if n_folds < 2:
        what = f"{len(ids)} usable case{'s' if len(ids) != 1 else ''}"
        what += " of one patient" if len(ids) > 1 else ""
        raise DataError(
            f"{what} cannot be divided into training and validation",
            where="audit",
            fix="add cases, or train on all of them with --fold all",
        )
    if len(members) == len(ids):
        method, validation = "KFold over sorted case ids", _kfold(ids, n_folds, config.fold_seed)
    else:
        method = "grouped folds, largest group first"
        validation = _grouped_folds(members, n_folds, config.fold_seed)
    folds = tuple(
        Fold(train=tuple(i for i in ids if i not in held_out), validation=tuple(sorted(held_out)))
        for held_out in validation
    )
    known = {i: groups[i] for i in ids if i in groups}
    return Splits(method=method, seed=config.fold_seed, folds=folds, groups=known)


def _members(ids: Sequence[str], groups: Mapping[str, str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for case_id in ids:
        # The prefix keeps a lone case apart from a group that happens to have the same name.
        group = f"group {groups[case_id]}" if case_id in groups else f"case {case_id}"
        members.setdefault(group, []).append(case_id)
    return members


def _kfold(ids: Sequence[str], n_folds: int, seed: int) -> list[set[str]]:
    folds = KFold(n_splits=n_folds, shuffle=True, random_state=seed)
    return [{ids[n] for n in places} for _, places in folds.split(np.arange(len(ids)))]


def _grouped_folds(members: Mapping[str, Sequence[str]], n_folds: int, seed: int) -> list[set[str]]:
    names = sorted(members)
    order = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda name: -len(members[name]))  # stable: equals stay in seeded order
    folds: list[set[str]] = [set() for _ in range(n_folds)]
    for name in order:
        min(folds, key=len).update(members[name])
    return folds


def find_groups(case_ids: Sequence[str], config: GroupConfig) -> dict[str, str]:
    """Tell the patient of each case from its id or from a file.

    Args:
        case_ids: All cases.
        config: Pattern or CSV file; both empty means no groups.

    Returns:
        Case id to patient; cases the pattern or file does not cover are left out.

    Raises:
        ConfigError: If the pattern is no regular expression with one group, or the file cannot be
            read or lacks its columns.
    """
    if config.file is not None:
        return _groups_of_file(config)
    if config.pattern is None:
        return {}
    try:
        pattern = re.compile(config.pattern)
    except re.error as error:
        raise _pattern_error(config.pattern, str(error)) from None
    if pattern.groups != 1:
        raise _pattern_error(config.pattern, f"it has {pattern.groups} capture groups, not one")
    found = {case_id: pattern.search(case_id) for case_id in case_ids}
    return {i: str(match.group(1)) for i, match in found.items() if match and match.group(1)}


def _groups_of_file(config: GroupConfig) -> dict[str, str]:
    fix = "write a CSV file with a header line 'case_id,group'"
    try:
        with open(config.file or "", newline="", encoding="utf-8-sig") as stream:  # noqa: PTH123  # csv
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"the group file cannot be read: {error}", where="audit.groups.file", fix=fix
        ) from None
    if not rows or not {"case_id", "group"} <= set(rows[0]):
        raise ConfigError(
            "the group file has no columns case_id and group", where=str(config.file), fix=fix
        )
    return {row["case_id"].strip(): row["group"].strip() for row in rows if row["group"]}


def _pattern_error(pattern: str, why: str) -> ConfigError:
    return ConfigError(
        f"cannot use the group pattern '{pattern}': {why}",
        where="audit.groups.pattern",
        fix="write a regular expression with one capture group, such as '^(patient[0-9]+)_'",
    )
