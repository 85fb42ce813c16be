"""What a user may choose about tracking."""

from pydantic import Field

from pipeline.core.config import StrictModel


class TrackingConfig(StrictModel):
    """Where runs are recorded. The defaults need no server and no setting."""

    enabled: bool = Field(default=True, description="record runs with MLflow")
    uri: str | None = Field(
        default=None,
        description=(
            "MLflow store: http(s)://server or a database URI; unset: MLFLOW_TRACKING_URI, "
            "else mlflow.db beside the work folder"
        ),
    )
    experiment: str = Field(
        default="voxline", min_length=1, description="MLflow experiment that groups the runs"
    )
    flush_s: float = Field(
        default=5.0, ge=0, description="least time between two automatic sendings, in seconds"
    )
    retry_s: float = Field(
        default=60.0,
        ge=0,
        description="pause after a failed sending, in seconds; doubles up to ten minutes",
    )
