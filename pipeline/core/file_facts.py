"""What a volume file says about itself, and where its voxels lie in the case store."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.core.geometry import Spacing

Row4 = tuple[float, float, float, float]
Matrix4 = tuple[Row4, Row4, Row4, Row4]


class FileFacts(StrictModel):
    """What one volume file says about itself, as read from its bytes."""

    file: str = Field(description="path relative to the dataset folder")
    n_bytes: int
    format: str = Field(description="nifti1, nifti2, nrrd, metaimage, dicom, ...")
    dtype: str = Field(description="numpy dtype as stored, such as int16")
    shape: tuple[int, ...] = Field(description="as stored, trailing 1s included")
    affine: Matrix4 = Field(description="voxel to RAS+ mm, by the rule of docs/explanation")
    affine_source: Literal["sform", "qform", "pixdim", "direction"] = Field(
        description="direction: axis directions, spacing and origin, as every format but NIfTI has"
    )
    pixdim_mm: Spacing
    sform_code: int
    qform_code: int
    sform: Matrix4 | None
    qform: Matrix4 | None
    scl_slope: float | None = Field(description="None when absent or NaN")
    scl_inter: float | None
    n_trailing_bytes: int = Field(default=0, description="bytes after the last voxel")
    n_nonfinite: int = Field(default=0, description="NaN and infinite voxels")
    oblique_degrees: float = Field(
        default=0.0, description="largest angle between a voxel axis and its anatomical direction"
    )
    shear_degrees: float = Field(
        default=0.0, description="largest deviation of two voxel axes from a right angle"
    )
    disagreement_mm: float | None = Field(
        default=None, description="farthest corner between sform and qform; None unless both there"
    )
    notes: tuple[str, ...] = Field(
        default=(), description="what the reader resolved by rule, in words, such as a gantry tilt"
    )
    segments: dict[str, int] = Field(
        default_factory=dict, description="names the label file itself gives to its values"
    )


class StoredArray(StrictModel):
    """One array of the case store, canonical RAS."""

    file: str = Field(description="path relative to the work folder")
    dtype: str
    shape: tuple[int, ...] = Field(description="(channel, i, j, k) or (i, j, k)")
    affine: Matrix4
    source_orientation: str = Field(description="orientation of the source file, such as LPS")
    content_hash: str = Field(description="xxh3-128 of dtype, shape and voxels in RAS order")


class SourceStamp(StrictModel):
    """What tells that a source file has not changed since it was ingested."""

    file: str
    n_bytes: int
    modified_ns: int
