"""How often each check speaks on real data that is taken to be clean.

.venv/bin/python benchmarks/false_alarms.py ../shared/data/Task04_Hippocampus \
    ../shared/data/OpenKBP_HeadNeck --json benchmarks/false_alarms.json

Every error or warning counts as a false alarm, although a person may find some of them true: rates
are upper bounds. A finding of the dataset counts for all its cases in `cases` only if it names one.
"""

import argparse
import contextlib
import io
import json
import logging
import tempfile
from collections import defaultdict
from pathlib import Path

from pipeline.artifacts import Finding, Findings
from pipeline.audit.catalog import title_of
from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest

Counts = dict[str, dict[str, int]]


def main() -> None:
    """Print one table per dataset; save the counts if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="file for the counts, read by the reference page")
    parser.add_argument("--show", action="store_true", help="print every error and warning")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    counted = {}
    for dataset in given.datasets:
        findings = _audit(dataset)
        counts = _count(findings)
        counted[dataset.name] = {"n_cases": findings.n_cases, "checks": counts}
        _report(dataset.name, findings, counts, is_long=given.show)
    if given.json:
        given.json.write_text(json.dumps(counted, indent=1) + "\n")


def _audit(dataset: Path) -> Findings:
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        workspace = Workspace(Path(folder))
        ingest(IngestConfig(), TaskConfig(), dataset, workspace, NullTracker())
        return audit(AuditConfig(max_pictures=0), workspace, NullTracker())


def _count(findings: Findings) -> Counts:
    """By check and severity: findings, and cases they name."""
    by_check: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings.findings:
        by_check[f"{finding.check_id} {finding.severity}"].append(finding)
    return {
        key: {"n_findings": len(found), "n_cases": len({f.case_id for f in found if f.case_id})}
        for key, found in sorted(by_check.items())
    }


def _report(name: str, findings: Findings, counts: Counts, *, is_long: bool) -> None:
    print(f"\n{name}, {findings.n_cases} cases: {findings.verdict}\n")
    print("| check | severity | findings | cases | share of cases |\n|---|---|---|---|---|")
    for key, count in counts.items():
        check_id, severity = key.split()
        share = count["n_cases"] / findings.n_cases
        print(
            f"| {check_id} {title_of(check_id)} | {severity} | {count['n_findings']} "
            f"| {count['n_cases']} | {100 * share:.1f} % |"
        )
    touched = {f.case_id for f in findings.findings if f.severity != "info" and f.case_id}
    print(f"\ncases with an error or a warning: {len(touched)} of {findings.n_cases}")
    for finding in findings.findings:
        if is_long and finding.severity != "info":
            print(f"  {finding.check_id} {finding.severity} {finding.case_id}: {finding.message}")


if __name__ == "__main__":
    main()
