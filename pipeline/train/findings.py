"""Findings of a training: judged, waived and written like those of the audit."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.artifacts import Finding, Findings, Verdict
from pipeline.core.workspace import write_json

# Marks the findings that the user accepts; the waivers themselves are the audit's.
Waive = Callable[[Sequence[Finding]], tuple[Finding, ...]]


def keep_all(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """No waivers."""
    return tuple(findings)


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """The verdict over all findings that are not waived; information does not count."""
    severities = {finding.severity for finding in findings if finding.waived is None}
    if "error" in severities:
        return "errors"
    return "warnings" if "warning" in severities else "clean"


def write_findings(file: Path, findings: Sequence[Finding], n_cases: int) -> Findings:
    """Write findings as a `Findings` artifact.

    Args:
        file: The JSON file.
        findings: In the order in which they were found.
        n_cases: Cases that were looked at.

    Returns:
        What was written.
    """
    artifact = Findings(verdict=verdict_of(findings), n_cases=n_cases, findings=tuple(findings))
    write_json(file, artifact)
    return artifact
