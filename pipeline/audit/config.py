"""Section `audit`: every threshold of the label audit, and what is knowingly accepted."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.audit.limits.advice import AdviceLimits
from pipeline.audit.limits.anatomy import AnatomyLimits
from pipeline.audit.limits.codes import CodeLimits
from pipeline.audit.limits.cohort import CohortLimits
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.limits.images import ImageLimits
from pipeline.core.config import StrictModel

# The seed nnU-Net uses, so that published per-fold numbers compare.
NNUNET_SPLIT_SEED = 12345


class Waiver(StrictModel):
    """A finding that a person has looked at and accepts."""

    check_id: str = Field(pattern=r"^[A-Z][0-9]{2}$", description="check to waive, such as E01")
    case_id: str | None = Field(default=None, description="one case; empty waives every case")
    reason: str = Field(min_length=1, description="why this is acceptable; stands in the report")


class GroupConfig(StrictModel):
    """How cases are known to belong to one patient; patients never cross folds."""

    pattern: str | None = Field(
        default=None,
        description="regular expression over the case id; its one capture group is the patient id",
    )
    file: Path | None = Field(
        default=None,
        description="CSV with the columns case_id and group, and site if known; else the pattern",
    )
    bids: bool = Field(
        default=True, description="without file and pattern, read patients from BIDS names (sub-01)"
    )


class AuditConfig(StrictModel):
    """What the audit tolerates, and how the folds are made."""

    max_affine_shift_voxels: float = Field(
        default=0.01, ge=0, description="image/label corner displacement that is only rounding"
    )
    max_shift_error_voxels: float = Field(
        default=0.5, gt=0, description="image/label corner displacement above which G02 is an error"
    )
    max_spacing_mismatch_fraction: float = Field(
        default=1e-3, gt=0, description="relative difference of pixdim and affine for G03"
    )
    max_form_shift_voxels: float = Field(
        default=0.5, gt=0, description="sform/qform corner displacement for G04"
    )
    max_constant_fraction: float = Field(
        default=0.999, gt=0, le=1, description="share of one value above which an image is constant"
    )
    min_axis_voxels: int = Field(default=8, ge=1, description="shorter axes are reported by F06")
    max_label_fraction_part: float = Field(
        default=1e-3, gt=0, lt=0.5, description="distance from an integer that is float noise"
    )
    max_image_like_values: int = Field(
        default=256, ge=2, description="more distinct label values mean an image, not a label"
    )
    max_image_correlation: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="a label of more than 8 values that follows its image closer than this, up or "
        "down, is an image (E07)",
    )
    max_foreground_fraction: float = Field(
        default=0.95, gt=0, le=1, description="share of foreground above which E09 fires"
    )
    required_classes: tuple[str, ...] = Field(
        default=(), description="classes that every case must show"
    )
    allow_empty: bool = Field(
        default=False, description="many cases without any foreground are expected"
    )
    max_empty_fraction: float = Field(
        default=0.2, ge=0, le=1, description="share of empty labels that is an error (E08)"
    )
    max_absent_fraction: float = Field(
        default=0.2, ge=0, le=1, description="share of cases without a class that is a warning"
    )
    imbalance_warning: float = Field(
        default=1_000.0, gt=1, description="background voxels per class voxel for a warning (S02)"
    )
    imbalance_strong: float = Field(
        default=10_000.0, gt=1, description="background voxels per class voxel for a stern warning"
    )
    images: ImageLimits = Field(
        default_factory=ImageLimits, description="thresholds on image values and file readers"
    )
    grids: GridLimits = Field(
        default_factory=GridLimits, description="thresholds on grids and label alignment"
    )
    codes: CodeLimits = Field(
        default_factory=CodeLimits, description="thresholds on what label values betray"
    )
    anatomy: AnatomyLimits = Field(
        default_factory=AnatomyLimits, description="thresholds on sizes, pieces and places"
    )
    cohort: CohortLimits = Field(
        default_factory=CohortLimits, description="thresholds on leakage, drift and outliers"
    )
    advice: AdviceLimits = Field(
        default_factory=AdviceLimits, description="when advice departs from the usual settings"
    )
    n_folds: int = Field(default=5, ge=2, description="cross-validation folds")
    fold_seed: int = Field(default=NNUNET_SPLIT_SEED, ge=0, description="seed of the folds")
    split: Literal["auto", "nnunet", "stratified"] = Field(
        default="auto",
        description="nnU-Net's folds, or folds balanced by patients, class presence and volume; "
        "auto takes nnU-Net's unless patients or patchy classes speak against it",
    )
    groups: GroupConfig = Field(
        default_factory=GroupConfig, description="which cases are of one patient"
    )
    waivers: tuple[Waiver, ...] = Field(default=(), description="findings accepted with a reason")
    max_pictures: int = Field(default=12, ge=0, le=100, description="pictures in the report")
    n_jobs: int | None = Field(
        default=None, ge=0, description="worker processes, 0 for all cores; empty decides by size"
    )
