"""Checks on the grid itself and on where the label lies in the image (G06, G09, G10, G12-G14)."""

import numpy as np

from pipeline.artifacts import CaseRecord, FileFacts, Finding
from pipeline.audit.checks.placement import check_placement
from pipeline.audit.checks.types import CaseCheck, DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, DatasetView
from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Affine,
    Geometry,
    check_affine,
    corner_displacement_voxels,
    oblique_degrees,
    spacing_of,
)

# Obliquely acquired cases beyond this share of a dataset are a protocol, not a mistake.
_MAX_ODD_FRACTION = 0.1


def check_right_angles(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G06: the voxel axes are not at right angles; ITK refuses such a file."""
    limits = config.grids
    skews = [(axis_skew(at), facts) for facts, at in _placed_files(view)]
    skewed = [(skew, facts) for skew, facts in skews if skew > limits.max_axis_skew]
    if not skewed:
        return []
    skew, facts = max(skewed, key=lambda pair: pair[0])
    shift = repair_shift_voxels(facts)
    is_noise = shift < limits.max_repairable_voxels
    return [
        Finding(
            check_id="G06",
            severity="warning",
            case_id=view.case_id,
            value=skew,
            threshold=limits.max_axis_skew,
            message=f"voxel axes are {np.degrees(np.arcsin(min(skew, 1.0))):.3g} degrees off the "
            "right angle; SimpleITK and ITK refuse such files"
            + ("; the error looks like rounding in the header" if is_noise else ""),
            fix=f"write the nearest affine with right angles; no voxel moves more than {shift:.2g} "
            "voxels"
            if is_noise
            else "this may be the real shear of a tilted CT gantry: resample image and label onto "
            f"a grid with right angles; correcting only the header would move voxels by "
            f"{shift:.2g} voxels",
            evidence={"file": facts.file, "corner_shift_voxels": shift},
        )
    ]


def check_overlap(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G12: label and image boxes hardly overlap in space, where the two grids differ at all.

    A label of a smaller region inside the image is fine, and so is the reverse: the shared box is
    compared with the smaller of the two.
    """
    limits = config.grids
    pair = _pair(view)
    if pair is None:
        return []
    image, label = pair
    if image.shape == label.shape and (
        corner_displacement_voxels(image, label) <= config.max_affine_shift_voxels
    ):
        return []
    share = overlap_fraction(image, label)
    if share >= limits.min_overlap_fraction:
        return []
    is_error = share < limits.min_overlap_error_fraction
    file = view.record.label_file.file if view.record.label_file is not None else ""
    return [
        Finding(
            check_id="G12",
            severity="error" if is_error else "warning",
            case_id=view.case_id,
            value=share,
            threshold=limits.min_overlap_error_fraction
            if is_error
            else limits.min_overlap_fraction,
            message="by their headers, label and image do not overlap in space"
            if share <= 0
            else f"by their headers, label and image share only {share:.1%} of the smaller box",
            fix="check that label and image belong to the same scan; then correct the header that "
            "is wrong, or resample the label onto the image grid",
            evidence={"file": file},
        )
    ]


def check_oblique(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """G09: grids turned against the patient axes; a warning where only few cases are."""
    limits = config.grids
    angles = {c.case_id: oblique_degrees(_image_affine(c)) for c in _placed_cases(dataset)}
    turned = {i: angle for i, angle in angles.items() if angle > limits.max_oblique_degrees}
    if not turned:
        return []
    median = float(np.median(list(angles.values())))
    odd = {i: a for i, a in turned.items() if abs(a - median) > limits.max_oblique_degrees}
    is_odd = len(angles) >= limits.min_cohort_cases and (
        0 < len(odd) <= _MAX_ODD_FRACTION * len(angles)
    )
    found = [_odd_angle(i, a, median, limits.max_oblique_degrees) for i, a in odd.items() if is_odd]
    if is_odd and len(odd) == len(turned):
        return found
    summary = Finding(
        check_id="G09",
        severity="info",
        value=max(turned.values()),
        threshold=limits.max_oblique_degrees,
        message=f"{len(turned)} of {len(angles)} images are turned against the patient axes, by up "
        f"to {max(turned.values()):.0f} degrees",
        fix="nothing if this is the protocol, as in cardiac imaging; Voxline keeps the turned grid",
    )
    return [*found, summary]


def check_anisotropy(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """G10: voxels far longer along one axis."""
    limit = config.grids.max_anisotropy
    spacings = [spacing_of(_image_affine(c)) for c in _placed_cases(dataset)]
    ratios = [max(sizes) / min(sizes) for sizes in spacings]
    thick = [ratio for ratio in ratios if ratio > limit]
    if not thick:
        return []
    return [
        Finding(
            check_id="G10",
            severity="info",
            value=len(thick) / len(ratios),
            threshold=limit,
            message=f"{len(thick)} of {len(ratios)} images have voxels more than {limit:g} times "
            f"longer along one axis (up to {max(thick):.1f} times)",
            fix="nothing to repair; the plan keeps the coarse axis coarse in patch and network",
        )
    ]


def axis_skew(at: Affine) -> float:
    """Largest cosine between two voxel axes: 0 at right angles, 1 if parallel."""
    directions = at[:3, :3] / np.linalg.norm(at[:3, :3], axis=0)
    return float(np.abs(directions.T @ directions - np.eye(3)).max())


def repair_shift_voxels(facts: FileFacts) -> float:
    """How far the grid corners would move if the axes were put at right angles, in voxels.

    The rotation is the polar factor of the axis directions; spacing and grid center are kept.
    """
    i, j, k = facts.shape[:3]
    grid = Geometry((i, j, k), np.array(facts.affine, dtype=np.float64))
    spacing_mm = np.array(grid.spacing_mm)
    left, _, right = np.linalg.svd(grid.affine[:3, :3] / spacing_mm)
    repaired = grid.affine.copy()
    repaired[:3, :3] = (left @ right) * spacing_mm
    middle = (np.array(grid.shape) - 1) / 2
    repaired[:3, 3] += (grid.affine[:3, :3] - repaired[:3, :3]) @ middle
    return corner_displacement_voxels(grid, Geometry(grid.shape, repaired))


def overlap_fraction(one: Geometry, other: Geometry) -> float:
    """Shared part of two grid boxes over the smaller box, from 0 to 1.

    Exact for grids with the same axes; for turned grids the box around the turned one counts.
    """
    return max(_covered_fraction(one, other), _covered_fraction(other, one))


def _covered_fraction(inside: Geometry, around: Geometry) -> float:
    to_around = np.linalg.inv(around.affine) @ inside.affine
    size = np.array(inside.shape)
    corners = np.array(np.meshgrid(*[[-0.5, n - 0.5] for n in size], indexing="ij")).reshape(3, 8)
    placed = to_around[:3, :3] @ corners + to_around[:3, 3:]
    low, high = placed.min(axis=1), placed.max(axis=1)
    shared = np.minimum(high, np.array(around.shape) - 0.5) - np.maximum(low, -0.5)
    return float(np.prod(np.clip(shared, 0, None) / (high - low)))


def _odd_angle(case_id: str, angle: float, median: float, limit: float) -> Finding:
    return Finding(
        check_id="G09",
        severity="warning",
        case_id=case_id,
        value=angle,
        threshold=limit,
        message=f"image is turned by {angle:.0f} degrees against the patient axes, the other cases "
        f"by about {median:.0f}",
        fix="check the direction in the header against the scanner's; waive G09 if it is right",
    )


def _placed_files(view: CaseView) -> list[tuple[FileFacts, Affine]]:
    placed = []
    for _, facts in view.files():
        at = np.array(facts.affine, dtype=np.float64)
        if len(facts.shape) >= 3 and _is_usable(at):
            placed.append((facts, at))
    return placed


def _pair(view: CaseView) -> tuple[Geometry, Geometry] | None:
    """Grids of image and label as stored in the case store, both turned to RAS."""
    grids = []
    for stored in (view.record.image, view.record.label):
        if stored is None:
            return None
        i, j, k = stored.shape[-3:]
        at = np.array(stored.affine, dtype=np.float64)
        if not _is_usable(at):
            return None
        grids.append(Geometry((i, j, k), at))
    return grids[0], grids[1]


def _placed_cases(dataset: DatasetView) -> list[CaseRecord]:
    return [
        c for c in dataset.manifest.cases if c.image is not None and _is_usable(_image_affine(c))
    ]


def _image_affine(record: CaseRecord) -> Affine:
    if record.image is None:
        return np.zeros((4, 4))
    return np.array(record.image.affine, dtype=np.float64)


def _is_usable(at: Affine) -> bool:
    try:
        check_affine(at)
    except GeometryError:
        return False
    return True


CASE_CHECKS: tuple[CaseCheck, ...] = (check_right_angles, check_overlap)
DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_oblique, check_anisotropy, check_placement)
