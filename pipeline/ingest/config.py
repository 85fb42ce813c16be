"""Knobs of ingest."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from pipeline.core.config import StrictModel
from pipeline.core.errors import did_you_mean

LayoutName = Literal[
    "auto",
    "bids",
    "case_folders",
    "class_masks",
    "decathlon",
    "dicom",
    "images_only",
    "nnunet",
    "one_folder",
    "path_list",
    "two_folders",
]


class IngestConfig(StrictModel):
    """Section `ingest`."""

    layout: LayoutName = Field(
        default="auto", description="how the dataset folder is laid out; auto finds out"
    )
    allow_links: bool = Field(
        default=False, description="read files through links that lead out of the dataset folder"
    )
    channels: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="names of the images that become the channels of a case, in this order, where "
        "a case has several images; else all that most cases have",
    )
    label: str | None = Field(
        default=None,
        description="name of the file that is the label, where a case has several that could be",
    )
    mask_order: tuple[str, ...] = Field(
        default=(),
        description="classes with a file each that may overlap; a later one is painted over "
        "earlier ones",
    )
    pseudonymize: bool = Field(
        default=False,
        description="show pseudonyms instead of case ids and file names everywhere; which is which "
        "stands in pseudonyms.csv of the work folder alone",
    )
    n_jobs: int = Field(
        default=0,
        ge=0,
        description="worker processes; 0 uses every core when the data is large, else one",
    )

    @field_validator("layout", mode="before")
    @classmethod
    def _check_layout(cls, layout: object) -> object:
        known = get_args(LayoutName)
        if isinstance(layout, str) and layout not in known:
            raise ValueError(f"there is no such layout; {did_you_mean(layout, known)}")
        return layout
