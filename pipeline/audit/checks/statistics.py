"""Family S, numbers: is a class large enough, inside the image, and as bright as elsewhere?"""

import numpy as np

from pipeline.artifacts import Finding
from pipeline.audit.checks.habits import (
    MAX_SINGLE,
    Seen,
    classes_seen,
    grouped,
    middle_of,
    outlier_z,
    values_of,
    voxel_evidence,
)
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView
from pipeline.core.geometry import Spacing

# Shares this close are equal; keeps cohorts without any air from making an outlier of a voxel.
_SHARE_FLOOR = 0.01


def check_imbalance(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S02: background voxels per voxel of a class, pooled over the cases that annotate it."""
    findings = []
    for position, name in enumerate(dataset.manifest.task.class_names):
        rows = [row for row in dataset.rows if row.n_voxels and name not in row.unannotated]
        n_background = sum(row.n_voxels - sum(row.n_class_voxels) for row in rows)
        n_class = sum(row.n_class_voxels[position] for row in rows)
        if not n_class or n_background / n_class <= config.imbalance_warning:
            continue
        ratio = n_background / n_class
        is_strong = ratio > config.imbalance_strong
        findings.append(
            Finding(
                check_id="S02",
                severity="warning",
                class_name=name,
                value=ratio,
                threshold=config.imbalance_strong if is_strong else config.imbalance_warning,
                message=f"class '{name}' is {'extremely ' if is_strong else ''}rare: "
                f"{ratio:,.0f} background voxels for each of its own",
                fix="keep foreground oversampling on and use Dice with cross-entropy or focal "
                "loss; plain cross-entropy would learn to ignore it",
            )
        )
    return findings


def check_small_classes(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S01: so few voxels at the spacing of the dataset that a class cannot be learned."""
    findings: list[Finding] = []
    classes = list(classes_seen(dataset))
    target_mm = _target_spacing([one for _, seen in classes for one in seen])
    for name, seen in classes:
        if len(seen) > 1 and all(one.measures.n_voxels == 1 for one in seen):
            findings.append(_single_voxels(name, seen))
            continue
        limits = config.anatomy
        small = [
            one
            for one in sorted(seen, key=lambda one: one.volume_mm3)
            if _target_voxels(one, target_mm) < limits.min_target_voxels
            or _target_extent(one, target_mm) < limits.min_target_extent
        ]
        found = [_small(name, one, target_mm, config) for one in small]
        findings += grouped(name, found, len(seen))
    return findings


def _target_spacing(seen: list[Seen]) -> Spacing:
    """Median spacing, which planning takes unless told otherwise."""
    spacings = {one.case_id: one.spacing_mm for one in seen}
    i, j, k = np.median(list(spacings.values()), axis=0) if spacings else (1.0, 1.0, 1.0)
    return float(i), float(j), float(k)


def _target_voxels(one: Seen, target_mm: Spacing) -> float:
    return one.volume_mm3 / float(np.prod(target_mm))


def _target_extent(one: Seen, target_mm: Spacing) -> float:
    extent = np.array(one.measures.stop) - np.array(one.measures.start)
    # Headers round their spacing: three voxels may come out as 2.99.
    return round(float((extent * one.spacing_mm / target_mm).min()), 1)


def _single_voxels(name: str, seen: list[Seen]) -> Finding:
    return Finding(
        check_id="S01",
        severity="error",
        case_id=seen[0].case_id,
        class_name=name,
        value=1,
        threshold=2,
        message=f"class '{name}' is a single voxel in all {len(seen)} cases that show it",
        fix="draw the structure, or take the class out; a network learns nothing from one voxel",
        evidence=voxel_evidence(seen[0].measures.start),
    )


def _small(name: str, one: Seen, target_mm: Spacing, config: AuditConfig) -> Finding:
    n_voxels = _target_voxels(one, target_mm)
    extent = _target_extent(one, target_mm)
    listed = " x ".join(f"{mm:.3g}" for mm in target_mm)
    return Finding(
        check_id="S01",
        severity="warning",
        case_id=one.case_id,
        class_name=name,
        value=round(n_voxels, 1),
        threshold=config.anatomy.min_target_voxels,
        message=f"class '{name}' has {n_voxels:.0f} voxels at the median spacing "
        f"({listed} mm) and is {extent:.1f} voxels thin; a patch may not resolve it",
        fix="look whether this is a slip of the brush and erase it if so; if such small "
        "structures are real, train with a finer target spacing",
        evidence=voxel_evidence(middle_of(one.measures)) | {"extent_voxels": extent},
    )


def check_cut_off(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S07: structures that the edge of the volume cuts off.

    One line per class, and one for all of them where a scan of a part of the body cuts many.
    """
    limit = config.anatomy.max_edge_share
    by_class: list[tuple[str, list[Finding]]] = []
    for name, seen in classes_seen(dataset):
        cut = [one for one in seen if one.measures.edge_share > limit]
        cut.sort(key=lambda one: -one.measures.edge_share)
        if cut:
            found = [_cut_off(name, one, limit) for one in cut]
            by_class.append((name, grouped(name, found, len(seen))))
    findings = [finding for _, found in by_class for finding in found]
    if len(by_class) <= MAX_SINGLE:
        return findings
    worst = max(findings, key=lambda f: float(f.value or 0))
    names = ", ".join(name for name, _ in by_class[:MAX_SINGLE])
    message = (
        f"the edge of the volume cuts {len(by_class)} classes ({names} and others); "
        f"most of all in {worst.case_id}: {worst.message}"
    )
    evidence = worst.evidence | {"n_classes": len(by_class)}
    return [worst.model_copy(update={"message": message, "evidence": evidence})]


def _cut_off(name: str, one: Seen, threshold: float) -> Finding:
    share = one.measures.edge_share
    return Finding(
        check_id="S07",
        severity="info",
        case_id=one.case_id,
        class_name=name,
        value=share,
        threshold=threshold,
        message=f"{share:.0%} of the surface of '{name}' lies on the edge of the volume; the "
        "structure goes on outside",
        fix="nothing if scans are cropped on purpose; volumes and surface distances of this "
        "class then describe only the visible part",
        evidence=voxel_evidence(middle_of(one.measures)),
    )


def check_air(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S08: a class lies on air in one case and not in the others.

    Lung, colon and trachea hold air by nature: only the comparison with the other cases counts.
    """
    limits = config.anatomy
    findings = []
    for name, every in classes_seen(dataset):
        seen = [one for one in every if one.measures.quantiles]
        shares = values_of(seen, lambda one: one.measures.air_share)
        if len(seen) < limits.min_cohort:
            continue
        usual = float(np.median(shares))
        for one, z in zip(seen, outlier_z(shares, _SHARE_FLOOR), strict=True):
            share = one.measures.air_share
            if z <= limits.max_outlier_z or share <= limits.max_air_share:
                continue
            findings.append(
                Finding(
                    check_id="S08",
                    severity="warning",
                    case_id=one.case_id,
                    class_name=name,
                    value=share,
                    threshold=limits.max_air_share,
                    message=f"{share:.0%} of '{name}' lies on air or outside the body, "
                    f"in the median case {usual:.1%}",
                    fix="look whether the label is shifted, mirrored or of another image; "
                    "redraw it if the contour only spills over",
                    evidence=voxel_evidence(one.measures.air_voxel) | {"robust_z": float(z)},
                )
            )
    return findings


DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_small_classes, check_cut_off, check_air)
