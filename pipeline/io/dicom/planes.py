"""Where each frame of an image or a segmentation lies, from classic and multi-frame headers."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.io.dicom.elements import Dataset, count, items, vector

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """One slice in patient space (LPS, mm), as DICOM writes it.

    Args:
        position_mm: Center of the first voxel (ImagePositionPatient).
        along_columns: Direction in which the column index grows (first half of
            ImageOrientationPatient).
        along_rows: Direction in which the row index grows (second half).
        column_spacing_mm: Distance of neighboring columns (second number of PixelSpacing).
        row_spacing_mm: Distance of neighboring rows (first number).
        n_columns: Voxels along a row.
        n_rows: Voxels along a column.
    """

    position_mm: Vector3
    along_columns: Vector3
    along_rows: Vector3
    column_spacing_mm: float
    row_spacing_mm: float
    n_columns: int
    n_rows: int


def n_frames_of(dataset: Dataset, file: Path) -> int:
    """Number of frames; 1 for a classic file that holds one slice."""
    return max(1, count(dataset, "NumberOfFrames", file, default=1))


def planes_of(dataset: Dataset, file: Path) -> list[Plane]:
    """Place of every frame of a file, in stored order.

    Args:
        dataset: A classic single-slice file or a multi-frame one (Enhanced, Legacy Converted,
            Segmentation) whose functional groups say where each frame lies.
        file: For messages.

    Raises:
        FileFormatError: F05 if an element is missing or no number.
    """
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames:
        return [_plane(dataset, dataset, dataset, dataset, file)]
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    found = []
    for frame in frames:
        position = group_of(frame, shared, "PlanePositionSequence")
        orientation = group_of(frame, shared, "PlaneOrientationSequence")
        measures = group_of(frame, shared, "PixelMeasuresSequence")
        found.append(_plane(dataset, position, orientation, measures, file))
    return found


def first_item(dataset: Dataset, keyword: str) -> Dataset:
    """First item of a sequence; an empty data set if there is none."""
    from pydicom.dataset import Dataset as EmptyDataset

    found = items(dataset, keyword)
    return found[0] if found else EmptyDataset()


def group_of(frame: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """A functional group of one frame: its own, else the one shared by all frames."""
    return first_item(frame if keyword in frame else shared, keyword)


def _plane(
    dataset: Dataset, position: Dataset, orientation: Dataset, measures: Dataset, file: Path
) -> Plane:
    x, y, z = vector(position, "ImagePositionPatient", 3, file)
    directions = vector(orientation, "ImageOrientationPatient", 6, file)
    row_spacing_mm, column_spacing_mm = vector(measures, "PixelSpacing", 2, file)
    return Plane(
        position_mm=(x, y, z),
        along_columns=(directions[0], directions[1], directions[2]),
        along_rows=(directions[3], directions[4], directions[5]),
        column_spacing_mm=column_spacing_mm,
        row_spacing_mm=row_spacing_mm,
        n_columns=count(dataset, "Columns", file),
        n_rows=count(dataset, "Rows", file),
    )
