"""Settings of the augmentation; free of torch so that checking a YAML file stays quick."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.core.config import StrictModel


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the smaller limit comes first")
    return limits


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]


class AugmentationConfig(StrictModel):
    """Random changes a training patch goes through. Probabilities are per patch."""

    affine_probability: float = Field(
        default=0.5, ge=0, le=1, description="rotate and scale, one interpolation for both"
    )
    rotation_degrees: float = Field(
        default=20.0, ge=0, le=180, description="largest rotation about each axis, degrees"
    )
    scale: Range = Field(default=(0.8, 1.25), description="smallest and largest zoom factor")
    mirror_probability: float = Field(
        default=0.5, ge=0, le=1, description="per axis of the plan's mirror axes"
    )
    noise_probability: float = Field(default=0.15, ge=0, le=1, description="Gaussian noise")
    noise_std: float = Field(default=0.2, ge=0, description="largest noise, in image SDs")
    blur_probability: float = Field(default=0.1, ge=0, le=1, description="Gaussian blur")
    blur_sigma_voxels: Range = Field(default=(0.5, 1.0), description="blur width, voxels")
    brightness_probability: float = Field(default=0.3, ge=0, le=1, description="multiply, shift")
    brightness: Range = Field(default=(0.8, 1.25), description="smallest and largest factor")
    shift_std: float = Field(default=0.1, ge=0, description="SD of the added constant")
    gamma_probability: float = Field(default=0.3, ge=0, le=1, description="gamma curve")
    gamma: Range = Field(default=(0.7, 1.5), description="smallest and largest exponent")
    low_resolution_probability: float = Field(
        default=0.1, ge=0, le=1, description="down- and upsample, as from a coarser scanner"
    )
    low_resolution_zoom: Range = Field(default=(0.5, 1.0), description="zoom before going back")
