"""Family F: are the files what they promise to be?

F01 to F05 are found while reading; ingest hands them over as problems.
"""

import numpy as np

from pipeline.artifacts import FileFacts, Finding, Problem
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import CaseView, foreground_values, mask_of_values

# A sample this size shows the value that fills 99.9 % of an image for certain.
_N_SAMPLE = 10_001


def finding_of_problem(problem: Problem, case_id: str | None) -> Finding:
    """Turn what ingest could not read into a finding (F01 to F06, G01, G07)."""
    return Finding(
        check_id=problem.check_id,
        severity=problem.severity,
        case_id=case_id,
        message=problem.message,
        fix=problem.fix,
        evidence={"file": problem.file},
    )


def check_problems(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F01-F06: problems that ingest met while reading the files of the case."""
    return [finding_of_problem(problem, view.case_id) for problem in view.record.problems]


def check_trailing_bytes(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F04: bytes after the last voxel; harmless, but the writer is not trustworthy."""
    return [
        Finding(
            check_id="F04",
            severity="warning",
            case_id=view.case_id,
            value=facts.n_trailing_bytes,
            threshold=0,
            message=f"{role} file has {facts.n_trailing_bytes} bytes after its last voxel",
            fix="write the file again with the tool that made it; the voxels themselves were read",
            evidence={"file": facts.file},
        )
        for role, facts in view.files()
        if facts.n_trailing_bytes > 0
    ]


def check_dimensions(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F06: an extra axis of length 1 on a label, or a very short axis."""
    findings = []
    label_file = view.record.label_file
    if label_file is not None and len(label_file.shape) > 3:
        findings.append(
            Finding(
                check_id="F06",
                severity="warning",
                case_id=view.case_id,
                value=_shape_text(label_file),
                message=f"label file has {len(label_file.shape)} axes: {_shape_text(label_file)}",
                fix="nothing to do here (axes of length 1 are dropped); other tools may stumble",
                evidence={"file": label_file.file},
            )
        )
    if view.image is None:
        return findings
    shortest = min(view.image.shape[1:])
    if shortest < config.min_axis_voxels:
        shape = " x ".join(str(n) for n in view.image.shape[1:])
        findings.append(
            Finding(
                check_id="F06",
                severity="warning",
                case_id=view.case_id,
                value=shortest,
                threshold=config.min_axis_voxels,
                message=f"image is only {shortest} voxels deep along one axis ({shape})",
                fix="check that this is a volume; a 3-D network sees little along that axis",
            )
        )
    return findings


def _shape_text(facts: FileFacts) -> str:
    return " x ".join(str(n) for n in facts.shape)


def check_label_scaling(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F07: a label file whose header rescales its values. On images that is normal."""
    facts = view.record.label_file
    if facts is None:
        return []
    slope, intercept = facts.scl_slope, facts.scl_inter
    # A slope of 0 or NaN means "no scaling" in the NIfTI standard.
    if slope is None or slope == 0.0 or (slope == 1.0 and not intercept):
        return []
    return [
        Finding(
            check_id="F07",
            severity="error",
            case_id=view.case_id,
            value=slope,
            threshold=1.0,
            message=f"label file rescales its values: scl_slope {slope:g}, "
            f"scl_inter {intercept or 0:g}; tools that ignore this see other classes",
            fix="write the label again as unsigned 8-bit integers without scaling "
            "(nibabel: build a new image from the rounded array)",
            evidence={"file": facts.file},
        )
    ]


def check_finite(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F09: NaN or infinite voxels; few and outside the structures is a warning."""
    return [
        *_nonfinite_label(view),
        *(_nonfinite_image(view, facts) for facts in _with_nonfinite(view)),
    ]


def _with_nonfinite(view: CaseView) -> list[FileFacts]:
    return [facts for facts in view.record.image_files if facts.n_nonfinite > 0]


def _nonfinite_label(view: CaseView) -> list[Finding]:
    facts = view.record.label_file
    if facts is None or facts.n_nonfinite == 0:
        return []
    return [
        Finding(
            check_id="F09",
            severity="error",
            case_id=view.case_id,
            value=facts.n_nonfinite,
            threshold=0,
            message=f"label holds {facts.n_nonfinite} voxels that are NaN or infinite",
            fix="export the label again as integers; an undefined voxel has no class",
            evidence={"file": facts.file},
        )
    ]


def _nonfinite_image(view: CaseView, facts: FileFacts) -> Finding:
    n_voxels = max(1, int(np.prod(facts.shape)))
    fraction = facts.n_nonfinite / n_voxels
    is_inside = _has_nonfinite_foreground(view)
    place = "some of them inside a labelled structure" if is_inside else "outside the labels"
    return Finding(
        check_id="F09",
        # An error even for few of them: nothing fills them in, and training would stop there.
        severity="error",
        case_id=view.case_id,
        value=fraction,
        threshold=0,
        message=f"image holds {facts.n_nonfinite} NaN or infinite voxels "
        f"({100 * fraction:.3g} %), {place}",
        fix="fill them with the background value of the image in a copy; one such voxel turns the "
        "whole loss into NaN",
        evidence={"file": facts.file},
    )


def _has_nonfinite_foreground(view: CaseView) -> bool:
    if view.image is None or view.label is None or not view.is_aligned:
        return False
    is_bad = ~np.isfinite(view.image).all(axis=0)
    return bool((is_bad & mask_of_values(view.label, foreground_values(view.task))).any())


def check_constant(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F10: an image channel that shows nothing. Zeros around a brain are normal."""
    if view.image is None:
        return []
    findings = []
    for channel, name in zip(view.image, _channel_names(view), strict=True):
        flat = channel.reshape(-1)
        sample = np.sort(flat[:: max(1, flat.size // _N_SAMPLE)])
        # A value that fills more than half of the voxels is the median of any fair sample.
        fraction = float(np.count_nonzero(flat == sample[sample.size // 2]) / flat.size)
        if fraction > config.max_constant_fraction:
            findings.append(
                Finding(
                    check_id="F10",
                    severity="error",
                    case_id=view.case_id,
                    value=fraction,
                    threshold=config.max_constant_fraction,
                    message=f"image{name} is constant: {100 * fraction:.4g} % of its voxels hold "
                    f"{sample[sample.size // 2]:g}",
                    fix="export the image again; there is nothing in it to learn from",
                )
            )
    return findings


def _channel_names(view: CaseView) -> list[str]:
    """Text to tell channels apart, empty if there is only one."""
    n_channels = 0 if view.image is None else view.image.shape[0]
    if n_channels == 1:
        return [""]
    names = [channel.name for channel in view.task.channels]
    return [f" channel {names[c] if c < len(names) else c}" for c in range(n_channels)]
