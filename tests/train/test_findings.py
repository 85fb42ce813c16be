"""Findings of a training are judged like those of the audit."""

from pipeline.artifacts import Finding, Findings, read_artifact
from pipeline.train.findings import keep_all, verdict_of, write_findings


def finding(severity, waived=None) -> Finding:
    return Finding(check_id="P01", severity=severity, message="m", fix="f", waived=waived)


def test_the_worst_finding_that_is_not_waived_decides():
    assert verdict_of([]) == "clean"
    assert verdict_of([finding("info")]) == "clean"
    assert verdict_of([finding("info"), finding("warning")]) == "warnings"
    assert verdict_of([finding("warning"), finding("error")]) == "errors"
    assert verdict_of([finding("warning"), finding("error", "known")]) == "warnings"


def test_what_is_written_is_read_back(tmp_path):
    written = write_findings(tmp_path / "preflight.json", keep_all([finding("error")]), 3)
    assert written == read_artifact(tmp_path / "preflight.json", Findings, made_by="train")
    assert (written.verdict, written.n_cases) == ("errors", 3)
