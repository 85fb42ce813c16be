"""Families E04, E10, E11, E13: what label values betray."""

from pydantic import Field

from pipeline.core.config import StrictModel


class CodeLimits(StrictModel):
    """Families E04, E10, E11, E13: what label values betray."""

    max_between_excess: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="share of the class surfaces that touch values between them and background, "
        "above what is usual in the cohort (E04)",
    )
    min_shell_border_share: float = Field(
        default=0.9, gt=0, le=1, description="border voxels of a class that is only a shell (E04)"
    )
    max_overlap_fraction: float = Field(
        default=3e-5,
        ge=0,
        lt=1,
        description="share of voxels in two masks of a stack that is a rounding matter (E10)",
    )
    min_swap_gain: float = Field(
        default=10.0,
        gt=0,
        description="fall of the squared robust distance, summed over volume, place and intensity, "
        "per structure and on average, when structures take each other's names (E11)",
    )
    max_swap_distance: float = Field(
        default=3.5,
        gt=0,
        description="robust distance from the other class up to which a structure resembles it "
        "(E11)",
    )
    min_palette_levels: int = Field(
        default=8, ge=3, description="fewer values beside the frequent ones are no palette (E13)"
    )
    max_palette_distance: int = Field(
        default=10, ge=1, description="values this near to a frequent value belong to it (E13)"
    )
    min_palette_fraction: float = Field(
        default=0.9, gt=0.5, le=1, description="share of voxels near a frequent value (E13)"
    )
    max_palette_coherence: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of the other voxels that equal their neighbor; structures have more "
        "(E13)",
    )
