"""Family T: when the data call for other settings than the usual ones."""

from pydantic import Field

from pipeline.core.config import StrictModel


class AdviceLimits(StrictModel):
    """Family T: when the data call for other settings than the usual ones."""

    balanced_ratio: float = Field(
        default=10.0, gt=1, description="largest over smallest class that still counts as balanced"
    )
    tiny_share: float = Field(
        default=1e-4, gt=0, lt=1, description="share of all voxels below which a class is tiny"
    )
    often_absent_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of cases without a class that is often"
    )
    max_weight_ratio: float = Field(
        default=10.0, gt=1, description="largest over smallest advised class weight"
    )
    min_patch_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of patches that should show a class"
    )
    patch_voxels: tuple[int, ...] = Field(
        default=(96_000, 2_097_152),
        min_length=1,
        description="patch sizes to tell hit probabilities for: as planned on a CPU and on a GPU",
    )
    n_hit_cases: int = Field(
        default=8, ge=1, description="cases that hit probabilities are measured on"
    )
    min_class_voxels: float = Field(
        default=27.0, ge=1, description="class volume at target spacing that is too small to learn"
    )
    anisotropy_ratio: float = Field(
        default=3.0, gt=1, description="coarsest over other spacings that calls for a finer target"
    )
