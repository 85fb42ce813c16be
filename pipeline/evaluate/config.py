"""Section `evaluate` of the configuration."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pipeline.core.config import StrictModel
from pipeline.metrics.policy import PolicyName

Tolerance = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EvaluateConfig(StrictModel):
    """How predictions are compared with reference labels."""

    policy: PolicyName = Field(
        default="strict",
        description="what a class counts that is missing from the reference or the prediction; "
        "the foreground mean is reported under every policy anyway",
    )
    n_bootstrap: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="resamples of cases for confidence intervals; 0 for none",
    )
    seed: int = Field(default=0, ge=0, description="of the resampling")
    max_corner_displacement_voxels: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="a prediction whose grid lies further from that of its reference is refused",
    )
    surfaces: bool = Field(
        default=True, description="measure HD95, ASSD and surface Dice; false saves half the time"
    )
    tolerances_mm: dict[str, Tolerance] = Field(
        default_factory=dict,
        description="accepted surface distance per class or region, such as the disagreement of "
        "two readers; others get the larger of 2 mm and the largest voxel spacing",
    )
    multi: tuple[str, ...] = Field(
        default=(), description="classes made of separate lesions, which are counted one by one"
    )
    min_lesion_mm3: float = Field(
        default=0.0, ge=0, description="reference lesions up to this volume are ignored"
    )
    lesion_dilation_voxels: int = Field(
        default=0, ge=0, le=10, description="lesions closer than twice this are one (BraTS: 3 or 1)"
    )
    regions: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="name of a region to the classes it unites; scored beside the classes",
    )
    attributes: Path | None = Field(
        default=None,
        description="CSV with a column case_id; a column patient joins cases for the intervals, "
        "every other column gives a table of subgroups",
    )
    probabilities: Path | None = Field(
        default=None,
        description="folder of predicted probabilities for calibration: <case>.nii.gz with the "
        "classes, background first, along the fourth axis",
    )
    n_worst_pictures: int = Field(
        default=6, ge=0, le=100, description="worst cases shown as pictures, if images are there"
    )
    n_jobs: int = Field(
        default=0, ge=0, description="worker processes; 0 chooses by the size of the data"
    )

    @field_validator("regions")
    @classmethod
    def _check_regions(cls, regions: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, members in regions.items():
            if not members or len(set(members)) != len(members):
                raise ValueError(f"region '{name}' must unite different classes, at least one")
        return regions
