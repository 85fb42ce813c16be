"""P05: what normalization and augmentation have made of the images."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from pipeline.artifacts import Finding, Severity
from pipeline.train.patches import PatchFacts, spread_cases
from pipeline.train.prepare import PreparedCase

MAX_MEAN, MIN_STD, MAX_STD = 10.0, 0.01, 10.0
# Every n-th voxel along each axis is enough for a mean and an SD.
_THINNING = 3


def check_intensities(
    patches: Sequence[PatchFacts], cases: Sequence[PreparedCase], channel_names: Sequence[str]
) -> list[Finding]:
    """P05: images are finite, centred and neither flat nor wild after normalization.

    Patches tell what augmentation made of them. Whether a single image is flat is read off its
    whole prepared volume: a patch may well lie in air.

    Args:
        patches: The sample.
        cases: All training cases; a few of them are looked at.
        channel_names: Image channels.

    Returns:
        Errors for voxels that are not finite and for what concerns all patches or cases, else
        warnings.
    """
    for patch in patches:
        if not patch.is_finite:
            what = "a patch holds NaN or infinite voxels"
            return [_intensity_finding("error", what, patch.case_id)]
    findings = []
    for index, channel in enumerate(channel_names):
        name = f"channel {channel}"
        findings += _patch_findings(patches, index, name) or _volume_findings(cases, index, name)
    return findings


def _patch_findings(patches: Sequence[PatchFacts], index: int, channel: str) -> list[Finding]:
    stds = [patch.stds[index] for patch in patches]
    if max(stds) < MIN_STD:
        what = f"{channel} has no contrast in any patch (largest SD {max(stds):.2g})"
        return [_intensity_finding("error", what)]
    mean, std = median(patch.means[index] for patch in patches), median(stds)
    if std > MAX_STD or abs(mean) > MAX_MEAN:
        what = f"{channel} has mean {mean:.3g} and SD {std:.3g} in a typical patch"
        return [_intensity_finding("error", f"{what}: it is not normalized")]
    return []


def _volume_findings(cases: Sequence[PreparedCase], index: int, channel: str) -> list[Finding]:
    findings = []
    for case in spread_cases(cases):
        voxels = case.image[index, ::_THINNING, ::_THINNING, ::_THINNING].astype(np.float32)
        mean, std = float(voxels.mean()), float(voxels.std())
        what = f"{channel} has mean {mean:.3g} and SD {std:.3g} after normalization"
        if std < MIN_STD:
            what = f"{channel} is flat after normalization (SD {std:.2g})"
        elif std <= MAX_STD and abs(mean) <= MAX_MEAN:
            continue
        findings.append(_intensity_finding("warning", what, case.case_id))
    return findings


def _intensity_finding(severity: Severity, what: str, case_id: str | None = None) -> Finding:
    return Finding(
        check_id="P05",
        severity=severity,
        case_id=case_id,
        threshold=f"mean within {MAX_MEAN:g}, SD {MIN_STD:g} to {MAX_STD:g}",
        message=f"{what}; the network would learn little from it",
        fix="look at this image: its values or its declared modality (task.modality) do not fit"
        if case_id is not None
        else "check the declared modality (task.modality) and the values of this channel",
    )
