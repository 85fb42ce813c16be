"""Family P: the tensors that reach the loss, checked before the first step.

Every check is a pure function of numbers; `run_preflight` collects them from the batches, the
network and the loss of the training itself.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts import CaseFingerprint, Finding, Findings, Plan, Severity
from pipeline.core.errors import DataError
from pipeline.train import schedule
from pipeline.train.findings import Waive, keep_all, write_findings
from pipeline.train.patches import N_CASES, PatchFacts, draw_sample
from pipeline.train.prepare import PreparedCase
from pipeline.train.selftest import check_loss, check_metric, validation_dice
from pipeline.train.state import LoopParts

logger = logging.getLogger(__name__)

MIN_PATCH_SHARE = 0.2
# Fewer sights of a class than this in a whole training teach nothing.
MIN_HITS = 50
# One-sided 95 %: a share is only called low when the sample leaves little doubt.
_Z95 = 1.645
MAX_MEAN, MIN_STD, MAX_STD = 10.0, 0.01, 10.0
# Every n-th voxel along each axis is enough for a mean and an SD.
_THINNING = 3
# The metric needs a few real labels, not all.
_N_METRIC_LABELS = 2


def run_preflight(
    parts: LoopParts,
    cases: Sequence[PreparedCase],
    rows: Sequence[CaseFingerprint],
    file: Path,
    waive: Waive = keep_all,
) -> Findings:
    """Check what the loss will see, without taking a step or drawing a random number.

    Args:
        parts: The training about to start.
        cases: Its prepared training cases.
        rows: Their fingerprints, counted before any transform.
        file: Gets the findings.
        waive: Marks the findings that the user accepts.

    Returns:
        Findings P01 to P05.
    """
    sample = draw_sample(parts.source)
    names, plan = parts.class_names, parts.info.plan
    with torch.no_grad():
        logits = parts.learner.averaged(sample.first.image[:1])
    labels = [
        patch.cpu().numpy().astype(np.uint8) for patch in sample.first.label[:_N_METRIC_LABELS]
    ]
    found = [
        *check_values(sample.patches, cases, names),
        *check_prepared(cases, rows, names),
        *check_shapes(
            tuple(sample.first.image.shape), tuple(sample.first.label.shape), (*logits.shape,), plan
        ),
        *check_presence(sample.patches, cases, names, _n_planned_patches(parts)),
        *check_metric(validation_dice(names), labels),
        *check_loss(lambda x, y: parts.learner.loss(x, y).total, len(names), logits.device),
        *check_intensities(sample.patches, cases, [c.name for c in parts.info.task.channels]),
    ]
    n_cases = len({patch.case_id for patch in sample.patches})
    return write_findings(file, waive(found), n_cases)


def refuse_preflight_errors(findings: Findings) -> None:
    """Log the findings, and stop if one is an error that is not waived.

    Args:
        findings: From `run_preflight`.

    Raises:
        DataError: Naming the errors.
    """
    errors = []
    for finding in findings.findings:
        if finding.waived is not None:
            logger.info("preflight: %s is waived: %s", finding.check_id, finding.waived)
        elif finding.severity == "error":
            errors.append(f"{finding.check_id} {finding.message}")
        else:
            logger.warning("preflight: %s %s; %s", finding.check_id, finding.message, finding.fix)
    if errors:
        raise DataError(
            f"the preflight found {len(errors)} error(s) in what would reach the loss",
            where="\n         ".join(errors),
            fix=next(f.fix for f in findings.findings if f.severity == "error")
            + "; or waive it by check, case and reason in audit.waivers",
        )
    logger.info(
        "preflight: patches of %d cases, loss and metric checked (%s)",
        findings.n_cases,
        findings.verdict,
    )


def _n_planned_patches(parts: LoopParts) -> int | None:
    """Patches of the whole training; None if only time limits it."""
    n_steps = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    return None if n_steps is None else n_steps * parts.info.plan.batch_size


def check_values(
    patches: Sequence[PatchFacts], cases: Sequence[PreparedCase], class_names: Sequence[str]
) -> list[Finding]:
    """P01: labels are integers, declared, and classes that their case has."""
    shown = {case.case_id: _classes_of(case) for case in cases}
    for patch in patches:
        values = ", ".join(map(str, patch.label_values[:8]))
        if not patch.is_integral:
            return [_value_finding(patch, "values between integers")]
        if not set(patch.label_values) <= set(range(len(class_names) + 1)):
            return [_value_finding(patch, f"values that no class has ({values})")]
        strange = set(patch.label_values) - shown.get(patch.case_id, set()) - {0}
        if strange:
            names = ", ".join(class_names[value - 1] for value in sorted(strange))
            return [_value_finding(patch, f"classes that the case does not have ({names})")]
    return []


def _value_finding(patch: PatchFacts, what: str) -> Finding:
    return Finding(
        check_id="P01",
        severity="error",
        case_id=patch.case_id,
        value=what,
        message=f"the label that reaches the loss holds {what}: a transform has interpolated or "
        "rescaled it",
        fix="labels must be resampled with nearest neighbor and never be normalized",
    )


def _classes_of(case: PreparedCase) -> set[int]:
    return {index for index, found in enumerate(case.coordinates, start=1) if len(found)}


def check_prepared(
    cases: Sequence[PreparedCase], rows: Sequence[CaseFingerprint], class_names: Sequence[str]
) -> list[Finding]:
    """P01: every class of a source label is still there after resampling."""
    before = {row.case_id: row.n_class_voxels for row in rows}
    n_had: Counter[str] = Counter()
    lost: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        counts, kept = before.get(case.case_id, ()), _classes_of(case)
        for index, (name, n) in enumerate(zip(class_names, counts, strict=False), start=1):
            n_had[name] += n > 0
            if n > 0 and index not in kept:
                lost[name].append(case.case_id)
    return [
        Finding(
            check_id="P01",
            severity="error" if len(ids) == n_had[name] else "warning",
            case_id=ids[0],
            class_name=name,
            value=len(ids),
            threshold=0,
            message=f"resampling has lost class '{name}' in {len(ids)} of the {n_had[name]} "
            f"training cases that have it, such as {ids[0]}",
            fix="set a finer train.spacing_mm; the structure is smaller than one target voxel",
        )
        for name, ids in lost.items()
    ]


def check_shapes(
    image: tuple[int, ...], label: tuple[int, ...], logits: tuple[int, ...], plan: Plan
) -> list[Finding]:
    """P02: image, label and the network's answer fit each other without broadcasting.

    Args:
        image: Shape of a batch of images.
        label: Shape of its labels.
        logits: Shape of the network's answer to one patch.
        plan: Patch, channels and classes.

    Returns:
        At most one error.
    """
    patch, network = tuple(plan.patch_size), plan.network
    wanted = {
        "image": (image, (plan.batch_size, network.n_input_channels, *patch)),
        "label": (label, (plan.batch_size, *patch)),
        "network output": (logits, (1, network.n_output_channels, *patch)),
    }
    return [
        Finding(
            check_id="P02",
            severity="error",
            value=str(found),
            threshold=str(expected),
            message=f"the {name} has shape {found}, but {expected} is needed; the loss would "
            "compare the wrong voxels",
            fix="set train.patch_size to null, or please report it as a defect",
        )
        for name, (found, expected) in wanted.items()
        if found != expected
    ][:1]


def check_presence(
    patches: Sequence[PatchFacts],
    cases: Sequence[PreparedCase],
    class_names: Sequence[str],
    n_planned: int | None,
) -> list[Finding]:
    """P03: every class that occurs is in enough patches.

    Args:
        patches: The sample.
        cases: All training cases.
        class_names: Foreground classes.
        n_planned: Patches of the whole training, None if unknown.

    Returns:
        A warning per class that is rarely seen; classes that no case has are the audit's matter.
    """
    occurring = set().union(*(_classes_of(case) for case in cases))
    findings = []
    for index, name in enumerate(class_names, start=1):
        if index not in occurring:
            continue
        n_hits = sum(index in patch.label_values for patch in patches)
        share = n_hits / len(patches)
        n_expected = None if n_planned is None else share * n_planned
        if _upper_share(n_hits, len(patches)) < MIN_PATCH_SHARE:
            what = f"is in only {n_hits} of {len(patches)} training patches"
            fix = "raise train.foreground_fraction or enlarge train.patch_size"
        elif n_expected is not None and n_expected < MIN_HITS:
            what = f"will be seen only about {n_expected:.0f} times in this short training"
            fix = f"train longer: {MIN_HITS} sights of a class are few already"
        else:
            continue
        findings.append(_presence_finding(name, what, fix, share))
    return findings


def _presence_finding(name: str, what: str, fix: str, share: float) -> Finding:
    return Finding(
        check_id="P03",
        severity="warning",
        class_name=name,
        value=share,
        threshold=MIN_PATCH_SHARE,
        message=f"class '{name}' {what}; it may never be learned",
        fix=fix,
    )


def _upper_share(n_hits: int, n: int) -> float:
    """Upper limit of a share, Wilson's interval."""
    share, z2 = n_hits / n, _Z95**2
    spread = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (share + z2 / (2 * n) + spread) / (1 + z2 / n)


def check_intensities(
    patches: Sequence[PatchFacts], cases: Sequence[PreparedCase], channel_names: Sequence[str]
) -> list[Finding]:
    """P05: images are finite, centred and neither flat nor wild after normalization.

    Patches tell what augmentation made of them. Whether an image is flat is read off the whole
    prepared volume of some cases: a patch may well lie in air.

    Args:
        patches: The sample.
        cases: All training cases.
        channel_names: Image channels.

    Returns:
        Errors for voxels that are not finite and for a sample without any contrast, else warnings.
    """
    for patch in patches:
        if not patch.is_finite:
            return [
                _intensity_finding("error", "a patch holds NaN or infinite voxels", patch.case_id)
            ]
    findings = []
    for index, channel in enumerate(channel_names):
        std = max(patch.stds[index] for patch in patches)
        if std < MIN_STD:
            what = f"channel {channel} has no contrast in any patch (largest SD {std:.2g})"
            findings.append(_intensity_finding("error", what))
            continue
        for case in _spread(cases):
            findings += _volume_findings(case, index, channel)
    return findings


def _spread(cases: Sequence[PreparedCase]) -> list[PreparedCase]:
    places = np.unique(np.linspace(0, len(cases) - 1, min(N_CASES, len(cases))).round().astype(int))
    return [cases[int(place)] for place in places]


def _volume_findings(case: PreparedCase, index: int, channel: str) -> list[Finding]:
    voxels = case.image[index, ::_THINNING, ::_THINNING, ::_THINNING].astype(np.float32)
    mean, std = float(voxels.mean()), float(voxels.std())
    if std < MIN_STD:
        what = f"channel {channel} is flat after normalization (SD {std:.2g})"
        return [_intensity_finding("warning", what, case.case_id)]
    if std > MAX_STD or abs(mean) > MAX_MEAN:
        what = f"channel {channel} has mean {mean:.3g} and SD {std:.3g} after normalization"
        return [_intensity_finding("warning", what, case.case_id)]
    return []


def _intensity_finding(severity: Severity, what: str, case_id: str | None = None) -> Finding:
    return Finding(
        check_id="P05",
        severity=severity,
        case_id=case_id,
        threshold=f"mean within {MAX_MEAN:g}, SD {MIN_STD:g} to {MAX_STD:g}",
        message=f"{what}; the network would learn little from it",
        fix="look at this image: its values or its declared modality (task.modality) do not fit",
    )
