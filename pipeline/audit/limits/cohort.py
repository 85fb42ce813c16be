"""Family D and G11: what only shows over all cases."""

from pydantic import Field

from pipeline.core.config import StrictModel


class CohortLimits(StrictModel):
    """Family D and G11: what only shows over all cases."""

    min_outlier_cases: int = Field(
        default=10, ge=3, description="cases below which nothing is called an outlier"
    )
    min_twin_correlation: float = Field(
        default=0.97, gt=0, lt=1, description="rank correlation of two thumbnails for D03"
    )
    min_twin_robust_z: float = Field(
        default=5.0, gt=0, description="how far a pair must stand out from all pairs for D03"
    )
    max_grid_robust_z: float = Field(
        default=3.5, gt=0, description="robust z of log spacing or field of view for G11"
    )
    min_spacing_gap_fraction: float = Field(
        default=0.1, gt=0, description="relative step between spacings that separates two groups"
    )
    min_view_gap_fraction: float = Field(
        default=0.3, gt=0, description="relative step between fields of view that separates groups"
    )
    min_cluster_fraction: float = Field(
        default=0.05, gt=0, lt=1, description="share of cases above which a grid is no outlier"
    )
    min_positive_cases: int = Field(
        default=5, ge=1, description="cases of a class that a fold needs for a score (D05)"
    )
    min_drift_cases: int = Field(
        default=20, ge=5, description="cases on each side of a fold for D07"
    )
    max_drift_p: float = Field(
        default=0.01, gt=0, lt=1, description="p of Kolmogorov and Smirnov after Holm for D07"
    )
    min_drift_effect: float = Field(
        default=0.5, gt=0, description="standardized mean difference for D07"
    )
    max_channel_robust_z: float = Field(
        default=4.0, gt=0, description="robust z of a channel's distance from its kind for D08"
    )
    max_channel_swap_ratio: float = Field(
        default=0.5, gt=0, lt=1, description="distance after swapping / before for D08"
    )
    min_site_cases: int = Field(
        default=20, ge=5, description="cases with a known site below which D09 is silent"
    )
    max_site_association: float = Field(
        default=0.5, gt=0, lt=1, description="Cramer's V of site and class presence for D09"
    )
