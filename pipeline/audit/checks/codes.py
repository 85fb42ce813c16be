"""Checks on what label values betray (E04, E10, E11, E13)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from pipeline.artifacts import Finding, Problem, Severity
from pipeline.audit.checks.shells import check_interpolation, check_shells
from pipeline.audit.checks.swaps import check_swapped_classes
from pipeline.audit.checks.types import CaseCheck, DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.codes import CodeLimits
from pipeline.audit.view import CaseView, LabelValues
from pipeline.core.errors import FileFormatError
from pipeline.io.nifti import read_nifti

# Two frequent values nearer than this many palette distances share one cluster of noise.
_MODE_DISTANCES = 2
# Many classes may have gone through a picture; more frequent values than this are an image.
_MAX_MODES = 16
# What is far rarer than the second most frequent value is noise of the compression itself.
_MIN_MODE_RATIO = 0.1
# Frequent values all over the range mean an image; nothing would lie far from all of them.
_MAX_COVERED = 0.5
# Share of the voxels off the background that must lie near a frequent value.
_MIN_REST = 0.5
# Probabilities of all classes add up to 1 within this.
_SUM_ROUNDING = 1e-2


@dataclass(frozen=True)
class _Stack:
    """What a label of several volumes holds.

    Args:
        n_volumes: Volumes along the fourth axis.
        is_binary: Every volume holds 0 and at most one other value.
        is_probability: The volumes are fractions that add up to 1.
        overlap_share: Voxels in more than one mask / all voxels.
        empty_share: Voxels in no mask / all voxels.
        overlap_voxel: A voxel in more than one mask, in the order of the file.
    """

    n_volumes: int
    is_binary: bool
    is_probability: bool
    overlap_share: float
    empty_share: float
    overlap_voxel: tuple[int, ...] | None


def check_mask_stack(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E10: the label file holds several volumes; says of what kind they are and what to do."""
    if view.dataset_root is None:
        return []
    findings = []
    for problem in view.record.problems:
        if problem.check_id != "F06" or not problem.message.startswith("label"):
            continue
        try:
            raw = read_nifti(view.dataset_root / problem.file, root=view.dataset_root)
        except FileFormatError:
            continue  # F06 says what is wrong with its dimensions
        if raw.array.ndim == 4 and raw.array.shape[3] > 1:
            stack = _judge_stack(raw.array)
            findings.append(_stack_finding(view, problem, stack, config.codes))
    return findings


def check_palette(view: CaseView, config: AuditConfig) -> list[Finding]:
    """E13: dozens of values crowd around a few, as lossy picture compression leaves them.

    They speckle the edges of the true values, while many classes with close numbers each fill a
    connected place: that tells them apart, whatever is declared.
    """
    limits = config.codes
    if not _is_crowded(view.values, config) or view.values is None or view.label is None:
        return []
    modes = _modes(view.values, limits)
    n_levels = view.values.values.size - len(modes)
    if _coherence(view.label, modes) > limits.max_palette_coherence:
        return []
    named = " and ".join(str(int(mode)) for mode in modes)
    return [
        Finding(
            check_id="E13",
            severity="error",
            case_id=view.case_id,
            value=n_levels,
            threshold=limits.min_palette_levels,
            message=f"label holds {n_levels} values that speckle the edges between {named}: it "
            "went through a picture format with lossy compression, or was smoothed",
            fix="export the label without such pictures in between; else give every voxel the "
            f"nearest of {named} in a copy, and check thin structures",
            evidence={}
            if view.record.label_file is None
            else {"file": view.record.label_file.file},
        )
    ]


CASE_CHECKS: tuple[CaseCheck, ...] = (check_mask_stack, check_palette)
DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    check_interpolation,
    check_shells,
    check_swapped_classes,
)


# --- E10 ------------------------------------------------------------------------------------------


def _judge_stack(array: Shaped[np.ndarray, "i j k volume"]) -> _Stack:
    n_masks = np.zeros(array.shape[:3], dtype=np.uint16)
    is_binary, total, is_bounded = True, None, True
    for volume in range(array.shape[3]):
        one = array[..., volume]
        mask = one != 0
        n_masks += mask
        is_binary &= _is_binary(one, mask)
        if array.dtype.kind == "f":
            is_bounded &= bool(one.min() >= 0 and one.max() <= 1)
            total = one.astype(np.float32) if total is None else total + one
    is_probability = not is_binary and is_bounded and total is not None
    if total is not None and is_probability:
        is_probability = bool(np.abs(total - 1).max() <= _SUM_ROUNDING)
    overlaps = n_masks > 1
    place = np.argwhere(overlaps)[:1]
    return _Stack(
        n_volumes=array.shape[3],
        is_binary=is_binary,
        is_probability=is_probability,
        overlap_share=float(np.count_nonzero(overlaps) / overlaps.size),
        empty_share=float(np.count_nonzero(n_masks == 0) / overlaps.size),
        overlap_voxel=tuple(int(n) for n in place[0]) if len(place) else None,
    )


def _is_binary(one: Shaped[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"]) -> bool:
    first = one.flat[int(np.argmax(mask))]
    return bool(np.count_nonzero(one == first) == np.count_nonzero(mask)) or not mask.any()


def _stack_finding(view: CaseView, problem: Problem, stack: _Stack, limits: CodeLimits) -> Finding:
    severity, what, fix = _words(stack, limits)
    evidence: dict[str, str | int | float | tuple[int, ...]] = {"file": problem.file}
    if stack.overlap_voxel is not None and stack.is_binary:
        evidence["voxel_in_file"] = stack.overlap_voxel
    return Finding(
        check_id="E10",
        severity=severity,
        case_id=view.case_id,
        value=stack.overlap_share,
        threshold=limits.max_overlap_fraction,
        message=f"label is a stack of {stack.n_volumes} volumes: {what}",
        fix=fix,
        evidence=evidence,
    )


def _words(stack: _Stack, limits: CodeLimits) -> tuple[Severity, str, str]:
    """Severity, what the stack is, and what to do with it."""
    severity: Severity = "error"
    if stack.is_probability:
        what = "probabilities that add up to 1"
        fix = "write the number of the largest probability per voxel into one label map"
    elif not stack.is_binary:
        what = "they are no masks, each holds several values"
        fix = "find out what the volumes are (raters? time points?) and keep one label map per case"
    elif stack.overlap_share > limits.max_overlap_fraction:
        what = f"masks that overlap in {100 * stack.overlap_share:.3g} % of the voxels"
        fix = "decide which mask wins where two overlap (regions inside each other: the inner "
        fix += "one), then write one label map with one number per class"
    elif stack.empty_share == 0.0:
        severity, what = "warning", "one-hot masks, every voxel is in exactly one"
        fix = "write the number of the mask per voxel (the first one is background, 0) into a copy"
    else:
        severity, what = "warning", "masks that do not overlap"
        fix = "write 1 for the first mask, 2 for the second, ... and 0 elsewhere into a copy"
    return severity, what, fix


# --- E13 ------------------------------------------------------------------------------------------


def _is_crowded(values: LabelValues | None, config: AuditConfig) -> bool:
    """Whether nearly all voxels, also without background, lie near a few frequent values."""
    limits = config.codes
    if values is None or values.values.size <= limits.min_palette_levels + 2:
        return False
    is_image = int(values.values[0]) < 0 or values.values.size > config.max_image_like_values
    if is_image or values.max_fraction_part > config.max_label_fraction_part:
        return False  # E07 and E03 say it better
    modes = _modes(values, limits)
    n_covered = len(modes) * (2 * limits.max_palette_distance + 1)
    if len(modes) < 2 or n_covered > _MAX_COVERED * int(np.ptp(values.values)):
        return False
    distance = np.abs(values.values[:, None] - modes[None, :]).min(axis=1)
    n_near = np.where(distance <= limits.max_palette_distance, values.counts, 0)
    is_rest = values.values != values.values[int(values.counts.argmax())]
    share = float(n_near.sum() / values.counts.sum())
    rest = float(n_near[is_rest].sum() / max(1, int(values.counts[is_rest].sum())))
    return share >= limits.min_palette_fraction and rest >= _MIN_REST


def _modes(values: LabelValues, limits: CodeLimits) -> Integer[np.ndarray, " mode"]:
    """The most frequent values, each far from the ones before it and not much rarer."""
    modes: list[int] = []
    n_second = 0
    for place in np.argsort(-values.counts, kind="stable"):
        value, count = int(values.values[place]), int(values.counts[place])
        distance = _MODE_DISTANCES * limits.max_palette_distance
        is_far = all(abs(value - mode) > distance for mode in modes)
        if not is_far:
            continue
        if len(modes) == 1:
            n_second = count
        if len(modes) >= _MAX_MODES or count < _MIN_MODE_RATIO * n_second:
            break
        modes.append(value)
    return np.array(sorted(modes), dtype=np.int64)


def _coherence(label: Shaped[np.ndarray, "i j k"], modes: Integer[np.ndarray, " mode"]) -> float:
    """Share of the voxels beside the modes that equal their next neighbor; of the worst axis."""
    integers = np.rint(label) if label.dtype.kind == "f" else label
    is_other = ~np.isin(integers, modes)
    shares = []
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        places = np.nonzero(is_other[low])
        if len(places[0]):
            n_equal = np.count_nonzero(integers[high][places] == integers[low][places])
            shares.append(n_equal / len(places[0]))
    return float(min(shares, default=0.0))
