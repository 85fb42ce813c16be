"""The findings as the report shows them: one group per check, with cards for the worst."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.artifacts import Finding
from pipeline.audit.catalog import title_of
from pipeline.audit.pages.distributions import distribution_of
from pipeline.audit.terminal import group_findings
from pipeline.audit.view import DatasetView
from pipeline.reporting.page import format_number
from pipeline.reporting.strips import StripChart

KINDS = {"error": "bad", "warning": "warn", "info": "info", "waived": "plain"}
FAMILIES = {
    "F": "files and images",
    "G": "geometry",
    "E": "label values",
    "S": "structures",
    "D": "dataset and folds",
    "P": "after the transforms",
    "T": "advice",
}
MAX_CARDS_PER_CHECK = 2
_MAX_NAMED = 3


@dataclass(frozen=True)
class Line:
    """One finding in the list of its check; all texts, empty where there is none."""

    case_id: str
    class_name: str
    message: str
    measured: str
    limit: str
    place: str
    fix: str


@dataclass(frozen=True)
class Card:
    """One finding with its picture.

    Args:
        finding: The finding.
        line: Its texts.
        uri: The picture as a data address; empty if there is none.
        viewer_key: Case in the viewer, None if it is not embedded.
        chart: The case among all cases, None if the check compares no number.
    """

    finding: Finding
    line: Line
    uri: str = ""
    viewer_key: str | None = None
    chart: StripChart | None = None


@dataclass(frozen=True)
class Group:
    """All findings of one check with one severity.

    Args:
        check_id: The check.
        title: What it is about.
        state: "error", "warning", "info" or "waived".
        kind: Badge color name, as in macros.html.j2.
        concerned: A few names of cases or classes.
        message: What was found, by the example of the first.
        fix: What to do, if all findings say the same; else it stands in the lines.
        cards: The worst ones with pictures.
        lines: All of them.
    """

    check_id: str
    title: str
    state: str
    kind: str
    concerned: str
    message: str
    fix: str
    cards: tuple[Card, ...]
    lines: tuple[Line, ...]

    @property
    def key(self) -> str:
        """Name of the group in the page."""
        return f"{self.check_id}-{self.state}"

    @property
    def family(self) -> str:
        """First letter of the check."""
        return self.check_id[:1]


def state_of(finding: Finding) -> str:
    """Severity of a finding, or "waived"."""
    return "waived" if finding.waived is not None else finding.severity


def choose_cards(findings: Sequence[Finding], max_cards: int) -> list[Finding]:
    """The findings that get a picture: a few of each check, so that none hides another.

    Args:
        findings: All findings.
        max_cards: How many at most.

    Returns:
        The worst of every check, worst check first, then the second of every check; only findings
        of a case, no plain information.
    """
    worst: list[list[Finding]] = []
    for group in group_findings(findings):
        with_case = [f for f in group if f.case_id and f.severity != "info"]
        by_case: dict[str | None, Finding] = {}
        for finding in sorted(with_case, key=_distance, reverse=True):
            by_case.setdefault(finding.case_id, finding)
        worst.append(list(by_case.values()))
    rounds = range(MAX_CARDS_PER_CHECK)
    return [found[turn] for turn in rounds for found in worst if turn < len(found)][:max_cards]


def make_groups(
    findings: Sequence[Finding], cards: Mapping[int, Card], dataset: DatasetView
) -> list[Group]:
    """Order findings by check, worst first.

    Args:
        findings: All findings.
        cards: Pictures by identity (`id`) of the finding they show.
        dataset: All cases, to show where one stands among them.

    Returns:
        One group per check and severity.
    """
    groups = []
    for found in group_findings(findings):
        first = found[0]
        fixes = {_fix_of(finding) for finding in found}
        state = state_of(first)
        shown = [cards[id(finding)] for finding in found if id(finding) in cards]
        groups.append(
            Group(
                check_id=first.check_id,
                title=title_of(first.check_id),
                state=state,
                kind=KINDS[state],
                concerned=_concerned(found),
                message=first.message,
                fix=fixes.pop() if len(fixes) == 1 else "",
                cards=tuple(
                    replace(card, chart=distribution_of(card.finding, dataset)) for card in shown
                ),
                lines=tuple(line_of(finding) for finding in found),
            )
        )
    return groups


def filter_choices(groups: Sequence[Group]) -> dict[str, list[tuple[str, str]]]:
    """What the list can be narrowed to, as (value, text) with counts.

    Args:
        groups: All groups.

    Returns:
        Choices by state, family and check; only those that occur.
    """
    states: Counter[str] = Counter()
    families: Counter[str] = Counter()
    for group in groups:
        states[group.state] += len(group.lines)
        families[group.family] += len(group.lines)
    checks = sorted({(group.check_id, group.title) for group in groups})
    return {
        "states": [(state, f"{state} {states[state]:,}") for state in KINDS if states[state]],
        "families": [
            (letter, f"{letter}: {text} ({families[letter]:,})")
            for letter, text in FAMILIES.items()
            if families[letter]
        ],
        "checks": [(check_id, f"{check_id} {title}") for check_id, title in checks],
    }


def line_of(finding: Finding) -> Line:
    """The texts of one finding."""
    return Line(
        case_id=finding.case_id or "",
        class_name=finding.class_name or "",
        message=finding.message,
        measured=_text(finding.value),
        limit=_text(finding.threshold),
        place=_place(finding),
        fix=_fix_of(finding),
    )


def _text(value: float | int | str | None) -> str:
    return "" if value is None else format_number(value)


def _place(finding: Finding) -> str:
    """Where it is: voxel, slice, file or other case, as far as the check knows."""
    names = {"voxel_ras": "voxel", "slice": "slice", "same_as": "like", "file": ""}
    parts = []
    for key, name in names.items():
        value = finding.evidence.get(key)
        if value is not None:
            text = ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
            parts.append(f"{name} {text}".strip())
    return "; ".join(parts)


def _fix_of(finding: Finding) -> str:
    return finding.fix if finding.waived is None else f"Waived: {finding.waived}"


def _concerned(found: Sequence[Finding]) -> str:
    cases = list(dict.fromkeys(f.case_id for f in found if f.case_id))
    classes = list(dict.fromkeys(f.class_name for f in found if f.class_name))
    names = cases or classes
    more = len(names) - _MAX_NAMED
    text = ", ".join(names[:_MAX_NAMED])
    return f"{text} and {more:,} more" if more > 0 else text


def _distance(finding: Finding) -> float:
    """How far beyond its threshold a finding is; 0 where that cannot be said."""
    value, threshold = finding.value, finding.threshold
    if isinstance(value, str) or isinstance(threshold, str) or not value or not threshold:
        return 0.0
    if value * threshold <= 0 or not math.isfinite(value):
        return 0.0
    return abs(math.log(value / threshold))
