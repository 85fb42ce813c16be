"""Checks over all cases: leakage, drift, confounding, units, outlying grids (D03-D09, F12, G11)."""

from collections import Counter

import numpy as np
from jaxtyping import Bool, Float

from pipeline.artifacts import CaseFingerprint, Finding
from pipeline.audit.checks.channels import check_channel_order
from pipeline.audit.checks.dataset import check_fold_classes
from pipeline.audit.checks.drift import check_drift, check_sites
from pipeline.audit.checks.hounsfield import check_ct_units
from pipeline.audit.checks.leakage import check_label_is_image, check_patients
from pipeline.audit.checks.robust import gap_clusters, robust_z
from pipeline.audit.checks.twins import check_near_duplicates
from pipeline.audit.checks.types import CaseCheck, DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.cohort import CohortLimits
from pipeline.audit.view import DatasetView

_AXES = "RAS"
# On a logarithmic scale: 2 %, so that rounded spacings do not become outliers.
_MIN_LOG_MAD = 0.02


def check_grid_outliers(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """G11: cases with an unusual voxel size or field of view, and groups of voxel sizes.

    A grid that many cases share belongs to a second scanner and is no outlier; it is told once.
    """
    cases = [row.fingerprint for row in dataset.rows if row.fingerprint is not None]
    if len(cases) < config.cohort.min_outlier_cases:
        return []
    spacing_mm = np.array([case.spacing_mm for case in cases], dtype=np.float64)
    view_mm = spacing_mm * np.array([case.shape for case in cases], dtype=np.float64)
    limits = config.cohort
    return [
        *_outliers(cases, spacing_mm, "voxel size", limits.min_spacing_gap_fraction, limits),
        *_outliers(cases, view_mm, "field of view", limits.min_view_gap_fraction, limits),
        *_spacing_groups(spacing_mm, limits),
    ]


def _outliers(
    cases: list[CaseFingerprint],
    sizes_mm: Float[np.ndarray, "case 3"],
    what: str,
    min_gap: float,
    limits: CohortLimits,
) -> list[Finding]:
    logs = np.log(sizes_mm)
    z = np.stack([robust_z(column, _MIN_LOG_MAD) for column in logs.T], axis=1)
    is_rare = np.stack([_is_rare(column, min_gap, limits) for column in logs.T], axis=1)
    is_outlier = is_rare & (np.abs(z) > limits.max_grid_robust_z)
    findings = []
    for n in np.flatnonzero(is_outlier.any(axis=1)):
        axis = int(np.argmax(np.where(is_outlier[n], np.abs(z[n]), 0.0)))
        usual_mm = float(np.median(sizes_mm[:, axis]))
        size_mm = float(sizes_mm[n, axis])
        findings.append(_outlier(cases[n], what, axis, (size_mm, usual_mm), float(z[n, axis])))
    return findings


def _is_rare(
    logs: Float[np.ndarray, " case"], min_gap: float, limits: CohortLimits
) -> Bool[np.ndarray, " case"]:
    """Whether a gap separates a case, with few others at most, from the rest."""
    clusters = gap_clusters(logs, float(np.log1p(min_gap)))
    sizes = np.bincount(clusters)[clusters]
    return sizes <= max(1.0, limits.min_cluster_fraction * logs.size)


def _outlier(
    case: CaseFingerprint, what: str, axis: int, sizes_mm: tuple[float, float], z: float
) -> Finding:
    size_mm, usual_mm = sizes_mm
    return Finding(
        check_id="G11",
        severity="warning",
        case_id=case.case_id,
        value=round(size_mm, 4),
        threshold=round(usual_mm, 4),
        message=f"{what} along {_AXES[axis]} is {size_mm:.4g} mm; the median of the dataset is "
        f"{usual_mm:.4g} mm (robust z {z:+.1f})",
        fix="compare with the scan protocol: a wrong header resamples the case to a wrong size; "
        "a true one is only unusual",
        evidence={"axis": axis, "robust_z": z},
    )


def _spacing_groups(spacing_mm: Float[np.ndarray, "case 3"], limits: CohortLimits) -> list[Finding]:
    min_gap = float(np.log1p(limits.min_spacing_gap_fraction))
    findings = []
    for axis, name in enumerate(_AXES):
        clusters = gap_clusters(np.log(spacing_mm[:, axis]), min_gap)
        counts = Counter(int(c) for c in clusters)
        large = [
            c for c, n in sorted(counts.items()) if n > limits.min_cluster_fraction * len(clusters)
        ]
        if len(large) < 2:
            continue
        middles = [float(np.median(spacing_mm[clusters == c, axis])) for c in large]
        listed = ", ".join(
            f"{middle:.3g} mm ({counts[c]} cases)" for c, middle in zip(large, middles, strict=True)
        )
        findings.append(
            Finding(
                check_id="G11",
                severity="info",
                value=len(large),
                threshold=1,
                message=f"voxel sizes along {name} fall into {len(large)} groups: {listed}",
                fix="nothing; training resamples all to one. Scores by group show if one is worse",
                evidence={"axis": axis},
            )
        )
    return findings


CASE_CHECKS: tuple[CaseCheck, ...] = (check_label_is_image,)
DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    check_ct_units,
    check_grid_outliers,
    check_near_duplicates,
    check_patients,
    check_fold_classes,
    check_drift,
    check_channel_order,
    check_sites,
)
