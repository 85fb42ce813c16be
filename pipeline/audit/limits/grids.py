"""Families G06 and G09-G14: shape of the grid, place of the label on it."""

from pydantic import Field

from pipeline.core.config import StrictModel


class GridLimits(StrictModel):
    """Families G06 and G09-G14: shape of the grid, place of the label on it."""

    max_axis_skew: float = Field(
        default=1e-4, gt=0, description="cosine between two axes above which G06 fires"
    )
    max_repairable_voxels: float = Field(
        default=0.1, gt=0, description="corner shift up to which skewed axes are header noise (G06)"
    )
    max_oblique_degrees: float = Field(
        default=15.0, gt=0, lt=90, description="turn against the patient axes that G09 reports"
    )
    max_anisotropy: float = Field(
        default=3.0, gt=1, description="largest / smallest voxel size that G10 reports"
    )
    min_overlap_fraction: float = Field(
        default=0.99, gt=0, le=1, description="shared part of both boxes below which G12 warns"
    )
    min_overlap_error_fraction: float = Field(
        default=0.5, gt=0, le=1, description="shared part of both boxes below which G12 is an error"
    )
    max_border_points: int = Field(
        default=50_000, ge=1_000, description="border voxels compared with the image edges"
    )
    min_border_voxels: int = Field(
        default=300, ge=10, description="fewer border voxels tell nothing about the place"
    )
    max_shift_voxels: int = Field(
        default=10, ge=4, description="how far the label is moved to find a better place"
    )
    min_edge_ratio: float = Field(
        default=1.1, ge=1, description="edges on the border / around it that count as seen"
    )
    min_shift_voxels: int = Field(default=2, ge=1, description="shorter shifts are no G13")
    min_shift_gain: float = Field(
        default=1.05, gt=1, description="edge ratio moved / as placed for G13, beside other cases"
    )
    min_lone_shift_gain: float = Field(
        default=1.1, gt=1, description="the same, where too few other cases tell what is usual"
    )
    min_peak_gain: float = Field(
        default=1.02, ge=1, description="edge ratio at the best shift / 3 and more voxels from it"
    )
    min_flip_gain: float = Field(
        default=1.15, gt=1, description="edge ratio mirrored / as placed for G14"
    )
    min_robust_z: float = Field(
        default=3.5, gt=0, description="how far a case must stand out from the others (G13, G14)"
    )
    min_cohort_cases: int = Field(
        default=10, ge=5, description="cases that show what is usual (G09, G13, G14)"
    )
    min_lone_pair_cases: int = Field(
        default=20, ge=5, description="cases needed to trust the order of only one or two pairs"
    )
    min_order_fraction: float = Field(
        default=0.95, gt=0.5, le=1, description="cases that agree on the order of two classes"
    )
    min_majority_fraction: float = Field(
        default=0.6, gt=0.5, le=1, description="the same, if the image edges say mirrored as well"
    )
    min_order_effect: float = Field(
        default=3.0, gt=0, description="median distance of two classes / its robust spread"
    )
    max_reversed_fraction: float = Field(
        default=0.5, gt=0, lt=1, description="share of reversed pairs above which G14 fires"
    )
    min_common_fraction: float = Field(
        default=0.8, gt=0.5, le=1, description="cases that agree on a shift of the whole dataset"
    )
