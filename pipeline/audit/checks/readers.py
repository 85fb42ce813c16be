"""F14: SimpleITK sees another volume in a file than we do."""

import numpy as np

from pipeline.artifacts import FileFacts, Finding
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measures import ReaderFacts
from pipeline.audit.view import CaseView
from pipeline.core.geometry import spacing_of

_FIX = "correct the file as the other findings of this case say, then all tools see the same"
# pixdim and affine disagree about the voxel size beyond rounding.
_SPACING_ROUNDING = 1e-3


def check_readers(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F14: two readers see two volumes, so tools built on either would train on different data."""
    known = {facts.file: facts for _, facts in view.files()}
    # A file can be read and still have a problem, as a channel on another grid (G15).
    refused = {problem.file for problem in view.record.problems} - set(known)
    findings = []
    for reading in view.measures.readers:
        if reading.file in refused:
            message = _of_refused(reading)
        else:
            message = _of_known(reading, known.get(reading.file), config.images)
        if message:
            findings.append(_finding(view, reading, message))
    return findings


def _finding(view: CaseView, reading: ReaderFacts, message: str) -> Finding:
    evidence: dict[str, str | int | float | tuple[int, ...]] = {"file": reading.file}
    if reading.different_voxel is not None:
        evidence["voxel_ras"] = reading.different_voxel
    if reading.corner_shift_voxels is not None:
        evidence["shift_voxels"] = reading.corner_shift_voxels
    return Finding(
        check_id="F14",
        severity="warning",
        case_id=view.case_id,
        value=reading.n_different_voxels,
        threshold=0,
        message=f"{reading.role}: tools that read with SimpleITK (nnU-Net by default) {message}",
        fix=_FIX,
        evidence=evidence,
    )


def _of_refused(reading: ReaderFacts) -> str:
    """What to say of a file that we refuse; nothing if SimpleITK refuses it too."""
    if reading.error:
        return ""
    return (
        f"take this damaged file without a word, as {_text(reading.shape)} voxels; {reading.values}"
    )


def _of_known(reading: ReaderFacts, facts: FileFacts | None, limits: ImageLimits) -> str:
    if reading.error:
        return f"refuse the file: {reading.error}"
    if facts is None:
        return ""
    if reading.corner_shift_voxels is None and reading.n_different_voxels is None:
        return f"see {_text(reading.shape)} voxels instead of {_text(facts.shape)}"
    parts = []
    shift = reading.corner_shift_voxels
    if shift is not None and shift > limits.max_reader_shift_voxels:
        parts.append(_of_place(facts, shift))
    if reading.n_different_voxels:
        parts.append(
            f"see other values in {reading.n_different_voxels:,} voxels ({reading.values})"
        )
    return " and ".join(parts)


def _of_place(facts: FileFacts, shift_voxels: float) -> str:
    affine_mm = spacing_of(np.array(facts.affine, dtype=np.float64))
    far = f"corners up to {shift_voxels:.3g} voxels away"
    if facts.affine_source == "pixdim":
        return f"place the volume elsewhere, maybe mirrored, as the header gives no position: {far}"
    if not np.allclose(affine_mm, facts.pixdim_mm, rtol=_SPACING_ROUNDING, atol=0):
        sizes = " x ".join(f"{size:.4g}" for size in facts.pixdim_mm)
        return f"take voxels of {sizes} mm from pixdim: {far}"
    return f"place the volume elsewhere: {far}"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
