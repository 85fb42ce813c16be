"""Stage `audit`: check every case, describe the dataset, fix the folds."""

import logging

from pipeline.artifacts import (
    DatasetManifest,
    Finding,
    Findings,
    Fingerprint,
    read_artifact,
)
from pipeline.audit.advice import write_advice
from pipeline.audit.checks import anatomy, codes, cohort, grids, statistics
from pipeline.audit.checks import dataset as dataset_checks
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.groups import find_groups
from pipeline.audit.report import ReportInput, render_report
from pipeline.audit.rows import RowWork, forget_rows
from pipeline.audit.splits import split_dataset
from pipeline.audit.terminal import count_findings, print_findings
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.audit.waivers import apply_waivers, judge
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.parallel import map_cases
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import Workspace, write_json, write_text

logger = logging.getLogger(__name__)

# Starting worker processes costs about two seconds; below this the work is done sooner.
_PARALLEL_BYTES = 1 << 30


def audit(config: AuditConfig, workspace: Workspace, tracker: Tracker) -> Findings:
    """Check every ingested case, describe the dataset and fix the folds.

    Writes `findings.json`, `fingerprint.json`, `splits.json` and `report.html`, and prints the
    findings to stdout.

    Args:
        config: Thresholds, groups and waivers.
        workspace: Work folder with the output of ingest.
        tracker: Gets the counts and the report.

    Returns:
        All findings with the verdict.

    Raises:
        MissingInputError: If ingest has not run.
        ConfigError: If the patient groups cannot be read or a required class does not exist.
        DataError: If the case store is damaged.
    """
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    _check_class_names(config, manifest)
    grouping = find_groups(manifest.cases, config.groups)
    rows = _make_rows(manifest, config, workspace)
    fingerprint = Fingerprint(cases=tuple(r.fingerprint for r in rows if r.fingerprint))
    splits = split_dataset(fingerprint, manifest.task, grouping, config)
    dataset = DatasetView(manifest, rows, splits)
    found = [f for row in dataset.rows for f in row.findings]
    found += check_dataset(dataset, config)
    marked, unused = apply_waivers(found, config.waivers)
    findings = Findings(
        verdict=judge(marked),
        n_cases=len(manifest.cases),
        findings=marked,
        unused_waivers=unused,
    )
    folder = workspace.stage_dir("audit")
    write_json(workspace.findings_file, findings)
    write_json(workspace.fingerprint_file, fingerprint)
    write_json(workspace.splits_file, splits)
    advice = write_advice(dataset, config, workspace)
    report = ReportInput(dataset, findings, splits, config, workspace.root, advice)
    write_text(folder / "report.html", render_report(report))
    _tell(findings, tracker, workspace)
    return findings


DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    dataset_checks.check_unpaired,
    dataset_checks.check_label_types,
    dataset_checks.check_orientations,
    dataset_checks.check_mixed_coding,
    dataset_checks.check_absent_classes,
    dataset_checks.check_value_gaps,
    dataset_checks.check_many_empty,
    dataset_checks.check_repeated_labels,
    dataset_checks.check_duplicates,
    dataset_checks.check_usable,
    statistics.check_imbalance,
    *grids.DATASET_CHECKS,
    *codes.DATASET_CHECKS,
    *anatomy.DATASET_CHECKS,
    *cohort.DATASET_CHECKS,
)


def check_dataset(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """Run the checks that need all cases.

    Args:
        dataset: All cases with their rows and folds.
        config: Thresholds.

    Returns:
        The findings.
    """
    return [finding for check in DATASET_CHECKS for finding in check(dataset, config)]


def _check_class_names(config: AuditConfig, manifest: DatasetManifest) -> None:
    named = [("required_classes", name) for name in config.required_classes]
    named += [("anatomy.multi", name) for name in config.anatomy.multi]
    for rule in config.anatomy.containment:
        named += [("anatomy.containment", name) for name in (rule.inside, *rule.parents)]
    for key, name in named:
        if name not in manifest.task.class_names:
            raise ConfigError(
                f"there is no class '{name}'",
                where=f"audit.{key}",
                fix=did_you_mean(name, manifest.task.class_names),
            )


def _make_rows(
    manifest: DatasetManifest, config: AuditConfig, workspace: Workspace
) -> tuple[CaseRow, ...]:
    work = RowWork(manifest.task, config, workspace.root, manifest.root)
    n_bytes = sum(facts.n_bytes for case in manifest.cases for facts in case.image_files)
    n_jobs = config.n_jobs
    if n_jobs is None:
        n_jobs = 0 if n_bytes > _PARALLEL_BYTES else 1
    outcomes = map_cases(work, manifest.cases, description="audit", n_jobs=n_jobs)
    forget_rows(work, manifest.cases)
    rows = []
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.result is not None:
            rows.append(outcome.result)
    return tuple(rows)


def _tell(findings: Findings, tracker: Tracker, workspace: Workspace) -> None:
    report = workspace.stage_dir("audit") / "report.html"
    print_findings(findings)
    for waiver in findings.unused_waivers:
        logger.warning("waiver without a finding: %s", waiver)
    logger.info("report: %s", report)
    tracker.log_metrics(
        {
            "audit/n_errors": count_findings(findings, "error"),
            "audit/n_warnings": count_findings(findings, "warning"),
            "audit/n_waived": sum(f.waived is not None for f in findings.findings),
        },
        headline=False,
    )
    waived = sorted({f"{f.check_id}: {f.waived}" for f in findings.findings if f.waived})
    tracker.set_tags(
        {"audit.verdict": findings.verdict, "audit.waivers": "; ".join(waived) or "none"}
    )
    for file in (report, workspace.findings_file):
        tracker.log_file(file, headline=False)
