"""Family S: sizes, pieces, places and neighbors of the structures."""

from pydantic import Field

from pipeline.core.config import StrictModel


class ContainmentRule(StrictModel):
    """A structure that has to lie in or on others, such as a tumor in its organ."""

    inside: str = Field(min_length=1, description="class that has to lie inside")
    parents: tuple[str, ...] = Field(
        min_length=1, description="classes it may lie in or touch; together they are the parent"
    )
    margin_mm: float = Field(
        default=3.0, ge=0, description="distance from a parent that still counts as inside, in mm"
    )
    min_share: float = Field(
        default=0.95, gt=0, le=1, description="share of its surface that has to be inside"
    )


class AnatomyLimits(StrictModel):
    """Family S: sizes, pieces, places and neighbors of the structures."""

    min_target_voxels: float = Field(
        default=27.0, gt=0, description="voxels at the median spacing below which S01 warns"
    )
    min_target_extent: float = Field(
        default=3.0, gt=0, description="voxels along an axis below which S01 warns"
    )
    min_cohort: int = Field(
        default=10, ge=3, description="cases with a class before one of them can be an outlier"
    )
    min_habit: int = Field(
        default=5, ge=3, description="cases with a class that show what is normal for its shape"
    )
    max_outlier_z: float = Field(
        default=3.5, gt=0, description="robust z of volume, air and jaggedness that is an outlier"
    )
    max_intensity_z: float = Field(
        default=4.0, gt=0, description="robust z of the intensity under a class for S09"
    )
    extreme_z: float = Field(
        default=6.0, gt=0, description="robust z above which S03 asks for a review first"
    )
    min_volume_factor: float = Field(
        default=1.5, gt=1, description="a volume closer to the median is no outlier (S03)"
    )
    multi: tuple[str, ...] = Field(
        default=(), description="classes that come in pieces by nature: vessels, lesions, colon"
    )
    min_largest_share: float = Field(
        default=0.9, gt=0, le=1, description="share of the largest piece of a one-piece class (S04)"
    )
    max_pieces_share: float = Field(
        default=0.2, gt=0, le=1, description="share of cases in pieces that is a class's nature"
    )
    max_islands: int = Field(default=5, ge=0, description="islands of a class before S05 warns")
    max_hole_share: float = Field(
        default=0.01, gt=0, description="holes / volume above which S06 tells"
    )
    max_edge_share: float = Field(
        default=0.05, gt=0, description="surface on the edge of the volume above which S07 tells"
    )
    max_air_share: float = Field(
        default=0.05, gt=0, lt=1, description="share of a class on air, if others have less (S08)"
    )
    min_side_gap_mm: float = Field(
        default=10.0, ge=0, description="how far left lies to the right of right for S10, in mm"
    )
    max_gap_slices: int = Field(
        default=5, ge=1, description="longer gaps between slices are taken for anatomy (S11)"
    )
    max_repeated_share: float = Field(
        default=0.3, gt=0, lt=1, description="share of equal neighboring slices for S12"
    )
    max_repeat_spacing_mm: float = Field(
        default=3.0, gt=0, description="S12 looks at slices closer than this, in mm"
    )
    containment: tuple[ContainmentRule, ...] = Field(
        default=(), description="structures that have to lie in or on others (S13)"
    )
