"""The grid a DICOM label belongs to: that of the image it was drawn on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry, lps_to_ras
from pipeline.io.dicom.elements import is_dicom_file
from pipeline.io.dicom.series import read_series

Points = Float[np.ndarray, "_ 3"]


@dataclass(frozen=True)
class Grid:
    """Voxel grid of an image, with what tells that a label was drawn on it.

    Args:
        geometry: Shape along i, j, k and affine (RAS+ mm).
        series_uid: SeriesInstanceUID of the image; empty if it is no DICOM series.
        frame_uid: FrameOfReferenceUID, likewise.
    """

    geometry: Geometry
    series_uid: str
    frame_uid: str


def grid_of(image: Path) -> Grid:
    """Read the grid of an image: a series folder, a multi-frame file, or any other format.

    Args:
        image: Folder or file. Headers suffice for DICOM; other formats are read whole.

    Raises:
        FileFormatError: What reading the image raises.
    """
    if image.is_dir() or is_dicom_file(image):
        series = read_series(image, with_pixels=False)
        geometry = Geometry(series.shape, series.stack.affine)
        return Grid(geometry, series.series_uid, series.frame_uid)
    # Imported here: the door to all formats itself opens this package.
    from pipeline.io.load import load_volume

    _, volume = load_volume(image, root=image.parent, role="image")
    return Grid(volume.geometry, "", "")


def voxels_of(points_mm: Points, geometry: Geometry) -> Points:
    """Turn points in patient space, as DICOM writes them, into voxel indices.

    Args:
        points_mm: Shape (point, 3), in mm to L, P and S.
        geometry: The grid.

    Returns:
        Shape (point, 3): indices i, j, k; whole numbers are voxel centers.
    """
    # The change between LPS and RAS is its own inverse.
    to_voxels = np.linalg.inv(lps_to_ras(geometry.affine))
    return points_mm @ to_voxels[:3, :3].T + to_voxels[:3, 3]


def check_drawn_on(grid: Grid, *, series_uid: str, frame_uid: str, where: Path) -> None:
    """Refuse a label that names another image.

    One of the two must fit: software exists that writes a new frame of reference beside the right
    series, and labels drawn on one series hold for all others in its frame of reference.

    Args:
        grid: Grid of the image.
        series_uid: Series the label refers to; empty if it does not say.
        frame_uid: Frame of reference of the label; empty if it does not say.
        where: Label file.

    Raises:
        FileFormatError: G02 if both say something else than the image does.
    """
    said = [
        (mine, theirs)
        for mine, theirs in ((series_uid, grid.series_uid), (frame_uid, grid.frame_uid))
        if mine and theirs
    ]
    if said and all(mine != theirs for mine, theirs in said):
        raise FileFormatError(
            "the label was drawn on another image: series and frame of reference differ",
            check_id="G02",
            where=str(where),
            fix="put the label beside the series it was drawn on",
        )
