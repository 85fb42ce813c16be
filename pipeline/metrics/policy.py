"""What a class that is empty in one of the two maps counts, as different communities define it.

Dice is a matter of definition when a class is missing from the reference or the prediction, and
published numbers differ by more than models do because of it. A policy says what such a case
counts and how cases become one number; scores themselves stay as measured.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.metrics.overlap import Score

PolicyName = Literal["strict", "nnunet", "kits", "brats", "monai", "totalseg"]
# What the foreground mean does with a class that has no value in any case.
EmptyClass = Literal["leave_out", "undefined"]
# "classes": mean over cases per class, then over classes; "cases": the other way round.
FirstMean = Literal["classes", "cases"]


@dataclass(frozen=True)
class StandIns:
    """What a score counts that an empty mask leaves without an ordinary value.

    Args:
        absent: For a class in neither map; None leaves the case out of the average.
        missed: For a class in the reference only.
        hallucinated: For a class in the prediction only.
    """

    absent: float | None = None
    missed: float | None = None
    hallucinated: float | None = None

    def value(self, score: Score) -> float | None:
        """The number a score enters averages with; None leaves it out."""
        match score.status:
            case "absent":
                return self.absent
            case "missed":
                return self.missed
            case "hallucinated":
                return self.hallucinated
            case _:
                return score.value


_LEFT_OUT = StandIns()
_ZERO_UNLESS_ABSENT = StandIns(missed=0.0, hallucinated=0.0)
_ONE_IF_ABSENT = StandIns(absent=1.0, missed=0.0, hallucinated=0.0)
# Of BraTS: the diagonal of its 240 x 240 x 155 mm images, rounded up.
_BRATS_PENALTY_MM = 374.0


@dataclass(frozen=True)
class EmptyPolicy:
    """What empty masks count and how scores are averaged.

    Args:
        name: Name in configurations and reports.
        absent: Score of a class in neither map; None leaves the case out of the average.
        missed: Score of a class in the reference only.
        hallucinated: Score of a class in the prediction only.
        mean_without_values: Mean of a class with no value in any case.
        empty_class: What that class does to the foreground mean.
        average_first: Order of the two averages of the foreground mean.
        surface_dice: What empty masks count in surface Dice, range [0, 1].
        distance_mm: What empty masks count in surface distances (HD95, average), in mm.
        description: One sentence for reports.
    """

    name: PolicyName
    absent: float | None
    missed: float | None
    hallucinated: float | None
    description: str
    mean_without_values: float | None = None
    empty_class: EmptyClass = "leave_out"
    average_first: FirstMean = "classes"
    surface_dice: StandIns = _ZERO_UNLESS_ABSENT
    distance_mm: StandIns = _LEFT_OUT

    def value(self, score: Score) -> float | None:
        """The number an overlap score (Dice, IoU) enters averages with; None leaves it out."""
        return StandIns(self.absent, self.missed, self.hallucinated).value(score)


# Sources: the released evaluation code of each, as read in 2026; only nnU-Net and MONAI are
# compared by tests. Lesion-wise parts of BraTS are not voxel scores and not reproduced here.
# nnU-Net has no surface metrics and KiTS no distances: there they follow "strict".
POLICIES: tuple[EmptyPolicy, ...] = (
    EmptyPolicy(
        name="strict",
        absent=None,
        missed=0.0,
        hallucinated=0.0,
        description="Absent in both: left out and counted. Missed or hallucinated: 0 (distances: "
        "undefined and counted). A class without any value is left out of the foreground mean.",
    ),
    EmptyPolicy(
        name="nnunet",
        absent=None,
        missed=0.0,
        hallucinated=0.0,
        empty_class="undefined",
        description="As strict, but one class without any value makes the foreground mean "
        "undefined (nnU-Net writes NaN there).",
    ),
    EmptyPolicy(
        name="kits",
        absent=1.0,
        missed=0.0,
        hallucinated=0.0,
        surface_dice=_ONE_IF_ABSENT,
        description="Absent in both counts 1; missed or hallucinated 0.",
    ),
    EmptyPolicy(
        name="brats",
        absent=1.0,
        missed=0.0,
        hallucinated=0.0,
        surface_dice=_ONE_IF_ABSENT,
        distance_mm=StandIns(absent=0.0, missed=_BRATS_PENALTY_MM, hallucinated=_BRATS_PENALTY_MM),
        description="Absent in both counts 1; missed or hallucinated 0; distances 0 and 374 mm "
        "(whole-class scores, not the lesion-wise ones).",
    ),
    EmptyPolicy(
        name="monai",
        absent=None,
        missed=0.0,
        hallucinated=None,
        mean_without_values=0.0,
        average_first="cases",
        description="MONAI DiceMetric as it comes: a class that is not in the reference is left "
        "out even if predicted; classes are averaged within a case, then cases; 0 if nothing is "
        "left.",
    ),
    EmptyPolicy(
        name="totalseg",
        absent=None,
        missed=0.0,
        hallucinated=None,
        surface_dice=StandIns(missed=0.0),
        description="A class that is not in the reference is left out even if predicted.",
    ),
)


def policy_named(name: str) -> EmptyPolicy:
    """Find a policy by its name.

    Args:
        name: One of `PolicyName`.

    Returns:
        The policy.

    Raises:
        ConfigError: If there is none of that name.
    """
    for policy in POLICIES:
        if policy.name == name:
            return policy
    raise ConfigError(
        f"unknown empty-mask policy '{name}'",
        where="policy",
        fix=did_you_mean(name, get_args(PolicyName)),
    )
