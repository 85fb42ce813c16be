"""Family P: the tensors that reach the loss, checked before the first step.

Every check is a pure function of numbers; `run_preflight` collects them from the batches, the
network and the loss of the training itself.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from pipeline.artifacts import CaseFingerprint, Finding, Findings, Plan
from pipeline.core.errors import DataError
from pipeline.train import schedule
from pipeline.train.findings import Waive, keep_all, write_findings
from pipeline.train.intensities import check_intensities
from pipeline.train.patches import PatchFacts, draw_sample, spread_cases
from pipeline.train.prepare import PreparedCase
from pipeline.train.selftest import (
    check_augmentation,
    check_loss,
    check_metric,
    every_class,
    validation_dice,
)
from pipeline.train.state import LoopParts

logger = logging.getLogger(__name__)

MIN_PATCH_SHARE = 0.2
# Fewer sights of a class than this in a whole training teach nothing.
MIN_HITS = 50
# One-sided 95 %: a share is only called low when the sample leaves little doubt.
_Z95 = 1.645
# The metric needs a few real labels, not all.
_N_METRIC_LABELS = 2
# Volumes that are compared before and after resampling: small ones change by it.
MIN_COMPARED_VOXELS = 200
MIN_VOLUME_RATIO, MAX_VOLUME_RATIO = 0.5, 1.4
# Warnings of one check that are spelled out in the log; the file has all.
_MAX_LOGGED = 3


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
    names, plan, task = parts.class_names, parts.info.plan, parts.info.task
    with torch.no_grad():
        logits = parts.learner.averaged(sample.first.image[:1])
    labels = sample.first.label[:_N_METRIC_LABELS].cpu().numpy().astype(np.uint8)
    # Patches may show no class at all; this label shows every one.
    shows_all = every_class(len(names))[0].numpy().astype(np.uint8)
    values = check_values(sample.patches, cases, names, task.ignore_index)
    found = [
        *values,
        *check_prepared(cases, rows, names),
        *check_volumes(cases, rows, names),
        *check_augmentation(plan, len(names), parts.config, logits.device),
        *check_shapes(
            tuple(sample.first.image.shape), tuple(sample.first.label.shape), (*logits.shape,), plan
        ),
        *check_presence(sample.patches, cases, names, _n_planned_patches(parts)),
        # Values that no class has cannot be scored.
        *([] if values else check_metric(validation_dice(task), [*labels])),
        *check_metric(validation_dice(task), [shows_all]),
        *check_loss(
            lambda x, y: parts.learner.loss(x, y).total,
            task,
            logits.device,
            has_zero=parts.config.loss.kind != "monai",
        ),
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
    errors = [
        f"{finding.check_id} {finding.message}"
        for finding in findings.findings
        if finding.severity == "error" and finding.waived is None
    ]
    _log_others(findings)
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


def _log_others(findings: Findings) -> None:
    """Waivers and warnings; of a hundred that say the same only the first few."""
    n_logged: Counter[str] = Counter()
    for finding in findings.findings:
        if finding.waived is not None:
            logger.info("preflight: %s is waived: %s", finding.check_id, finding.waived)
        elif finding.severity != "error":
            n_logged[finding.check_id] += 1
            if n_logged[finding.check_id] <= _MAX_LOGGED:
                what = f"{finding.check_id} {finding.message}"
                logger.warning("preflight: %s; %s", what, finding.fix)
    for check_id, n in n_logged.items():
        if n > _MAX_LOGGED:
            more = n - _MAX_LOGGED
            logger.warning("preflight: %s and %d more like these in preflight.json", check_id, more)


def _n_planned_patches(parts: LoopParts) -> int | None:
    """Patches of the whole training; None if only time limits it."""
    n_steps = schedule.fixed_steps(parts.config, parts.source.steps_per_epoch)
    return None if n_steps is None else n_steps * parts.info.plan.batch_size


def check_values(
    patches: Sequence[PatchFacts],
    cases: Sequence[PreparedCase],
    class_names: Sequence[str],
    ignore_index: int | None = None,
) -> list[Finding]:
    """P01: labels are integers, declared, and classes that their case has.

    Args:
        patches: The sample.
        cases: All training cases.
        class_names: Foreground classes.
        ignore_index: Label of voxels that do not count; None if all do.

    Returns:
        At most one error.
    """
    shown = {case.case_id: _classes_of(case) for case in cases}
    for patch in patches:
        values = ", ".join(map(str, patch.label_values[:8]))
        if not patch.is_integral:
            return [_value_finding(patch, "values between integers")]
        classes = set(patch.label_values) - {0, ignore_index}
        if not classes <= set(range(1, len(class_names) + 1)):
            return [_value_finding(patch, f"values that no class has ({values})")]
        strange = classes - shown.get(patch.case_id, set())
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


def check_volumes(
    cases: Sequence[PreparedCase], rows: Sequence[CaseFingerprint], class_names: Sequence[str]
) -> list[Finding]:
    """P01: every class takes about the space it takes in the label files; none was swapped.

    Args:
        cases: All training cases; a few of them are looked at.
        rows: Their fingerprints, counted before any transform.
        class_names: Foreground classes.

    Returns:
        A finding per class whose volume is another in the median of the cases that show it: an
        error if it has grown.
    """
    before = {row.case_id: row for row in rows}
    ratios: dict[str, list[float]] = defaultdict(list)
    for case in spread_cases(cases):
        row = before.get(case.case_id)
        if row is None:
            continue
        counts = np.bincount(case.label.ravel(), minlength=len(class_names) + 1)
        scale = float(np.prod(row.spacing_mm) / np.prod(case.spacing_mm))
        for name, n, count in zip(class_names, row.n_class_voxels, counts[1:], strict=False):
            if n >= MIN_COMPARED_VOXELS and n * scale >= MIN_COMPARED_VOXELS:
                ratios[name].append(float(count) / (n * scale))
    findings = [_volume_finding(name, median(found)) for name, found in ratios.items()]
    return [finding for finding in findings if finding is not None]


def _volume_finding(name: str, ratio: float) -> Finding | None:
    if MIN_VOLUME_RATIO <= ratio <= MAX_VOLUME_RATIO:
        return None
    # Resampling may eat thin structures; it never makes one grow.
    has_grown = ratio > MAX_VOLUME_RATIO
    why = ": values are mapped to the wrong class" if has_grown else ": resampling loses the rest"
    return Finding(
        check_id="P01",
        severity="error" if has_grown else "warning",
        class_name=name,
        value=ratio,
        threshold=MAX_VOLUME_RATIO if has_grown else MIN_VOLUME_RATIO,
        message=f"after preprocessing class '{name}' has {ratio:.2g} times the volume that it has "
        f"in the label files{why}",
        fix="please report it, this is a defect of Voxline"
        if has_grown
        else "set a finer train.spacing_mm; the structure is thinner than the target voxels",
    )


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
    """P03: every class is in some training case, and in enough patches.

    Args:
        patches: The sample.
        cases: All training cases.
        class_names: Foreground classes.
        n_planned: Patches of the whole training, None if unknown.

    Returns:
        A warning per class that is rarely or never seen; one error if no case shows any class.
    """
    n_cases_with = Counter(index for case in cases for index in _classes_of(case))
    if not n_cases_with:
        return [_nothing_to_learn(len(cases))]
    findings = []
    for index, name in enumerate(class_names, start=1):
        n_hits = sum(index in patch.label_values for patch in patches)
        share, n_with = n_hits / len(patches), n_cases_with[index]
        n_expected = None if n_planned is None else share * n_planned
        where = f"{n_with} of the {len(cases)} training cases"
        if n_with == 0:
            what = f"is in none of the {len(cases)} training cases"
            fix = "take another train.fold or all, or leave it out of task.classes"
        elif _upper_share(n_hits, len(patches)) < MIN_PATCH_SHARE:
            what = f"is in only {n_hits} of {len(patches)} training patches, and in {where}"
            fix = "raise train.foreground_fraction or enlarge train.patch_size"
            if n_with < MIN_PATCH_SHARE * len(cases):
                # Every case gives as many patches as any other.
                fix = "add cases that show it, or train longer; train.foreground_fraction chooses "
                fix += "places within cases, not cases"
        elif n_expected is not None and n_expected < MIN_HITS:
            what = f"will be seen only about {n_expected:.0f} times in this short training"
            fix = f"train longer: {MIN_HITS} sights of a class are few already"
        else:
            continue
        findings.append(_presence_finding(name, what, fix, share))
    return findings


def _nothing_to_learn(n_cases: int) -> Finding:
    return Finding(
        check_id="P03",
        severity="error",
        value=0.0,
        threshold=MIN_PATCH_SHARE,
        message=f"none of the {n_cases} training cases shows any class: there is nothing to learn",
        fix="take another train.fold or all, or add labelled cases",
    )


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
