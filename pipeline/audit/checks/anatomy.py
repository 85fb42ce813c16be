"""Family S, shapes: volume, pieces, islands and holes; and the list of all checks of the family."""

import numpy as np

from pipeline.artifacts import Finding
from pipeline.audit.checks import brightness, containment, sides, slices, statistics
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
from pipeline.audit.checks.types import CaseCheck, DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView

# On logarithms: two per cent.
_LOG_FLOOR = 0.02


def check_volume(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S03: a volume that is an outlier of the cohort, on a logarithmic scale.

    A small volume at the edge of the image is explained by the crop and left to S07.
    """
    limits = config.anatomy
    findings = []
    for name, seen in classes_seen(dataset):
        if len(seen) < limits.min_cohort:
            continue
        volumes_ml = values_of(seen, lambda one: one.volume_mm3 / 1000)
        median_ml = float(np.median(volumes_ml))
        for one, z in zip(seen, outlier_z(np.log(volumes_ml), _LOG_FLOOR), strict=True):
            factor = one.volume_mm3 / 1000 / median_ml
            is_far = max(factor, 1 / factor) >= limits.min_volume_factor
            is_cropped = factor < 1 and one.measures.edge_share > limits.max_edge_share
            if abs(z) > limits.max_outlier_z and is_far and not is_cropped:
                findings.append(_unusual_volume(name, one, float(z), median_ml, config))
    return findings


def _unusual_volume(
    name: str, one: Seen, z: float, median_ml: float, config: AuditConfig
) -> Finding:
    volume_ml = one.volume_mm3 / 1000
    is_extreme = abs(z) > config.anatomy.extreme_z
    return Finding(
        check_id="S03",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=round(abs(z), 2),
        threshold=config.anatomy.extreme_z if is_extreme else config.anatomy.max_outlier_z,
        message=f"'{name}' is {'far ' if is_extreme else ''}{'larger' if z > 0 else 'smaller'} "
        f"than in the other cases: {volume_ml:.3g} mL, median {median_ml:.3g} mL",
        fix="look whether the structure is drawn completely and the voxel size is right; "
        "waive this if the patient is just unusual",
        evidence=voxel_evidence(middle_of(one.measures))
        | {"volume_ml": volume_ml, "median_ml": median_ml},
    )


def check_pieces(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S04: a class that is one piece elsewhere lies in pieces.

    Vessels, lesions and other classes that come in pieces in most cases are left alone, and so are
    structures that the edge of the image may have cut.
    """
    limits = config.anatomy
    findings = []
    for name, seen in classes_seen(dataset):
        if name in limits.multi or len(seen) < limits.min_habit:
            continue
        shares = values_of(seen, lambda one: one.measures.largest_share)
        # The usual case has to be clearly in one piece, else the class comes in pieces.
        if float(np.median(shares)) < (1 + limits.min_largest_share) / 2:
            continue
        pieces = [
            one
            for one in seen
            if one.measures.largest_share < limits.min_largest_share
            and one.measures.edge_share <= limits.max_edge_share
        ]
        # Tumors and cysts are single in most patients and several in many.
        is_nature = len(pieces) >= 3 and len(pieces) > limits.max_pieces_share * len(seen)
        if not is_nature:
            findings += [_in_pieces(name, one, limits.min_largest_share) for one in pieces]
    return findings


def _in_pieces(name: str, one: Seen, threshold: float) -> Finding:
    measures = one.measures
    return Finding(
        check_id="S04",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=measures.largest_share,
        threshold=threshold,
        message=f"'{name}' is one piece in most cases and {measures.n_components} here; "
        f"the largest holds {measures.largest_share:.0%} of it",
        fix="join the pieces or erase what does not belong; if this class comes in pieces by "
        f"nature, set audit.anatomy.multi: [{name}]",
        evidence=voxel_evidence(measures.second_voxel) | {"n_pieces": measures.n_components},
    )


def check_islands(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S05: many tiny pieces beside the structure, such as slips of the brush leave.

    Only told of, not warned about, where most cases have islands, and where the structure itself
    lies in pieces: lesions and vessels do.
    """
    limits = config.anatomy
    findings: list[Finding] = []
    for name, seen in classes_seen(dataset):
        if name in limits.multi:
            continue
        found = [one for one in seen if one.measures.n_islands > limits.max_islands]
        found.sort(key=lambda one: -one.measures.n_islands)
        warnings = [_islands(name, one, limits.max_islands) for one in found]
        is_usual = len(seen) >= limits.min_habit and 2 * len(found) > len(seen)
        shares = values_of(seen, lambda one: one.measures.largest_share)
        if is_usual or float(np.median(shares)) < limits.min_largest_share:
            warnings = [w.model_copy(update={"severity": "info"}) for w in warnings]
        findings += grouped(name, warnings, len(seen))
    return findings


def _islands(name: str, one: Seen, threshold: int) -> Finding:
    return Finding(
        check_id="S05",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=one.measures.n_islands,
        threshold=threshold,
        message=f"'{name}' has {one.measures.n_islands} islands of a few voxels beside its "
        "large pieces",
        fix="erase them if the brush slipped; they count as missed lesions and spoil surface "
        "distances. Ignore them where scattered voxels are real",
        evidence=voxel_evidence(one.measures.island_voxel),
    )


def check_holes(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S06: background enclosed by a class that is solid elsewhere."""
    limit = config.anatomy.max_hole_share
    findings: list[Finding] = []
    for name, seen in classes_seen(dataset):
        if is_habit(seen, lambda one: one.measures.hole_share > limit, config.anatomy.min_habit):
            continue
        found = [one for one in seen if one.measures.hole_share > limit]
        found.sort(key=lambda one: -one.measures.hole_share)
        findings += grouped(name, [_holes(name, one, limit) for one in found], len(seen))
    return findings


def _holes(name: str, one: Seen, threshold: float) -> Finding:
    return Finding(
        check_id="S06",
        severity="info",
        case_id=one.case_id,
        class_name=name,
        value=one.measures.hole_share,
        threshold=threshold,
        message=f"'{name}' encloses background: holes of {one.measures.hole_share:.1%} of its "
        "volume",
        fix="fill them if the structure is solid; leave them if it is hollow",
        evidence=voxel_evidence(one.measures.hole_voxel),
    )


CASE_CHECKS: tuple[CaseCheck, ...] = containment.CASE_CHECKS
DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    *statistics.DATASET_CHECKS,
    check_volume,
    check_pieces,
    check_islands,
    check_holes,
    *brightness.DATASET_CHECKS,
    *sides.DATASET_CHECKS,
    *slices.DATASET_CHECKS,
)
