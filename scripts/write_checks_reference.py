"""Write docs/reference/checks.md: every check with its limits, its traps and how often it errs.

    .venv/bin/python scripts/write_checks_reference.py

Titles come from the catalog, limits from the settings, false alarms from what
benchmarks/false_alarms.py last wrote; only the words of check_notes.py are written by hand.
"""

import json
from pathlib import Path
from typing import Any

from check_notes import NOTES

from pipeline.audit.catalog import CHECK_TITLES
from pipeline.audit.config import AuditConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "checks.md"
ALARMS = ROOT / "benchmarks" / "false_alarms.json"
FAMILIES = {
    "F": "F - files and image values",
    "G": "G - grids, and where the label lies on them",
    "E": "E - label values",
    "S": "S - structures: sizes, pieces, places",
    "D": "D - between cases and folds",
    "P": "P - the tensors that reach the loss (preflight of `train`, and its guard)",
}


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(json.loads(ALARMS.read_text())), encoding="utf-8")


def page(alarms: dict[str, Any]) -> str:
    """The whole page as Markdown.

    Args:
        alarms: Per dataset the number of cases, and per check and severity the findings and cases.

    Returns:
        Text with one table per family.
    """
    names = ", ".join(f"{name} ({found['n_cases']} cases)" for name, found in alarms.items())
    parts = [
        "# Every check of the label audit\n",
        "<!-- Written by scripts/write_checks_reference.py from the code: do not edit. -->\n",
        "Limits are settings under `audit`, shown with their defaults; `--set audit.KEY=VALUE` "
        "changes one. Outliers are robust: distance from the median over the median absolute "
        "deviation. A *waiver* (check, case, reason) accepts a finding that was looked at.\n",
        f"**False alarms** were counted on sets that are taken to be clean: {names}. Every error "
        "or warning counts, as findings / cases they name (a finding of the whole dataset names "
        "none), although some are true; see `benchmarks/false_alarms.py`. Family P was not "
        "counted there.\n",
    ]
    for letter, title in FAMILIES.items():
        ids = [check_id for check_id in CHECK_TITLES if check_id[0] == letter]
        parts.append(_table(title, ids, alarms if letter != "P" else {}))
    return "\n".join(parts)


def _table(title: str, ids: list[str], alarms: dict[str, Any]) -> str:
    columns = ["check", "severity", "fires on", "spares", "limits", *alarms]
    lines = [f"## {title}\n", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for check_id in ids:
        note = NOTES[check_id]
        limits = "<br>".join(f"`{key}` {_default(key)}" for key in note.keys)
        counts = [_alarms(check_id, found) for found in alarms.values()]
        what = f"**{check_id}** {CHECK_TITLES[check_id]}"
        cells = [what, note.severity, note.fires, note.spares, limits, *counts]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _default(key: str) -> str:
    """Default of a setting; empty for a group of settings."""
    value: object = AuditConfig()
    for name in key.split("."):
        value = getattr(value, name)
    if isinstance(value, tuple):
        return ", ".join(f"{one:g}" for one in value) if value else "none"
    is_plain = isinstance(value, bool | str | int)
    return str(value).lower() if is_plain else (f"{value:g}" if isinstance(value, float) else "")


def _alarms(check_id: str, found: dict[str, Any]) -> str:
    """Errors and warnings of one check on one dataset."""
    shown = []
    for severity in ("error", "warning"):
        count = found["checks"].get(f"{check_id} {severity}")
        if count:
            n_cases = count["n_cases"]
            share = f" ({100 * n_cases / found['n_cases']:.1f} %)" if n_cases else ""
            shown.append(f"{severity} {count['n_findings']} / {n_cases}{share}")
    return "<br>".join(shown) or "0"


if __name__ == "__main__":
    main()
