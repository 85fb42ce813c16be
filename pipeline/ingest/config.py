"""Knobs of ingest."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel


class IngestConfig(StrictModel):
    """Section `ingest`."""

    layout: Literal["auto"] = Field(
        default="auto", description="how the dataset folder is laid out; auto finds out"
    )
    n_jobs: int = Field(
        default=0,
        ge=0,
        description="worker processes; 0 uses every core when the data is large, else one",
    )
