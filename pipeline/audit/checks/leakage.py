"""Leakage: patients on both sides of a fold, and labels that are the image."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pipeline.artifacts import Finding
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, DatasetView
from pipeline.core.text import some_of

_MAX_NAMED = 5
# Patient, then a visit: up to three digits, a named visit or a date. Offered as a group pattern.
_VISIT = re.compile(
    r"(?i)^(.*?\d.*?)[_-](?:(?:ses|visit|tp|t|v|scan)?-?\d{1,3}|pre|post"
    r"|(?:19|20)\d\d-?[01]\d-?[0-3]\d)$"
)
# Larger families of ids are numbered series, not visits of one patient.
_MAX_VISITS = 20
_MIN_FAMILIES = 2


def check_label_is_image(view: CaseView, config: AuditConfig) -> list[Finding]:
    """D06: the label holds the voxels of the image, value for value."""
    if view.image is None or view.label is None or not view.is_aligned:
        return []
    middle = view.label.shape[2] // 2
    for channel in view.image:
        # One slice tells nearly always; whole volumes are only compared when it agrees.
        if not np.array_equal(channel[:, :, middle], view.label[:, :, middle]):
            continue
        if np.array_equal(channel, view.label) and np.any(channel != channel.flat[0]):
            return [_label_is_image(view)]
    return []


def _label_is_image(view: CaseView) -> Finding:
    return Finding(
        check_id="D06",
        severity="error",
        case_id=view.case_id,
        value="identical",
        message=f"label and image of {view.case_id} are the same volume, voxel for voxel",
        fix="put the segmentation in the place of the label, and the scan in that of the image; "
        "one file was copied over the other",
    )


def check_patients(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D04: a patient in two folds, only one patient, or groups asked for and not found."""
    groups = dataset.splits.groups
    if not groups:
        return _unknown_patients(dataset, config)
    folds_of: dict[str, set[int]] = defaultdict(set)
    for number, fold in enumerate(dataset.splits.folds):
        for case_id in fold.validation:
            if case_id in groups:
                folds_of[groups[case_id]].add(number)
    if not dataset.splits.folds and len(groups) > 1:
        return [_lone_patient(dataset)]
    torn = sorted(group for group, folds in folds_of.items() if len(folds) > 1)
    return [_torn(torn, len(folds_of), dataset)] if torn else []


def _lone_patient(dataset: DatasetView) -> Finding:
    groups = dataset.splits.groups
    patient = next(iter(groups.values()))
    return Finding(
        check_id="D04",
        severity="error",
        value=1,
        threshold=2,
        message=f"all {len(groups)} usable cases are of one patient, '{patient}'; nobody is left "
        "to validate on, so no folds were made",
        fix="correct audit.groups if they are different patients; else add cases of others",
    )


def _torn(torn: Sequence[str], n_groups: int, dataset: DatasetView) -> Finding:
    groups = dataset.splits.groups
    return Finding(
        check_id="D04",
        severity="error",
        case_id=min(i for i, group in groups.items() if group == torn[0]),
        value=len(torn),
        threshold=0,
        message=f"{len(torn)} of {n_groups} patients have cases in more than one fold: "
        f"{some_of(torn, _MAX_NAMED)}; they would be trained on and validate",
        fix="let the audit make the folds (audit.split: auto), which keeps patients together",
    )


def _unknown_patients(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    if config.groups.file is not None or config.groups.pattern is not None:
        return _unmatched(dataset, config)
    families = _id_families([case.case_id for case in dataset.manifest.cases])
    if len(families) < _MIN_FAMILIES:
        return []
    first = families[0]
    return [
        Finding(
            check_id="D04",
            severity="info",
            case_id=first[0],
            value=len(families),
            threshold=_MIN_FAMILIES - 1,
            message=f"{len(families)} sets of case ids look like repeated scans of one patient, "
            f"such as {some_of(first, _MAX_NAMED)}; nothing says so, and the folds treat them as "
            "strangers",
            fix=f"if they are, set audit.groups.pattern: '{_VISIT.pattern}'",
        )
    ]


def _unmatched(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """Groups were asked for; without a match the folds ignore them, which nobody would notice."""
    if config.groups.pattern is None and dataset.splits.sites:
        return []
    where = config.groups.file if config.groups.file is not None else config.groups.pattern
    example = dataset.manifest.cases[0].case_id if dataset.manifest.cases else ""
    return [
        Finding(
            check_id="D04",
            severity="warning",
            value=0,
            threshold=1,
            message=f"audit.groups ({where}) tells the patient of no usable case; "
            "the folds ignore patients",
            fix=f"compare it with the case ids, such as '{example}'",
        )
    ]


def _id_families(case_ids: Sequence[str]) -> list[list[str]]:
    """Case ids that differ only in what looks like a visit; none if they look like a series."""
    families: dict[str, list[str]] = defaultdict(list)
    for case_id in case_ids:
        match = _VISIT.match(case_id)
        if match:
            families[match.group(1)].append(case_id)
    several = [sorted(ids) for ids in families.values() if len(ids) > 1]
    return [] if any(len(ids) > _MAX_VISITS for ids in several) else sorted(several)
