"""S10: left and right, as the names of the classes say and as the voxels lie."""

import re
from dataclasses import dataclass

from pipeline.artifacts import Finding, Task
from pipeline.audit.checks.habits import MAX_SINGLE, Seen, classes_seen, middle_of, voxel_evidence
from pipeline.audit.checks.types import DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.view import DatasetView

# Words of a name: runs of letters or digits, split where a capital follows a small letter.
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SIDES = {"left": "left", "lt": "left", "right": "right", "rt": "right"}
# Single letters count only in names without such a word: L4 is a vertebra.
_LETTERS = {"l": "left", "r": "right"}


@dataclass(frozen=True)
class SidePair:
    """Two classes that differ in nothing but their side.

    Args:
        left: Name of the class on the patient's left.
        right: Name of the class on the patient's right.
    """

    left: str
    right: str


def find_side_pairs(task: Task) -> tuple[SidePair, ...]:
    """Find the classes whose names differ only in left and right.

    Args:
        task: The classes, such as `LeftParotid` and `RightParotid` or `kidney_l` and `kidney_r`.

    Returns:
        The pairs, in the order of the left classes.
    """
    sided: dict[tuple[str, tuple[str, ...]], str] = {}
    for name in task.class_names:
        side, rest = side_of(name)
        if side is not None:
            sided[side, rest] = name
    return tuple(
        SidePair(name, sided["right", rest])
        for (side, rest), name in sided.items()
        if side == "left" and ("right", rest) in sided
    )


def side_of(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Side in a class name.

    Args:
        name: Name of a class.

    Returns:
        "left", "right" or None if the name says neither or both, and the other words.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    known = _SIDES if any(word in _SIDES for word in words) else _LETTERS
    sides = {known[word] for word in words if word in known}
    rest = tuple(word for word in words if word not in known)
    return (sides.pop() if len(sides) == 1 else None), rest


def check_sides(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """S10: the left one of a pair lies to the right of the right one."""
    seen = dict(classes_seen(dataset))
    findings: list[Finding] = []
    for pair in find_side_pairs(dataset.manifest.task):
        rights = {one.case_id: one for one in seen.get(pair.right, [])}
        both = [
            (one, rights[one.case_id]) for one in seen.get(pair.left, []) if one.case_id in rights
        ]
        swapped = [
            (left, right)
            for left, right in both
            if _distance_mm(left, right) > config.anatomy.min_side_gap_mm
        ]
        # Worst first, so that the picture shows the clearest case.
        swapped.sort(key=lambda two: -_distance_mm(*two))
        found = [_swapped(pair, left, right, config) for left, right in swapped]
        is_everywhere = len(found) > MAX_SINGLE and 2 * len(found) > len(both)
        findings += [_all_swapped(found, len(both))] if is_everywhere else found
    return findings


def _distance_mm(left: Seen, right: Seen) -> float:
    """How far left lies to the right of right; world x runs to the patient's right."""
    return left.measures.centroid_mm[0] - right.measures.centroid_mm[0]


def _swapped(pair: SidePair, left: Seen, right: Seen, config: AuditConfig) -> Finding:
    distance_mm = _distance_mm(left, right)
    return Finding(
        check_id="S10",
        severity="error",
        case_id=left.case_id,
        class_name=pair.left,
        value=round(distance_mm, 1),
        threshold=config.anatomy.min_side_gap_mm,
        message=f"'{pair.left}' lies {distance_mm:.0f} mm to the patient's right of "
        f"'{pair.right}': left and right are swapped, or the volume is mirrored",
        fix="if the image is mirrored too, correct the file's orientation; if only the names are "
        "wrong, swap the two values in the label",
        evidence=voxel_evidence(middle_of(left.measures)) | {"right_class": pair.right},
    )


def _all_swapped(found: list[Finding], n_cases: int) -> Finding:
    worst = found[0]
    return worst.model_copy(
        update={
            "message": f"in {len(found)} of {n_cases} cases, most of all {worst.case_id}: "
            f"{worst.message}",
            "fix": "swap the two names in task.classes, unless the orientation in the file headers "
            "is wrong for the whole dataset",
            "evidence": worst.evidence | {"n_cases": len(found)},
        }
    )


DATASET_CHECKS: tuple[DatasetCheck, ...] = (check_sides,)
