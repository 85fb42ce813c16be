"""Findings that a person has accepted, with the reason beside them."""

from collections.abc import Sequence

from pipeline.artifacts import Finding, Verdict
from pipeline.audit.config import Waiver


def apply_waivers(
    findings: Sequence[Finding], waivers: Sequence[Waiver]
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Mark the findings that a waiver covers.

    Args:
        findings: What the checks found.
        waivers: What the configuration accepts.

    Returns:
        The findings with `waived` filled in, and the waivers that matched nothing, as text.
    """
    used: set[Waiver] = set()
    marked = []
    for finding in findings:
        match = next((waiver for waiver in waivers if _covers(waiver, finding)), None)
        if match is None:
            marked.append(finding)
            continue
        used.add(match)
        marked.append(finding.model_copy(update={"waived": match.reason}))
    # Waivers of the preflight (P) are for training; here they cannot match anything.
    here = (waiver for waiver in waivers if not waiver.check_id.startswith("P"))
    unused = tuple(describe_waiver(waiver) for waiver in here if waiver not in used)
    return tuple(marked), unused


def _covers(waiver: Waiver, finding: Finding) -> bool:
    return waiver.check_id == finding.check_id and waiver.case_id in {None, finding.case_id}


def describe_waiver(waiver: Waiver) -> str:
    """A waiver in one line."""
    return f"{waiver.check_id} for {waiver.case_id or 'every case'}: {waiver.reason}"


def judge(findings: Sequence[Finding]) -> Verdict:
    """The verdict over all findings that are not waived; information does not count."""
    severities = {finding.severity for finding in findings if finding.waived is None}
    if "error" in severities:
        return "errors"
    return "warnings" if "warning" in severities else "clean"
