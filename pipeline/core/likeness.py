"""What training leaves in a model for its predictions: how its cases looked, what to clean up."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel


class CleanupRule(StrictModel):
    """One step applied to predicted label maps, because it helped on validation predictions."""

    class_name: str
    kind: Literal["keep_largest", "remove_islands", "fill_holes"]
    min_ml: float | None = Field(
        default=None, description="remove_islands: components smaller than this become background"
    )
    dice_before: float = Field(description="mean Dice of the class on the validation cases")
    dice_after: float
    n_cases: int


class Range(StrictModel):
    """Spread of one quantity over the training cases."""

    lowest: float
    p01: float
    median: float
    p99: float
    highest: float


class TrainingRanges(StrictModel):
    """What the training cases looked like; inference flags cases that look different."""

    n_cases: int
    spacing_mm: tuple[Range, Range, Range]
    extent_mm: tuple[Range, Range, Range] = Field(description="field of view along R, A, S")
    orientations: dict[str, int] = Field(description="orientation of the files to number of cases")
    intensities: tuple[tuple[Range, ...], ...] = Field(
        description="per channel: foreground mean, SD, then the 1, 50 and 99 % quantiles"
    )
    volumes_ml: dict[str, Range] = Field(description="per class, cases in which it occurs")
    absent_fraction: dict[str, float] = Field(description="per class, share of cases without it")


class QualityFlag(StrictModel):
    """One way in which a case is unlike the training cases, or its prediction is doubtful."""

    kind: Literal["spacing", "orientation", "intensity", "extent", "volume", "missing", "mirror"]
    message: str = Field(description="one line a clinician understands, with the numbers")
    value: float | str
    expected: str
