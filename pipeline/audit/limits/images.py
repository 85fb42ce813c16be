"""Families F11-F14: image values and the second reader."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel


class ImageLimits(StrictModel):
    """Families F11-F14: image values and the second reader."""

    readers: Literal["both", "own"] = Field(
        default="both",
        description="both: read every file with SimpleITK too and compare (F14); own: do not",
    )
    max_reader_shift_voxels: float = Field(
        default=0.1, gt=0, description="corner displacement of the two readings that is rounding"
    )
    max_saturated_fraction: float = Field(
        default=0.01, gt=0, lt=1, description="share of voxels at the end of the range for F11"
    )
    max_scaled_saturated_fraction: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="the same for 8-bit and float images, which are often clipped on purpose",
    )
    max_wrapped_fraction: float = Field(
        default=1e-4,
        gt=0,
        lt=1,
        description="share of neighbors that differ by a whole number range (F11, overflow)",
    )
    ct_limits_hu: tuple[float, ...] = Field(
        default=(-3024.0, -2048.0, -2000.0, -1024.0, -1000.0, 3071.0, 4095.0, 32767.0),
        description="values at which CT scanners and exports end; many voxels there are normal",
    )
    min_ct_padding_hu: float = Field(
        default=-1500.0, description="CT values below this are padding, not tissue or air (F12)"
    )
    min_ct_padding_fraction: float = Field(
        default=0.01, gt=0, lt=1, description="share of padding that F12 reports"
    )
    min_spacing_mm: float = Field(
        default=0.05, gt=0, description="smaller voxels are implausible in a patient (F13)"
    )
    max_spacing_mm: float = Field(
        default=20.0, gt=0, description="larger voxels are implausible in a patient (F13)"
    )
    max_extent_mm: float = Field(
        default=2500.0, gt=0, description="larger volumes are implausible in a patient (F13)"
    )
