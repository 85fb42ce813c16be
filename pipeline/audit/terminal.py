"""The findings as a table for people at a terminal."""

import sys
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.artifacts import Finding, Findings
from pipeline.audit.catalog import SEVERITY_RANK, title_of

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_SIGNS = {"error": "✕ error", "warning": "▲ warning", "info": "· info"}
# Without a terminal there is no width to fit; this one keeps a message on few lines.
_PLAIN_WIDTH = 130
_MAX_NAMED = 4


def print_findings(findings: Findings, *, is_training: bool = True) -> None:
    """Write the findings to stdout, one line per check, worst first, and the verdict.

    Args:
        findings: Result of the audit.
        is_training: Whether training could follow, which errors then stop.
    """
    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False)
    groups = group_findings(findings.findings)
    if groups:
        console.print(_table(groups))
    line = verdict_line(findings, is_training=is_training)
    console.print(Text(line, style=_verdict_style(findings)))


def group_findings(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that say the same, together: not waived first, errors first, most first."""
    groups: dict[tuple[bool, int, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        rank = SEVERITY_RANK[finding.severity]
        groups[finding.waived is not None, rank, finding.check_id].append(finding)
    order = sorted(groups, key=lambda key: (key[0], key[1], -len(groups[key]), key[2]))
    return [groups[key] for key in order]


def count_findings(findings: Findings, severity: str) -> int:
    """Findings of one severity that are not waived."""
    return sum(f.severity == severity and f.waived is None for f in findings.findings)


def verdict_line(findings: Findings, *, is_training: bool = True) -> str:
    """The verdict in one line; it tells that errors stop the training, if one could follow."""
    n_errors = count_findings(findings, "error")
    n_warnings = count_findings(findings, "warning")
    n_waived = sum(f.waived is not None for f in findings.findings)
    line = f"{_plural(findings.n_cases, 'case')}: "
    line += "clean" if findings.verdict == "clean" else _plural(n_errors, "error")
    line += "" if findings.verdict == "clean" else f", {_plural(n_warnings, 'warning')}"
    line += f", {n_waived} waived" if n_waived else ""
    is_refused = is_training and n_errors > 0
    return line + (". Training will refuse until the errors are gone." if is_refused else "")


def _table(groups: list[list[Finding]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True)
    for name in ("check", "severity", "n"):
        table.add_column(name, no_wrap=True, justify="right" if name == "n" else "left")
    table.add_column("what", ratio=1)
    for group in groups:
        first = group[0]
        severity = Text(_SIGNS[first.severity], style=_STYLES[first.severity])
        if first.waived is not None:
            severity = Text("waived", style="dim")
        table.add_row(first.check_id, severity, str(len(group)), _describe(group))
    return table


def _describe(group: list[Finding]) -> Text:
    first = group[0]
    text = Text(title_of(first.check_id), style="bold")
    cases = list(dict.fromkeys(f.case_id for f in group if f.case_id))
    classes = list(dict.fromkeys(f.class_name for f in group if f.class_name))
    concerned = cases or classes
    if concerned:
        named = ", ".join(concerned[:_MAX_NAMED])
        more = len(concerned) - _MAX_NAMED
        text.append(f"  {named}{f' and {more} more' if more > 0 else ''}", style="not bold cyan")
    text.append(f"\n{first.message}", style="not bold")
    if first.waived is not None:
        text.append(f"\nwaived: {first.waived}", style="not bold dim")
    elif first.severity != "info":
        text.append(f"\nfix: {first.fix}", style="not bold dim")
    return text


def _verdict_style(findings: Findings) -> str:
    return {"errors": "bold red", "warnings": "bold yellow", "clean": "bold green"}[
        findings.verdict
    ]


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
