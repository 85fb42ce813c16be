"""Which cases went worst: the ones a reader wants to see first."""

import math
from collections.abc import Sequence

from pipeline.metrics.policy import EmptyPolicy
from pipeline.metrics.scores import CaseScores

# Regions stand beside the classes they unite; a mean over both would count voxels twice.
Names = Sequence[str]


def case_dice(case: CaseScores, policy: EmptyPolicy, class_names: Names) -> float | None:
    """Mean Dice of one case over the classes that have a value under the policy."""
    values = [dice for dice, _ in _values(case, policy, class_names)]
    return math.fsum(values) / len(values) if values else None


def worst_first(
    cases: Sequence[CaseScores], policy: EmptyPolicy, class_names: Names
) -> tuple[CaseScores, ...]:
    """Order cases by mean Dice, lowest first; cases without any value come last."""

    def key(case: CaseScores) -> tuple[float, str]:
        dice = case_dice(case, policy, class_names)
        return (math.inf if dice is None else dice), case.case_id

    return tuple(sorted(cases, key=key))


def worst_class(
    case: CaseScores, policy: EmptyPolicy, class_names: Names
) -> tuple[str, float] | None:
    """Name and Dice of the class that went worst in a case; None if none has a value."""
    values = _values(case, policy, class_names)
    if not values:
        return None
    dice, name = min(values)
    return name, dice


def worst_case(
    cases: Sequence[CaseScores], class_name: str, policy: EmptyPolicy
) -> tuple[str, float] | None:
    """Id and Dice of the case where a class went worst; None if none has a value."""
    values = []
    for case in cases:
        scores = case.of_class(class_name)
        dice = None if scores is None else policy.value(scores.dice)
        if dice is not None:
            values.append((dice, case.case_id))
    if not values:
        return None
    dice, case_id = min(values)
    return case_id, dice


def _values(case: CaseScores, policy: EmptyPolicy, class_names: Names) -> list[tuple[float, str]]:
    scored = [c for c in case.classes if c.class_name in class_names]
    return [(v, c.class_name) for c in scored if (v := policy.value(c.dice)) is not None]
