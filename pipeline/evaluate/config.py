"""Section `evaluate` of the configuration."""

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.metrics.policy import PolicyName


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
    n_worst_pictures: int = Field(
        default=6, ge=0, le=100, description="worst cases shown as pictures, if images are there"
    )
    n_jobs: int = Field(
        default=0, ge=0, description="worker processes; 0 chooses by the size of the data"
    )
