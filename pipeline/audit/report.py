"""`report.html`: everything the audit knows, for a person to judge."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Advice, Findings, Splits
from pipeline.audit.config import AuditConfig
from pipeline.audit.pages.coverage import checks_table, not_assessable
from pipeline.audit.pages.findings import filter_choices, make_groups
from pipeline.audit.pages.illustrations import illustrate
from pipeline.audit.pages.leakage import folds_table, group_facts, look_alikes
from pipeline.audit.pages.tables import (
    class_table,
    geometry_strips,
    geometry_table,
    intensity_strips,
    intensity_table,
    usable_cases,
    volume_strips,
)
from pipeline.audit.terminal import count_findings, verdict_line
from pipeline.audit.view import DatasetView
from pipeline.audit.waivers import describe_waiver
from pipeline.reporting.page import render_page
from pipeline.reporting.viewer import library_text, license_text

VERDICT_KINDS = {"errors": "bad", "warnings": "warn", "clean": "good"}
VERDICT_WORDS = {
    "errors": "Do not train yet",
    "warnings": "Usable after a review",
    "clean": "Ready to train",
}


@dataclass(frozen=True)
class ReportInput:
    """What the report shows.

    Args:
        dataset: All cases with their rows.
        findings: Findings with waivers applied.
        splits: Folds.
        config: Thresholds; limits the number of pictures.
        work_root: Where the stored volumes are, for the pictures.
        advice: What training should do with this dataset; None leaves the section out.
    """

    dataset: DatasetView
    findings: Findings
    splits: Splits
    config: AuditConfig
    work_root: Path
    advice: Advice | None = None


def render_report(report: ReportInput) -> str:
    """Make the page.

    Args:
        report: What to show.

    Returns:
        HTML that needs no other file and no network.

    Raises:
        DataError: If the case store is damaged.
    """
    findings, dataset = report.findings, report.dataset
    shown = illustrate(dataset, findings, report.work_root, report.config.max_pictures)
    groups = make_groups(findings.findings, shown.cards, dataset)
    return render_page(
        "audit.html.j2",
        {
            **_head(report),
            **_data(report),
            "groups": groups,
            "choices": filter_choices(groups),
            "samples": shown.samples,
            "volumes": shown.volumes,
            "library": library_text() if shown.volumes else "",
            "license": license_text() if shown.volumes else "",
            "checks": checks_table(findings),
            "not_assessable": not_assessable(dataset),
            "advice": report.advice,
            "waivers": [describe_waiver(waiver) for waiver in report.config.waivers],
            "unused_waivers": findings.unused_waivers,
        },
    )


def _head(report: ReportInput) -> dict[str, object]:
    """What stands at the top of the page."""
    findings = report.findings
    return {
        "title": f"Label audit: {report.dataset.manifest.name}",
        "subtitle": verdict_line(findings),
        "verdict": {
            "kind": VERDICT_KINDS[findings.verdict],
            "text": VERDICT_WORDS[findings.verdict],
        },
        "cards": _cards(report),
        "facts": _facts(report),
    }


def _data(report: ReportInput) -> dict[str, object]:
    """Tables and strips over all cases."""
    dataset = report.dataset
    cases = usable_cases(dataset)
    hits = {} if report.advice is None else report.advice.patch_hits
    return {
        "classes": class_table(dataset, hits),
        "volume_strips": volume_strips(dataset),
        "geometry": geometry_table(cases),
        "geometry_strips": geometry_strips(cases),
        "intensities": intensity_table(dataset),
        "intensity_strips": intensity_strips(dataset),
        "splits": folds_table(dataset, report.splits),
        "split_facts": group_facts(report.splits),
        "look_alikes": look_alikes(report.findings.findings, report.splits),
    }


def _cards(report: ReportInput) -> list[dict[str, object]]:
    manifest, findings = report.dataset.manifest, report.findings
    n_usable = len(usable_cases(report.dataset))
    n_waived = sum(f.waived is not None for f in findings.findings)
    return [
        {"label": "Cases", "value": f"{len(manifest.cases):,}", "note": f"{n_usable:,} usable"},
        {
            "label": "Errors",
            "value": f"{count_findings(findings, 'error'):,}",
            "note": "stop training",
        },
        {
            "label": "Warnings",
            "value": f"{count_findings(findings, 'warning'):,}",
            "note": "to review",
        },
        {"label": "Waived", "value": f"{n_waived:,}", "note": "accepted with a reason"},
        {
            "label": "Classes",
            "value": len(manifest.task.classes),
            "note": f"{len(manifest.task.channels)} channel(s)",
        },
        {"label": "Folds", "value": len(report.splits.folds), "note": "for cross-validation"},
    ]


def _facts(report: ReportInput) -> list[tuple[str, str]]:
    manifest = report.dataset.manifest
    channels = ", ".join(f"{c.name} ({c.modality})" for c in manifest.task.channels)
    orientations = Counter(c.image.source_orientation for c in manifest.cases if c.image)
    return [
        ("Folder", str(manifest.root)),
        ("Layout", f"{manifest.layout}: {manifest.layout_reason}"),
        ("Channels", channels),
        ("Classes", ", ".join(manifest.task.class_names)),
        ("Orientation in files", ", ".join(f"{o} ({n})" for o, n in orientations.most_common())),
        ("Content digest", manifest.digest),
    ]
