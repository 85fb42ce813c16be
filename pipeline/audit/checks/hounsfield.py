"""F12: channels declared CT whose values are no Hounsfield units."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.artifacts import Finding, Severity
from pipeline.audit.checks.habits import MAX_SINGLE
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measures import LEVELS, ChannelMeasures
from pipeline.audit.view import CaseRow, DatasetView

# Fat and noise lie below 0 HU in any CT; a span below this is no CT in HU either.
_MIN_CT_SPAN_HU = 100.0
# Soft tissue of a CT that was stored without its offset of -1024 lies above this.
_OFFSET_TISSUE = 800.0
# What so many of the CT cases show was done to the dataset, not to a case.
_MIN_COMMON_SHARE = 0.8


@dataclass(frozen=True)
class _Reason:
    """Why values are no Hounsfield units.

    Args:
        severity: Of the finding.
        common: What is wrong, in the words for many cases; equal words are one reason.
        message: The same with the numbers of one case.
        fix: What to do.
    """

    severity: Severity
    common: str
    message: str
    fix: str


def check_ct_units(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """F12: CT channels off by 1024, without values below 0, normalized, or padded.

    A reason that more than five cases and most CT cases share is one finding.
    """
    channels = dataset.manifest.task.channels
    findings = []
    for index, channel in enumerate(channels):
        if channel.modality != "ct":
            continue
        name = f" channel {channel.name}" if len(channels) > 1 else ""
        found: dict[str, list[tuple[Finding, _Reason]]] = {}
        n_cases = 0
        for row, measures in _measured(dataset, index):
            n_cases += 1
            reason = _reason(measures, config.images)
            if reason is not None:
                one = _finding(dataset, row, name, measures, reason)
                found.setdefault(reason.common, []).append((one, reason))
        for shared in found.values():
            findings += _common(name, shared, n_cases)
    return findings


def _measured(dataset: DatasetView, index: int) -> Iterator[tuple[CaseRow, ChannelMeasures]]:
    for row in dataset.rows:
        if index < len(row.measures.channels):
            yield row, row.measures.channels[index]


def _reason(measures: ChannelMeasures, limits: ImageLimits) -> _Reason | None:
    low, high = measures.quantiles[0], measures.quantiles[-1]
    if low == high:
        return None  # a constant image is F10's
    if high - low < _MIN_CT_SPAN_HU:
        return _Reason(
            "warning",
            "were normalized",
            f"span only {high - low:.3g}: they were normalized",
            "export the original values, or declare another modality in task.channels",
        )
    if low >= 0:
        return _shifted(measures)
    return _padding(measures, limits)


def _shifted(measures: ChannelMeasures) -> _Reason:
    low, high = measures.quantiles[0], measures.quantiles[-1]
    if measures.quantiles[LEVELS.index(0.99)] > _OFFSET_TISSUE:
        return _Reason(
            "warning",
            "look 1024 too high",
            f"start at {low:g} where air should be near -1000: they look 1024 too high",
            "subtract 1024 in a copy (rescale intercept of the DICOM header), in all cases alike",
        )
    return _Reason(
        "warning",
        "have nothing below 0",
        f"run from {low:g} to {high:g} without anything below 0, not even fat or air",
        "export the original Hounsfield units; these were windowed, clipped or normalized",
    )


def _padding(measures: ChannelMeasures, limits: ImageLimits) -> _Reason | None:
    """Padding, as far as the quantiles tell: the true share is at least the one given."""
    low = measures.quantiles[0]
    below = [
        level
        for level, value in zip(LEVELS, measures.quantiles, strict=True)
        if value < limits.min_ct_padding_hu
    ]
    share = max(below, default=0.0)
    if share < limits.min_ct_padding_fraction:
        return None
    return _Reason(
        "info",
        "hold padding around the scan",
        f"go down to {low:g} in {100 * share:.3g} % of the voxels or more: padding around the scan",
        "nothing here, the values are clipped before training; other tools should clip at -1024",
    )


def _finding(
    dataset: DatasetView, row: CaseRow, name: str, measures: ChannelMeasures, reason: _Reason
) -> Finding:
    files = {c.case_id: c.image_files[0].file for c in dataset.manifest.cases if c.image_files}
    evidence: dict[str, str | int | float | tuple[int, ...]] = {
        "mode": measures.mode,
        "largest": measures.quantiles[-1],
    }
    if row.case_id in files:
        evidence["file"] = files[row.case_id]
    return Finding(
        check_id="F12",
        severity=reason.severity,
        case_id=row.case_id,
        value=measures.quantiles[0],
        message=f"CT values{name} {reason.message}",
        fix=reason.fix,
        evidence=evidence,
    )


def _common(name: str, shared: list[tuple[Finding, _Reason]], n_cases: int) -> list[Finding]:
    """One finding for what most cases share; else one per case."""
    findings = [finding for finding, _ in shared]
    n = len(findings)
    if n <= MAX_SINGLE or n < _MIN_COMMON_SHARE * n_cases:
        return findings
    first, reason = shared[0]
    ids = [finding.case_id or "" for finding in findings]
    named = ", ".join(ids[:MAX_SINGLE])
    return [
        Finding(
            check_id="F12",
            severity=reason.severity,
            value=n,
            message=f"CT values{name} of {n} of {n_cases} cases {reason.common}: {named} and "
            f"{n - MAX_SINGLE} more; in {ids[0]} they {reason.message}",
            fix=first.fix,
            evidence={"cases": ", ".join(ids), "n_cases": n},
        )
    ]


DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_ct_units,)
