"""Knobs of the infer stage. Preprocessing comes from the model, never from here."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel


class InferConfig(StrictModel):
    """How a model is swept over new volumes."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU when there is one"
    )
    overlap: float = Field(
        default=0.5, ge=0, lt=1, description="share of a window that its neighbour repeats"
    )
    window_batch: int | None = Field(
        default=None, ge=1, description="windows per forward pass; null: the training batch"
    )
