"""Family G: do image and label lie on the same grid, at a place that can be trusted?"""

from itertools import permutations

import numpy as np

from pipeline.artifacts import FileFacts, Finding, Matrix4
from pipeline.audit.alignment import fits_as_header_says
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, spatial_shape
from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Affine,
    Geometry,
    Shape3,
    check_affine,
    corner_displacement_voxels,
    reorient_geometry,
    reorientation_to_ras,
    spacing_of,
)


def check_shape(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G01: image and label have different shapes, also after both were turned to RAS."""
    image, label = view.record.image, view.record.label
    if image is None or label is None or spatial_shape(image) == spatial_shape(label):
        return []
    image_shape, label_shape = spatial_shape(image), spatial_shape(label)
    message = f"label is {_text(label_shape)} voxels, image is {_text(image_shape)}"
    fix = (
        "resample the label onto the image grid by its affine with nearest neighbor "
        "(never resize it); if the affines are wrong too, export the pair again"
    )
    if any(tuple(label_shape[a] for a in axes) == image_shape for axes in permutations(range(3))):
        message += "; the same numbers in another order, so the label array looks transposed"
        fix = "transpose the label array back, or give it the affine of its own axis order"
    return [
        Finding(
            check_id="G01",
            severity="error",
            case_id=view.case_id,
            value=_text(label_shape),
            threshold=_text(image_shape),
            message=message,
            fix=fix,
            evidence=_file_evidence(view),
        )
    ]


def check_alignment(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G02: image and label grids lie apart in space, measured at the grid corners."""
    displacement = _pair_displacement_voxels(view)
    if displacement is None or displacement <= config.max_affine_shift_voxels:
        return []
    is_error = displacement > config.max_shift_error_voxels
    fix = (
        "find out which affine is right; resample the label if it was drawn on another grid, or "
        "copy the image affine if only the header was lost"
        if is_error
        else "copy the affine of the image into the label header"
    )
    return [
        Finding(
            check_id="G02",
            severity="error" if is_error else "warning",
            case_id=view.case_id,
            value=displacement,
            threshold=config.max_shift_error_voxels if is_error else config.max_affine_shift_voxels,
            message=f"label grid lies up to {displacement:.3g} voxels away from the image grid",
            fix=fix,
            evidence=_file_evidence(view),
        )
    ]


def check_spacing(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G03: the header gives two different voxel sizes; tools disagree which one counts."""
    findings = []
    for role, facts in view.files():
        if not _is_usable(facts.affine):
            continue
        from_affine = spacing_of(_affine(facts.affine))
        mismatch = max(
            abs(pixdim - spacing) / spacing
            for pixdim, spacing in zip(facts.pixdim_mm, from_affine, strict=True)
        )
        if mismatch > config.max_spacing_mismatch_fraction:
            findings.append(
                Finding(
                    check_id="G03",
                    severity="error",
                    case_id=view.case_id,
                    value=mismatch,
                    threshold=config.max_spacing_mismatch_fraction,
                    message=f"{role} header contradicts itself: pixdim {_mm(facts.pixdim_mm)} mm, "
                    f"affine {_mm(from_affine)} mm",
                    fix="find out the true voxel size from the source and write both alike; "
                    "volumes and distances depend on it",
                    evidence={"file": facts.file},
                )
            )
    return findings


def check_forms(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G04: sform and qform place the same file at different positions."""
    findings = []
    for role, facts in view.files():
        displacement = _form_displacement_voxels(facts)
        if displacement is not None and displacement > config.max_form_shift_voxels:
            findings.append(
                Finding(
                    check_id="G04",
                    severity="warning",
                    case_id=view.case_id,
                    value=displacement,
                    threshold=config.max_form_shift_voxels,
                    message=f"{role} header holds two positions {displacement:.3g} voxels apart "
                    "(sform and qform); Voxline uses the sform, other tools may not",
                    fix="write the right one into both",
                    evidence={"file": facts.file},
                )
            )
    return findings


def check_form_codes(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G05: no position in the header at all; worst if only one of the pair lacks it."""
    lacking = [(role, facts) for role, facts in view.files() if _lacks_position(facts)]
    if not lacking:
        return []
    is_mixed = len(lacking) < sum(1 for _ in view.files())
    roles = " and ".join(sorted({role for role, _ in lacking}))
    message = f"{roles} header gives no position (sform and qform codes are 0)"
    if is_mixed:
        message += " while the other file of the case does"
    return [
        Finding(
            check_id="G05",
            severity="error" if is_mixed else "warning",
            case_id=view.case_id,
            message=message + "; readers guess differently, even mirrored",
            fix="copy the position from the original series, or from the image if the label was "
            "drawn on it",
            evidence={"file": lacking[0][1].file},
        )
    ]


def check_affines(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G07: an affine that is not finite or singular, or a voxel size that is not positive."""
    known = {problem.file for problem in view.record.problems if problem.check_id == "G07"}
    findings = []
    for role, facts in view.files():
        is_positive = all(np.isfinite(size) and size > 0 for size in facts.pixdim_mm)
        if facts.file in known or (_is_usable(facts.affine) and is_positive):
            continue
        what = "affine is singular or not finite" if is_positive else "voxel size is not positive"
        findings.append(
            Finding(
                check_id="G07",
                severity="error",
                case_id=view.case_id,
                value=_mm(facts.pixdim_mm),
                message=f"{role} {what}: where its voxels lie is unknown",
                fix="export the file again from its source",
                evidence={"file": facts.file},
            )
        )
    return findings


def check_pair_orientation(view: CaseView, config: AuditConfig) -> list[Finding]:
    """G08: image and label are stored in different orientations.

    Voxline turns both to RAS, so this is harmless if both headers are right. It is a warning if the
    label fits the image better as its header says, and an error if that cannot be told.
    """
    image, label = view.record.image, view.record.label
    if image is None or label is None or image.source_orientation == label.source_orientation:
        return []
    displacement = _native_displacement_voxels(view)
    if displacement is not None and displacement <= config.max_affine_shift_voxels:
        return []  # an oblique grid on the border between two names: the same grid
    is_plausible = view.is_aligned and fits_as_header_says(view)
    message = (
        f"label is stored as {label.source_orientation}, image as {image.source_orientation}; "
    )
    message += (
        "the label fits the image as its header says"
        if is_plausible
        else "if one header is wrong the label is mirrored"
    )
    return [
        Finding(
            check_id="G08",
            severity="warning" if is_plausible else "error",
            case_id=view.case_id,
            value=label.source_orientation,
            threshold=image.source_orientation,
            message=message,
            fix="look at the overlay: if it fits, nothing is lost here (Voxline turns both to RAS; "
            "waive G08); if it does not, correct the header that lies",
            evidence=_file_evidence(view),
        )
    ]


def _pair_displacement_voxels(view: CaseView) -> float | None:
    """Displacement as stored or, if the axes differ, after both grids were turned to RAS."""
    native = _native_displacement_voxels(view)
    pair = _pair_geometry(view)
    if pair is None:
        return None
    image, label = (reorient_geometry(g, reorientation_to_ras(g.affine)) for g in pair)
    turned = corner_displacement_voxels(image, label) if image.shape == label.shape else None
    found = [value for value in (native, turned) if value is not None]
    return min(found) if found else None


def _native_displacement_voxels(view: CaseView) -> float | None:
    pair = _pair_geometry(view)
    if pair is None or pair[0].shape != pair[1].shape:
        return None
    return corner_displacement_voxels(*pair)


def _pair_geometry(view: CaseView) -> tuple[Geometry, Geometry] | None:
    label = view.record.label_file
    if label is None or not view.record.image_files:
        return None
    image = view.record.image_files[0]
    if not (_is_usable(image.affine) and _is_usable(label.affine)):
        return None
    return (
        Geometry(_shape3(image), _affine(image.affine)),
        Geometry(_shape3(label), _affine(label.affine)),
    )


def _form_displacement_voxels(facts: FileFacts) -> float | None:
    if facts.sform is None or facts.qform is None:
        return None
    if facts.sform_code <= 0 or facts.qform_code <= 0:
        return None
    if not (_is_usable(facts.sform) and _is_usable(facts.qform)):
        return None
    shape = _shape3(facts)
    return corner_displacement_voxels(
        Geometry(shape, _affine(facts.sform)), Geometry(shape, _affine(facts.qform))
    )


def _lacks_position(facts: FileFacts) -> bool:
    # Other formats always store a position.
    return facts.format.startswith("nifti") and facts.sform_code <= 0 and facts.qform_code <= 0


def _is_usable(matrix: Matrix4) -> bool:
    try:
        check_affine(_affine(matrix))
    except GeometryError:
        return False
    return True


def _affine(matrix: Matrix4) -> Affine:
    return np.array(matrix, dtype=np.float64)


def _shape3(facts: FileFacts) -> Shape3:
    i, j, k = facts.shape[:3]
    return i, j, k


def _file_evidence(view: CaseView) -> dict[str, str | int | float | tuple[int, ...]]:
    facts = view.record.label_file
    return {} if facts is None else {"file": facts.file}


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _mm(sizes: tuple[float, float, float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
