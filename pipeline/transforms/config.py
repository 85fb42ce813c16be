"""Settings of the augmentation; free of torch so that checking a YAML file stays quick."""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from pipeline.core.config import StrictModel


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the smaller limit comes first")
    return limits


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]

# A uniform cubic B-spline deformation in 3D is one to one while its nodes move by less than this
# share of their distance (Choi and Lee 2000, Graphical Models 62: 1 / 2.479).
MAX_ELASTIC_SHARE = 0.4


class AugmentationConfig(StrictModel):
    """Random changes a training patch goes through. Probabilities are per patch."""

    affine_probability: float = Field(
        default=0.5, ge=0, le=1, description="rotate and scale, one interpolation for both"
    )
    rotation_degrees: float = Field(
        default=20.0, ge=0, le=180, description="largest rotation about each axis, degrees"
    )
    scale: Range = Field(default=(0.8, 1.25), description="smallest and largest zoom factor")
    within_slices: bool | None = Field(
        default=None,
        description="turn, scale, displace and blur only within slices; null: where a patch has "
        "less than a third as many slices as voxels along its longest side (as nnU-Net)",
    )
    mirror_probability: float = Field(
        default=0.5, ge=0, le=1, description="per axis of the plan's mirror axes"
    )
    right_angle_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="turns by right angles, free of interpolation, among axes of equal patch side "
        "and spacing; off, as mirroring already costs short trainings accuracy (decision 0006)",
    )
    elastic_probability: float = Field(
        default=0.0, ge=0, le=1, description="smooth displacement, part of the one interpolation"
    )
    elastic_scale_mm: Positive = Field(
        default=24.0, description="distance over which the displacement changes, mm"
    )
    elastic_magnitude_mm: float = Field(
        default=4.0,
        ge=0,
        allow_inf_nan=False,
        description="largest displacement along each axis, mm; below 0.4 of elastic_scale_mm",
    )
    noise_probability: float = Field(default=0.15, ge=0, le=1, description="Gaussian noise")
    noise_std: float = Field(default=0.2, ge=0, description="largest noise, in image SDs")
    blur_probability: float = Field(default=0.1, ge=0, le=1, description="Gaussian blur")
    blur_sigma_voxels: Range = Field(default=(0.5, 1.0), description="blur width, voxels")
    brightness_probability: float = Field(default=0.3, ge=0, le=1, description="multiply, shift")
    brightness: Range = Field(default=(0.8, 1.25), description="smallest and largest factor")
    shift_std: float = Field(default=0.1, ge=0, description="SD of the added constant")
    contrast_probability: float = Field(default=0.15, ge=0, le=1, description="stretch or squeeze")
    contrast: Range = Field(
        default=(0.75, 1.25),
        description="smallest and largest factor of the distance from the mean of the patch; "
        "values stay within its range",
    )
    gamma_probability: float = Field(default=0.3, ge=0, le=1, description="gamma curve")
    gamma: Range = Field(default=(0.7, 1.5), description="smallest and largest exponent")
    low_resolution_probability: float = Field(
        default=0.1, ge=0, le=1, description="down- and upsample, as from a coarser scanner"
    )
    low_resolution_zoom: Range = Field(default=(0.5, 1.0), description="zoom before going back")

    @model_validator(mode="after")
    def _tissue_does_not_fold(self) -> "AugmentationConfig":
        if self.elastic_magnitude_mm >= MAX_ELASTIC_SHARE * self.elastic_scale_mm:
            raise ValueError(
                f"an elastic_magnitude_mm of {self.elastic_magnitude_mm:g} could fold tissue over: "
                f"it must stay below {MAX_ELASTIC_SHARE:g} of elastic_scale_mm, that is "
                f"{MAX_ELASTIC_SHARE * self.elastic_scale_mm:g}"
            )
        return self
