"""Seeded cross-validation folds that keep a patient's cases together."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.model_selection import KFold

from pipeline.artifacts import Fingerprint, Fold, Splits, Task
from pipeline.audit.config import AuditConfig
from pipeline.audit.groups import Grouping
from pipeline.audit.stratify import Volumes, stratified_folds
from pipeline.core.errors import DataError

# A class that fewer cases lack is spread well enough by chance.
_MAX_UNIFORM_ABSENCE = 0.05
_MM3_PER_ML = 1000.0


def split_dataset(
    fingerprint: Fingerprint, task: Task, grouping: Grouping, config: AuditConfig
) -> Splits:
    """Divide the usable cases of a dataset into folds.

    Args:
        fingerprint: The usable cases.
        task: Names the classes.
        grouping: Patients and sites of the cases.
        config: Number of folds, seed, and how to split.

    Returns:
        The folds; none if fewer than two cases can be used, or if all are of one patient.
    """
    ids = tuple(case.case_id for case in fingerprint.cases)
    # D05 and D04 report the two cases without folds; the other findings must still be written.
    if len(ids) < 2:
        return Splits(method="too few usable cases", seed=config.fold_seed, folds=())
    known = {i: grouping.groups[i] for i in ids if i in grouping.groups}
    if config.split != "nnunet" and len(_members(ids, known)) < 2:
        method = f"all cases are of one patient; known from {grouping.source}"
        return Splits(method=method, seed=config.fold_seed, folds=(), groups=known)
    volumes_ml = _volumes_ml(fingerprint, task)
    splits = make_splits(ids, grouping.groups, config, volumes_ml=volumes_ml)
    sites = {i: grouping.sites[i] for i in ids if i in grouping.sites}
    source = f"; patients are known from {grouping.source}" if splits.groups else ""
    return splits.model_copy(update={"method": splits.method + source, "sites": sites})


def make_splits(
    case_ids: Sequence[str],
    groups: Mapping[str, str],
    config: AuditConfig,
    *,
    volumes_ml: Volumes | None = None,
) -> Splits:
    """Divide the cases into folds; each case validates exactly once.

    Where no patient has two cases and every class is in nearly every case, these are the folds of
    nnU-Net (shuffled KFold over sorted ids), so that numbers per fold compare with published ones.
    Otherwise whole patients go to folds that are balanced by class presence and volume.
    `config.split` forces one or the other.

    Args:
        case_ids: Usable cases, in any order.
        groups: Case id to patient; cases that are not in it stand alone. Empty for no groups.
        config: Number of folds, seed, and how to split.
        volumes_ml: Case to class name to volume in ml, 0 where the class is absent.

    Returns:
        As many folds as configured, or fewer if there are fewer cases or groups than that.

    Raises:
        DataError: If there are fewer than two cases, or than two groups.
    """
    ids = sorted(set(case_ids))
    known = {i: groups[i] for i in ids if i in groups}
    is_nnunet, why = _choose(ids, known, config, volumes_ml or {})
    members = {i: [i] for i in ids} if is_nnunet else _members(ids, known)
    n_folds = min(config.n_folds, len(members))
    if n_folds < 2:
        raise _too_few(len(ids))
    if is_nnunet:
        method, validation = "KFold over sorted case ids", _kfold(ids, n_folds, config.fold_seed)
    else:
        method = "folds balanced by class presence and volume"
        validation = stratified_folds(members, volumes_ml or {}, n_folds, config.fold_seed)
    folds = tuple(
        Fold(train=tuple(i for i in ids if i not in held_out), validation=tuple(sorted(held_out)))
        for held_out in validation
    )
    method = f"{method}, because {why}"
    return Splits(method=method, seed=config.fold_seed, folds=folds, groups=known)


def _choose(
    ids: Sequence[str], groups: Mapping[str, str], config: AuditConfig, volumes_ml: Volumes
) -> tuple[bool, str]:
    """Whether to use the folds of nnU-Net, and why or why not."""
    if config.split != "auto":
        return config.split == "nnunet", f"audit.split is {config.split}"
    n_shared = len(groups) - len(set(groups.values()))
    if n_shared:
        n_patients = len(_members(ids, groups))
        return False, f"{len(ids)} cases are of {n_patients} patients, who must not cross folds"
    name, n_absent = _patchiest_class(ids, volumes_ml)
    if n_absent > _MAX_UNIFORM_ABSENCE * len(ids):
        is_declared = any(_annotation_of(name) in volumes_ml.get(i, {}) for i in ids)
        how = "absent or not annotated" if is_declared else "absent"
        return False, f"class '{name}' is {how} in {n_absent} of {len(ids)} cases"
    return True, "no two cases share a patient and every class is in nearly every case (as nnU-Net)"


def _patchiest_class(ids: Sequence[str], volumes_ml: Volumes) -> tuple[str, int]:
    """The class that is absent most often without being absent everywhere."""
    worst, most = "", 0
    for name in sorted({name for i in ids for name in volumes_ml.get(i, {})}):
        n_absent = sum(volumes_ml.get(i, {}).get(name, 0.0) <= 0 for i in ids)
        if most < n_absent < len(ids):
            worst, most = name, n_absent
    return worst, most


def _volumes_ml(fingerprint: Fingerprint, task: Task) -> dict[str, dict[str, float]]:
    volumes_ml = {
        case.case_id: {
            name: n_voxels * float(np.prod(case.spacing_mm)) / _MM3_PER_ML
            for name, n_voxels in zip(task.class_names, case.n_class_voxels, strict=True)
        }
        for case in fingerprint.cases
    }
    # Annotation is balanced like a class of its own: a fold must be able to learn and to score.
    for name in sorted({name for case in fingerprint.cases for name in case.unannotated}):
        for case in fingerprint.cases:
            is_annotated = name not in case.unannotated
            volumes_ml[case.case_id][_annotation_of(name)] = float(is_annotated)
    return volumes_ml


def _annotation_of(class_name: str) -> str:
    """Name under which it is balanced whether a class was annotated."""
    return f"annotation of {class_name}"


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


def _too_few(n_cases: int) -> DataError:
    what = f"{n_cases} usable case{'s' if n_cases != 1 else ''}"
    what += " of one patient" if n_cases > 1 else ""
    return DataError(
        f"{what} cannot be divided into training and validation",
        where="audit",
        fix="add cases, or train on all of them with --fold all",
    )
