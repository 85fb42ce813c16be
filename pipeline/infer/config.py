"""Knobs of the infer stage. Preprocessing comes from the model, never from here."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import StrictModel


class InferConfig(StrictModel):
    """How a model is swept over new volumes, and what is left of each."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU when there is one"
    )
    backend: Literal["torch", "openvino"] = Field(
        default="torch",
        description="what computes on a CPU; openvino is an extra and often faster",
    )
    overlap: float = Field(
        default=0.5, ge=0, lt=1, description="share of a window that its neighbour repeats"
    )
    window_batch: int | None = Field(
        default=None, ge=1, description="windows per forward pass; null: the training batch"
    )
    precision: Literal["auto", "float32"] = Field(
        default="auto",
        description="what a GPU computes in; auto: float16, or float32 where the model was "
        "trained without mixed precision on a GPU (train.amp)",
    )
    mirror: Literal["auto", "off"] | tuple[int, ...] = Field(
        default="auto",
        description="axes of i j k along which windows are also predicted mirrored, such as "
        "[1, 2]; auto: those of the training on a GPU, none on a CPU",
    )
    crop: Literal["auto", "off"] = Field(
        default="auto", description="auto leaves out the air around the patient, where it is known"
    )
    ensemble: bool = Field(
        default=False, description="average the models of all folds of the work folder"
    )
    average: Literal["probabilities", "logits"] = Field(
        default="probabilities", description="where the answers of several models are averaged"
    )
    cleanup: Literal["auto", "off"] = Field(
        default="auto", description="auto applies the clean-up that training chose"
    )
    save_probabilities: bool = Field(
        default=False,
        description="also keep the probability of every class, in probabilities/<case>.nii.gz",
    )
    dicom_seg: Literal["auto", "off"] = Field(
        default="auto", description="auto writes <case>.seg.dcm beside predictions of DICOM series"
    )
    report: bool = Field(default=True, description="write report.html with pictures of cases")
