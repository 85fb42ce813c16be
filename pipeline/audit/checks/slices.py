"""Family S, slice by slice: missing, copied and jagged slices (S11, S12, S14)."""

import numpy as np

from pipeline.artifacts import Finding
from pipeline.audit.checks.habits import (
    Seen,
    classes_seen,
    grouped,
    is_habit,
    middle_of,
    outlier_z,
    values_of,
    voxel_evidence,
)
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.measures import SliceGap
from pipeline.audit.view import DatasetView
from pipeline.core.geometry import Shape3

_AXIS_NAMES = ("right-left", "front-back", "head-foot")
# Fewer slices, or cross-sections of fewer voxels, are equal by chance.
_MIN_SLICES = 6
_MIN_SLICE_VOXELS = 50
# What fills the grid from edge to edge is equal everywhere.
_MAX_EDGE_SHARE = 0.5
# A case repeats slices more than its class does if it is this far above the median.
_REPEAT_EXCESS = 0.2
# On logarithms: two per cent.
_LOG_FLOOR = 0.02


def check_gaps(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S11: slices without a class inside a structure that goes on behind them.

    Where most cases show such gaps, as stacked vertebrae do, they are the nature of the class.
    """
    limits = config.anatomy
    findings: list[Finding] = []
    for name, seen in classes_seen(dataset):
        if is_habit(seen, lambda one: bool(_short_gaps(one, config)), limits.min_habit):
            continue
        findings += [
            _missing_slices(name, one, gaps, limits.max_gap_slices)
            for one in seen
            if (gaps := _short_gaps(one, config)) and name not in limits.multi
        ]
    return findings


def _short_gaps(one: Seen, config: AuditConfig) -> list[SliceGap]:
    return [gap for gap in one.measures.gaps if gap.n_slices <= config.anatomy.max_gap_slices]


def _missing_slices(name: str, one: Seen, gaps: list[SliceGap], threshold: int) -> Finding:
    first = gaps[0]
    last = first.first + first.n_slices - 1
    place = f"slice {first.first}" if first.n_slices == 1 else f"slices {first.first} to {last}"
    more = f" and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
    middle = list(middle_of(one.measures))
    middle[first.axis] = first.first
    return Finding(
        check_id="S11",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=sum(gap.n_slices for gap in gaps),
        threshold=threshold,
        message=f"'{name}' is missing in {place} along {_AXIS_NAMES[first.axis]}{more}, "
        "with the same structure on both sides",
        fix="draw the missing slices; a network would learn that the structure has gaps",
        evidence=voxel_evidence(_shape3(middle)) | {"slice": first.first, "n_gaps": len(gaps)},
    )


def _shape3(voxel: list[int]) -> Shape3:
    i, j, k = voxel
    return i, j, k


def check_repeats(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S12: neighboring slices with exactly the same contour, as copying leaves them.

    Tiny and cylindrical structures have equal slices by nature: a case is compared with the median
    of its class. Where the whole dataset repeats slices, one line says so.
    """
    limits = config.anatomy
    findings: list[Finding] = []
    for name, every in classes_seen(dataset):
        seen = [one for one in every if _can_tell_copies(one, limits.max_repeat_spacing_mm)]
        usual = float(np.median([one.measures.repeated_share for one in seen])) if seen else 0.0
        found = [one for one in seen if one.measures.repeated_share > limits.max_repeated_share]
        found.sort(key=lambda one: -one.measures.repeated_share)
        if len(seen) >= limits.min_habit and usual > limits.max_repeated_share:
            infos = [_repeats(name, one, config, usual=None) for one in found]
            findings += grouped(
                name, [f.model_copy(update={"severity": "info"}) for f in infos], len(seen)
            )
            continue
        findings += [
            _repeats(name, one, config, usual=usual if len(seen) > 1 else None)
            for one in found
            if one.measures.repeated_share > usual + _REPEAT_EXCESS or len(seen) < limits.min_habit
        ]
    return findings


def _can_tell_copies(one: Seen, max_spacing_mm: float) -> bool:
    n_slices = one.measures.stop[2] - one.measures.start[2]
    if one.measures.edge_share > _MAX_EDGE_SHARE:
        return False
    return (
        one.spacing_mm[2] < max_spacing_mm
        and n_slices >= _MIN_SLICES
        and one.measures.n_voxels >= _MIN_SLICE_VOXELS * n_slices
    )


def _repeats(name: str, one: Seen, config: AuditConfig, *, usual: float | None) -> Finding:
    share = one.measures.repeated_share
    beside = "" if usual is None else f", {usual:.0%} in the median case"
    return Finding(
        check_id="S12",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=share,
        threshold=config.anatomy.max_repeated_share,
        message=f"{share:.0%} of the neighboring head-foot slices of '{name}' are exact copies"
        f"{beside}",
        fix="look whether slices were copied, or drawn on thicker slices and resampled; the true "
        "contour changes from slice to slice",
        evidence=voxel_evidence(middle_of(one.measures)),
    )


def check_jagged(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S14: contours that jump from slice to slice more than those of the other cases.

    Measured as the surface that looks along the slice axis against that along the other two.
    """
    limits = config.anatomy
    findings: list[Finding] = []
    for name, every in classes_seen(dataset):
        seen = [
            one
            for one in every
            if min(one.measures.faces) > 0 and one.measures.edge_share <= limits.max_edge_share
        ]
        if len(seen) < limits.min_cohort:
            continue
        values = values_of(seen, _jaggedness)
        scores = outlier_z(np.log(values), _LOG_FLOOR)
        found = [
            (float(z), float(value), one)
            for z, value, one in zip(scores, values, seen, strict=True)
            if z > limits.max_outlier_z
        ]
        found.sort(key=lambda item: -item[0])
        infos = [
            _jagged(name, one, z, value / float(np.median(values)), limits.max_outlier_z)
            for z, value, one in found
        ]
        findings += grouped(name, infos, len(seen))
    return findings


def _jaggedness(one: Seen) -> float:
    right, front, head = one.measures.faces
    i, j, k = one.spacing_mm
    return 2 * head * i * j / (right * j * k + front * i * k)


def _jagged(name: str, one: Seen, z: float, factor: float, threshold: float) -> Finding:
    return Finding(
        check_id="S14",
        severity="info",
        case_id=one.case_id,
        class_name=name,
        value=round(z, 2),
        threshold=threshold,
        message=f"the contour of '{name}' jumps between slices: its steps along head-foot are "
        f"{factor:.1f} times those of the median case",
        fix="look at the sagittal and coronal view; smooth the label across slices if it was "
        "drawn slice by slice",
        evidence=voxel_evidence(middle_of(one.measures)),
    )


DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_gaps, check_repeats, check_jagged)
