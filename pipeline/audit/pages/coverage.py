"""What was checked, what could not be, and what was accepted."""

from collections import Counter

from pipeline.artifacts import Findings
from pipeline.audit.catalog import CHECK_TITLES, SEVERITY_RANK, title_of
from pipeline.audit.pages.findings import FAMILIES, KINDS, state_of
from pipeline.audit.pages.tables import Cell, Table, column
from pipeline.audit.view import CaseRow, DatasetView

# Robust statistics need this many cases (reference 1.5); fewer are not compared.
MIN_COHORT = 10
# These read the tensors that reach the loss; they run when a training starts.
_LATER_FAMILIES = frozenset({"P"})


def checks_table(findings: Findings) -> Table:
    """Every check with its result.

    Args:
        findings: All findings.

    Returns:
        One row per check.
    """
    by_check: dict[str, Counter[str]] = {check_id: Counter() for check_id in CHECK_TITLES}
    for finding in findings.findings:
        by_check.setdefault(finding.check_id, Counter())[state_of(finding)] += 1
    rows: list[list[Cell]] = [
        [check_id, FAMILIES.get(check_id[:1], ""), title_of(check_id), _result(check_id, counts)]
        for check_id, counts in by_check.items()
    ]
    return {"columns": [column(n) for n in ("Check", "Family", "About", "Result")], "rows": rows}


def _result(check_id: str, counts: Counter[str]) -> Cell:
    if not counts and check_id[:1] in _LATER_FAMILIES:
        return {"text": "at the start of train", "kind": "plain", "sort": 6}
    worst = next((severity for severity in SEVERITY_RANK if counts[severity]), None)
    text = ", ".join(f"{n:,} {state}" for state, n in counts.items()) or "nothing found"
    if worst is None:
        return {"text": text, "kind": "good", "sort": 5}
    return {"text": text, "kind": KINDS[worst], "sort": SEVERITY_RANK[worst]}


def not_assessable(dataset: DatasetView) -> Table:
    """What the data did not allow to check: silence there is no clean bill.

    Args:
        dataset: All cases.

    Returns:
        One row per reason, with the number of cases.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    for row in dataset.rows:
        for reason in _reasons(row):
            reasons[reason] += 1
    n_usable = sum(row.fingerprint is not None for row in dataset.rows)
    if n_usable < MIN_COHORT:
        text = f"fewer than {MIN_COHORT} usable cases to compare with"
        reasons["Outliers: volume, intensity, voxel size", text] = n_usable
    rows: list[list[Cell]] = [
        [what, why, {"text": f"{n:,} of {len(dataset.rows):,}", "sort": n}]
        for (what, why), n in reasons.most_common()
    ]
    columns = [column("What"), column("Why"), column("Cases", is_number=True)]
    return {"columns": columns, "rows": rows}


def _reasons(row: CaseRow) -> list[tuple[str, str]]:
    """What could not be looked at in one case."""
    if row.fingerprint is None:
        return [("Everything that needs image and label together", "the case cannot be used")]
    found = []
    profile = row.measures.alignment
    if profile is None:
        found.append(("Shift and mirror (G13, G14)", "no label map on the grid of the image"))
    elif not profile.is_assessable:
        found.append(("Shift and mirror (G13, G14)", profile.reason))
    if not row.measures.readers:
        found.append(("Second reader (F14)", "the files were not read a second time"))
    return found
