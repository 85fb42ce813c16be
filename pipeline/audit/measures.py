"""The numbers that the audit keeps of a case; every check and every page reads these.

Voxel axes run to R, A, S, as in the case store. World positions are mm (RAS+).
"""

from pydantic import Field

from pipeline.core.config import StrictModel
from pipeline.core.geometry import Shape3

Point = tuple[float, float, float]

# Quantile levels of every intensity summary below; symmetric, dense enough for a distance.
LEVELS: tuple[float, ...] = (
    *(0.0, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 1.0),
)


class SliceGap(StrictModel):
    """Slices without a class between slices that have it."""

    axis: int = Field(ge=0, le=2, description="0 R, 1 A, 2 S")
    first: int = Field(description="first missing slice")
    n_slices: int = Field(ge=1)


class Contact(StrictModel):
    """Voxel faces between a class and another label value."""

    class_index: int = Field(description="0 background, -1 an undeclared value")
    n_faces: int


class ClassMeasures(StrictModel):
    """One class of one case, as long as it has a voxel."""

    class_index: int = Field(ge=1)
    n_voxels: int = Field(ge=1)
    start: Shape3 = Field(description="smallest voxel index of the bounding box")
    stop: Shape3 = Field(description="one after the largest voxel index")
    centroid_mm: Point = Field(description="world, RAS+")
    centroid_fraction: Point = Field(description="place in the grid, 0 to 1 along R, A, S")
    n_components: int = Field(description="26-connected pieces")
    largest_share: float = Field(description="share of the voxels in the largest piece")
    n_islands: int = Field(description="pieces that are far smaller than the largest")
    island_voxel: Shape3 | None = Field(description="a voxel of the largest island")
    second_voxel: Shape3 | None = Field(description="a voxel of the second largest piece")
    hole_share: float = Field(description="background that this class alone encloses / own voxels")
    hole_voxel: Shape3 | None
    border_share: float = Field(description="own voxels with a face to another value / own voxels")
    edge_share: float = Field(description="own surface faces on the edge of the volume / all")
    contacts: tuple[Contact, ...] = Field(
        description="neighbors, most faces first; the edge of the volume is none"
    )
    gaps: tuple[SliceGap, ...] = Field(
        description="between at least two thick slices on both sides that overlap"
    )
    repeated_share: float = Field(description="consecutive slices along S that are identical")
    faces: tuple[int, int, int] = Field(
        description="surface faces that look along R, A, S, without those on the edge of the volume"
    )
    quantiles: tuple[float, ...] = Field(description="channel 0 at LEVELS, as in the image")
    air_share: float = Field(description="own voxels that are air: outside the body threshold")
    air_voxel: Shape3 | None


class ChannelMeasures(StrictModel):
    """The whole image of one channel; voxels that are not finite are left out."""

    quantiles: tuple[float, ...] = Field(description="at LEVELS")
    mean: float
    std: float
    minimum_share: float = Field(description="voxels that equal the smallest value")
    maximum_share: float = Field(description="voxels that equal the largest value")
    mode: float = Field(description="most frequent value, middle of its histogram bin")
    body_threshold: float = Field(description="Otsu threshold between air and body")
    thumbnail: str = Field(description="16 x 16 x 16 ranks as bytes, base64; empty if too small")


class AlignmentProfile(StrictModel):
    """How well the label border follows the image edges, as placed and when moved (G13, G14)."""

    is_assessable: bool
    reason: str = Field(description="why it cannot be assessed; empty if it can")
    ratio: float = Field(description="mean gradient on the border / mean gradient")
    shift_ratios: tuple[tuple[float, ...], ...] = Field(description="per axis, see `shifts`")
    shifts: tuple[int, ...] = Field(description="shifts in voxels of `shift_ratios`")
    flip_ratios: tuple[float, ...] = Field(description="for the 7 combinations of `flips`")
    flips: tuple[tuple[int, ...], ...] = Field(description="axes mirrored")
    border_voxel: Shape3 | None


class ReaderFacts(StrictModel):
    """What SimpleITK makes of one file, beside our own reading of it."""

    file: str
    role: str = Field(description="image or label")
    error: str = Field(default="", description="why SimpleITK refuses the file; empty if not")
    shape: tuple[int, ...] = ()
    corner_shift_voxels: float | None = Field(
        default=None, description="largest corner displacement between the two readings"
    )
    n_different_voxels: int | None = Field(
        default=None, description="voxels whose values differ; None if shapes differ"
    )
    different_voxel: Shape3 | None = None
    values: str = Field(default="", description="ours and SimpleITK's value at that voxel")


class CaseMeasures(StrictModel):
    """Everything measured of one case; parts are empty where an array could not be read."""

    classes: tuple[ClassMeasures, ...] = ()
    channels: tuple[ChannelMeasures, ...] = ()
    alignment: AlignmentProfile | None = None
    readers: tuple[ReaderFacts, ...] = ()

    def of_class(self, class_index: int) -> ClassMeasures | None:
        """The measures of one class, None if the case does not show it."""
        return next((c for c in self.classes if c.class_index == class_index), None)
