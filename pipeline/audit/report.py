"""`report.html`: everything the audit knows, for a person to judge."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import CaseFingerprint, Finding, Findings, Splits
from pipeline.audit.catalog import CHECK_TITLES, SEVERITY_RANK, title_of
from pipeline.audit.config import AuditConfig
from pipeline.audit.gallery import Picture, picture_case, picture_finding
from pipeline.audit.terminal import count_findings, group_findings, verdict_line
from pipeline.audit.view import DatasetView
from pipeline.audit.waivers import describe_waiver
from pipeline.reporting.page import format_number, render_page
from pipeline.reporting.pictures import class_color

KINDS = {"error": "bad", "warning": "warn", "info": "info"}
VERDICT_KINDS = {"errors": "bad", "warnings": "warn", "clean": "good"}
_MAX_PICTURES_PER_CHECK = 2
_N_SAMPLE_CASES = 3
_SPLIT_CLASSES = 12

Cell = object
Table = dict[str, object]


@dataclass(frozen=True)
class ReportInput:
    """What the report shows.

    Args:
        dataset: All cases with their rows.
        findings: Findings with waivers applied.
        splits: Folds.
        config: Thresholds; limits the number of pictures.
        work_root: Where the stored volumes are, for the pictures.
    """

    dataset: DatasetView
    findings: Findings
    splits: Splits
    config: AuditConfig
    work_root: Path

    @property
    def cases(self) -> list[CaseFingerprint]:
        """Fingerprints of the usable cases."""
        return [row.fingerprint for row in self.dataset.rows if row.fingerprint is not None]


def render_report(report: ReportInput) -> str:
    """Make the page.

    Args:
        report: What to show.

    Returns:
        HTML that needs no other file and no network.
    """
    manifest, findings = report.dataset.manifest, report.findings
    finding_pictures = _finding_pictures(report)
    return render_page(
        "audit.html.j2",
        {
            "title": f"Label audit: {manifest.name}",
            "subtitle": verdict_line(findings),
            "verdict": {"kind": VERDICT_KINDS[findings.verdict], "text": findings.verdict},
            "cards": _cards(report),
            "facts": _facts(report),
            "findings": _findings_table(findings.findings),
            "checks": _checks_table(findings),
            "finding_pictures": finding_pictures,
            "sample_pictures": _sample_pictures(report, len(finding_pictures)),
            "classes": _class_table(report),
            "strips": _volume_strips(report),
            "geometry": _geometry_table(report.cases),
            "intensities": _intensity_table(report),
            "splits": _splits_table(report),
            "splits_method": report.splits.method,
            "splits_seed": report.splits.seed,
            "n_groups": len(set(report.splits.groups.values())),
            "waivers": [describe_waiver(waiver) for waiver in report.config.waivers],
            "unused_waivers": findings.unused_waivers,
        },
    )


def _cards(report: ReportInput) -> list[dict[str, object]]:
    manifest, findings = report.dataset.manifest, report.findings
    n_usable = len(report.cases)
    n_waived = sum(f.waived is not None for f in findings.findings)
    return [
        {"label": "Cases", "value": len(manifest.cases), "note": f"{n_usable} usable"},
        {"label": "Errors", "value": count_findings(findings, "error"), "note": "stop training"},
        {"label": "Warnings", "value": count_findings(findings, "warning"), "note": "to review"},
        {"label": "Waived", "value": n_waived, "note": "accepted with a reason"},
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


def _findings_table(findings: Sequence[Finding]) -> Table:
    rows = [
        [
            _severity_cell(finding),
            finding.check_id,
            finding.case_id or "all",
            finding.class_name or "",
            finding.message,
            finding.fix if finding.waived is None else f"waived: {finding.waived}",
        ]
        for group in group_findings(findings)
        for finding in group
    ]
    columns = ("Severity", "Check", "Case", "Class", "What was found", "What to do")
    return {"columns": [{"name": name} for name in columns], "rows": rows}


def _severity_cell(finding: Finding) -> Cell:
    if finding.waived is not None:
        return {"text": "waived", "kind": "plain", "sort": 9}
    rank = SEVERITY_RANK[finding.severity]
    return {"text": finding.severity, "kind": KINDS[finding.severity], "sort": rank}


def _checks_table(findings: Findings) -> Table:
    by_check: dict[str, Counter[str]] = {check_id: Counter() for check_id in CHECK_TITLES}
    for finding in findings.findings:
        key = finding.severity if finding.waived is None else "waived"
        by_check.setdefault(finding.check_id, Counter())[key] += 1
    rows = []
    for check_id, counts in by_check.items():
        worst = next((s for s in SEVERITY_RANK if counts[s]), None)
        kind = KINDS[worst] if worst else "good"
        text = ", ".join(f"{n} {s}" for s, n in counts.items()) or "passed"
        sort = SEVERITY_RANK[worst] if worst else 5
        rows.append([check_id, title_of(check_id), {"text": text, "kind": kind, "sort": sort}])
    return {"columns": [{"name": n} for n in ("Check", "About", "Result")], "rows": rows}


def _finding_pictures(report: ReportInput) -> list[Picture]:
    """Pictures of the worst findings; a few of each check, so that none hides another."""
    chosen: list[Finding] = []
    for group in group_findings(report.findings.findings):
        with_case = [f for f in group if f.case_id and f.severity != "info"]
        chosen += with_case[:_MAX_PICTURES_PER_CHECK]
    records = {record.case_id: record for record in report.dataset.manifest.cases}
    pictures: list[Picture] = []
    for finding in chosen:
        record = records.get(finding.case_id or "")
        if len(pictures) >= report.config.max_pictures:
            break
        if record is not None and record.image is not None:
            task = report.dataset.manifest.task
            pictures.append(picture_finding(finding, record, task, report.work_root))
    return pictures


def _sample_pictures(report: ReportInput, n_already: int) -> list[Picture]:
    """The cases without errors with the least, the median and the most foreground."""
    has_error = {f.case_id for f in report.findings.findings if f.severity == "error"}
    shown = [c for c in report.cases if sum(c.n_class_voxels) and c.case_id not in has_error]
    cases = sorted(shown, key=lambda c: (sum(c.n_class_voxels), c.case_id))
    n_free = min(_N_SAMPLE_CASES, report.config.max_pictures - n_already)
    if not cases or n_free <= 0:
        return []
    words = ("least foreground", "median foreground", "most foreground")
    places = dict(zip((0, len(cases) // 2, len(cases) - 1), words, strict=True))
    records = {record.case_id: record for record in report.dataset.manifest.cases}
    return [
        picture_case(
            records[cases[place].case_id], report.dataset.manifest.task, report.work_root, word
        )
        for place, word in list(places.items())[:n_free]
    ]


def _volumes_ml(report: ReportInput) -> list[list[float]]:
    """Per class, the volumes of the cases that show it, in ml."""
    return [
        [
            case.n_class_voxels[position] * float(np.prod(case.spacing_mm)) / 1000
            for case in report.cases
            if case.n_class_voxels[position]
        ]
        for position in range(len(report.dataset.manifest.task.classes))
    ]


def _class_table(report: ReportInput) -> Table:
    rows_with_label = [row for row in report.dataset.rows if row.n_voxels]
    n_background = sum(row.n_voxels - sum(row.n_class_voxels) for row in rows_with_label)
    rows = []
    for one, volumes_ml in zip(
        report.dataset.manifest.task.classes, _volumes_ml(report), strict=True
    ):
        n_voxels = sum(row.n_class_voxels[one.index - 1] for row in rows_with_label)
        n_present = sum(row.n_class_voxels[one.index - 1] > 0 for row in rows_with_label)
        rows.append(
            [
                {"text": one.name, "color": class_color(one.index)},
                ", ".join(str(v) for v in one.source_values),
                {"text": f"{n_present} of {len(rows_with_label)}", "sort": n_present},
                n_voxels,
                *(_rounded(f(volumes_ml)) if volumes_ml else None for f in _MIN_MEDIAN_MAX),
                _rounded(n_background / n_voxels) if n_voxels else None,
            ]
        )
    names = ("Class", "Value", "In cases", "Voxels", "Min ml", "Median ml", "Max ml")
    columns = [*(_column(name, is_number=name not in {"Class", "Value"}) for name in names)]
    columns.append(_column("Background : class", is_number=True))
    return {"columns": columns, "rows": rows}


_MIN_MEDIAN_MAX: tuple[Callable[[Sequence[float]], float], ...] = (
    min,
    lambda values: float(np.median(values)),
    max,
)


def _column(name: str, *, is_number: bool = False) -> dict[str, object]:
    return {"name": name, "is_number": is_number}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _volume_strips(report: ReportInput) -> dict[str, object]:
    """Positions in percent of a logarithmic axis for one dot per case and class."""
    volumes_ml = _volumes_ml(report)
    pooled = [volume for one in volumes_ml for volume in one]
    if not pooled:
        return {"rows": [], "ticks": []}
    low, high = np.log10(min(pooled) * 0.9), np.log10(max(pooled) * 1.1)

    def place(volume_ml: float) -> float:
        return round(100 * float((np.log10(volume_ml) - low) / (high - low)), 2)

    return {
        "ticks": [
            {"at": place(tick), "text": format_number(tick)} for tick in _ticks_ml(low, high)
        ],
        "rows": [
            {
                "name": one.name,
                "color": class_color(one.index),
                "dots": [place(v) for v in volumes],
                "median": place(float(np.median(volumes))) if volumes else None,
            }
            for one, volumes in zip(report.dataset.manifest.task.classes, volumes_ml, strict=True)
        ],
    }


def _ticks_ml(low: float, high: float) -> list[float]:
    """Round volumes between two powers of ten: 1, 2, 5 times a power, or powers alone if many."""
    powers = [10.0**p for p in range(int(np.floor(low)), int(np.ceil(high)) + 1)]
    steps = (1.0, 2.0, 5.0) if high - low < 2.5 else (1.0,)
    ticks = [step * power for power in powers for step in steps]
    return [tick for tick in ticks if low <= np.log10(tick) <= high]


def _geometry_table(cases: Sequence[CaseFingerprint]) -> Table:
    rows: list[list[Cell]] = []
    for axis, name in enumerate(("right-left", "anterior-posterior", "superior-inferior")):
        spacings = [case.spacing_mm[axis] for case in cases]
        n_voxels = [float(case.shape[axis]) for case in cases]
        extents = [s * n for s, n in zip(spacings, n_voxels, strict=True)]
        rows.append([name, _span_cell(spacings), _span_cell(n_voxels), _span_cell(extents)])
    names = ("Spacing, mm", "Voxels", "Extent, mm")
    columns = [_column("Axis"), *(_column(name, is_number=True) for name in names)]
    return {"columns": columns, "rows": rows}


def _span_cell(values: Sequence[float]) -> Cell:
    """Median with smallest and largest value; one number if all are equal."""
    if not values:
        return None
    low, middle, high = (_rounded(f(values)) for f in _MIN_MEDIAN_MAX)
    text = format_number(middle)
    if low != high:
        text += f" ({format_number(low)} to {format_number(high)})"
    return {"text": text, "sort": middle}


def _intensity_table(report: ReportInput) -> Table:
    channels = report.dataset.manifest.task.channels
    rows: list[list[Cell]] = []
    for position, channel in enumerate(channels):
        statistics = [
            case.foreground[position] for case in report.cases if position < len(case.foreground)
        ]
        statistics = [s for s in statistics if s.n_voxels]
        values = [(s.quantiles[0], s.mean, s.std, s.quantiles[-1]) for s in statistics]
        middle = np.median(values, axis=0) if values else np.zeros(4)
        means = [s.mean for s in statistics]
        cells = [_rounded(float(v)) for v in middle] if values else [None] * 4
        span = f"{format_number(min(means))} to {format_number(max(means))}" if means else None
        rows.append([channel.name, channel.modality, *cells, span])
    names = ("Minimum", "Mean", "Standard deviation", "Maximum", "Case means from")
    columns = [_column("Channel"), _column("Modality")]
    columns += [_column(name, is_number=True) for name in names]
    return {"columns": columns, "rows": rows}


def _splits_table(report: ReportInput) -> Table:
    has_class = {row.case_id: row.n_class_voxels for row in report.dataset.rows}
    names = report.dataset.manifest.task.class_names[:_SPLIT_CLASSES]
    rows = [
        [
            str(number),
            len(fold.train),
            len(fold.validation),
            *(sum(has_class[i][p] > 0 for i in fold.validation) for p in range(len(names))),
        ]
        for number, fold in enumerate(report.splits.folds)
    ]
    columns = [_column("Fold"), _column("Train", is_number=True)]
    columns.append(_column("Validation", is_number=True))
    columns += [_column(f"with {name}", is_number=True) for name in names]
    return {"columns": columns, "rows": rows}
