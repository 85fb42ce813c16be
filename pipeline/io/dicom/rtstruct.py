"""RTSTRUCT: contours in patient space to voxels on the grid of the image."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry
from pipeline.core.text import some_of
from pipeline.io.dicom.elements import Dataset, bad_element, count, items, numbers, text, words
from pipeline.io.dicom.grid import Grid, Points, check_drawn_on, voxels_of
from pipeline.io.dicom.planes import first_item
from pipeline.io.dicom.polygon import fill_even_odd
from pipeline.io.dicom.structures import Structure

# Points, lines and open contours enclose no area.
_AREA_TYPES = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
# Contours are drawn on slices; rounding to 0.1 mm explains no more than this on thin ones.
_MAX_OFF_SLICES = 0.25
_MAX_NAMED = 8
_FIX_SERIES = "put the label beside the complete series it was drawn on"


@dataclass(frozen=True)
class Drawn:
    """Structures of a file with what was noticed on the way.

    Args:
        structures: One per region that encloses an area.
        notes: Contours and regions that could not count, in words.
    """

    structures: list[Structure]
    notes: tuple[str, ...]


def region_table(dataset: Dataset, file: Path) -> dict[int, str]:
    """Number and name of every region that has at least one closed contour."""
    drawn = {
        count(item, "ReferencedROINumber", file)
        for item in items(dataset, "ROIContourSequence")
        if any(_is_area(contour) for contour in items(item, "ContourSequence"))
    }
    return {number: name for number, name in _all_regions(dataset, file).items() if number in drawn}


def _all_regions(dataset: Dataset, file: Path) -> dict[int, str]:
    return {
        count(item, "ROINumber", file): words(item, "ROIName")
        for item in items(dataset, "StructureSetROISequence")
    }


def _is_area(contour: Dataset) -> bool:
    return text(contour, "ContourGeometricType") in _AREA_TYPES


def referenced_series_uid(dataset: Dataset) -> str:
    """Series the contours were drawn on; empty if the file does not say."""
    frame = first_item(dataset, "ReferencedFrameOfReferenceSequence")
    study = first_item(frame, "RTReferencedStudySequence")
    return text(first_item(study, "RTReferencedSeriesSequence"), "SeriesInstanceUID")


def rtstruct_structures(
    dataset: Dataset, grid: Grid, file: Path, wanted: Container[str] | None
) -> Drawn:
    """Find the voxels of every region of an RTSTRUCT.

    A voxel belongs to a region if its center lies inside an odd number of the contours on its
    slice: a contour within another one is a hole (as is the keyhole form). Nothing is filled in
    between slices.

    Args:
        dataset: The file.
        grid: Grid of the image; contours must lie on planes of one of its axes.
        file: For messages.
        wanted: Names of the regions to rasterize, the others come back empty; None wants all.

    Returns:
        Structures by region number, and notes.

    Raises:
        FileFormatError: F05 for unreadable elements; G02 for another image, contours between its
            slices or across them, and if all contours lie outside.
    """
    regions = items(dataset, "StructureSetROISequence")
    frame_uids = {text(item, "ReferencedFrameOfReferenceUID") for item in regions} - {""}
    check_drawn_on(
        grid,
        series_uid=referenced_series_uid(dataset),
        frame_uid=grid.frame_uid if grid.frame_uid in frame_uids else next(iter(frame_uids), ""),
        where=file,
    )
    names, table = _all_regions(dataset, file), region_table(dataset, file)
    contours: dict[int, list[Points]] = {number: [] for number in sorted(table)}
    for item in items(dataset, "ROIContourSequence"):
        number = count(item, "ReferencedROINumber", file)
        if number in contours and (wanted is None or table[number] in wanted):
            contours[number] += _contours(item, grid.geometry, file)
    notes = [_nothing_drawn(names, table)] if len(table) < len(names) else []
    structures, outside_notes = _rasterized(contours, table, grid.geometry, file)
    return Drawn(structures, (*notes, *outside_notes))


def _rasterized(
    contours: dict[int, list[Points]], table: dict[int, str], geometry: Geometry, file: Path
) -> tuple[list[Structure], list[str]]:
    axis = _slice_axis([points for found in contours.values() for points in found])
    structures, notes, n_inside = [], [], 0
    for number, found in contours.items():
        name = table[number]
        voxels, n_outside = _fill(found, axis, geometry, name, file)
        structures.append(Structure(name, number, voxels))
        n_inside += len(found) - n_outside
        if n_outside:
            notes.append(f"{n_outside} of {len(found)} contours of '{name}' lie outside the image")
    if notes and not n_inside:
        raise _misplaced("all contours lie outside the image", file)
    return structures, notes


def _nothing_drawn(names: dict[int, str], table: dict[int, str]) -> str:
    rest = [name for number, name in names.items() if number not in table]
    return f"regions without a closed contour: {some_of(rest, _MAX_NAMED)}"


def _contours(item: Dataset, geometry: Geometry, file: Path) -> list[Points]:
    """Closed contours of a region in voxel units (i, j, k), exact copies left out."""
    found: dict[bytes, Points] = {}
    for contour in items(item, "ContourSequence"):
        if not _is_area(contour):
            continue
        values = np.array(numbers(contour, "ContourData", file))
        if values.size % 3 or values.size == 0:
            raise bad_element("ContourData", "does not hold points of three numbers", file)
        found[values.tobytes()] = voxels_of(values.reshape(-1, 3), geometry)
    return list(found.values())


def _slice_axis(contours: Sequence[Points]) -> int:
    """The voxel axis along which contours extend least: they are drawn across it."""
    if not contours:
        return 2
    extents = np.array([np.ptp(points, axis=0) for points in contours])
    return int(np.argmin(extents.sum(axis=0)))


def _fill(
    contours: Sequence[Points], axis: int, geometry: Geometry, name: str, file: Path
) -> tuple[Int[np.ndarray, " _"], int]:
    """Flat indices of the voxels inside, and how many contours lie off the image."""
    slices = _by_slice(contours, axis, name, file)
    first, second = (a for a in range(3) if a != axis)
    shape = geometry.shape
    parts: list[Int[np.ndarray, " _"]] = [np.zeros(0, np.int64)]
    n_outside = 0
    for index, points in slices.items():
        if not 0 <= index < shape[axis]:
            n_outside += len(points)
            continue
        polygons = [p[:, [first, second]] for p in points]
        low, size = _box(polygons, (shape[first], shape[second]))
        mask = fill_even_odd([p - low for p in polygons], size)
        voxels = np.empty((3, int(np.count_nonzero(mask))), np.int64)
        voxels[first], voxels[second] = np.nonzero(mask)
        voxels[first] += low[0]
        voxels[second] += low[1]
        voxels[axis] = index
        parts.append(np.asarray(np.ravel_multi_index(tuple(voxels), shape), np.int64))
    return np.sort(np.concatenate(parts)), n_outside


def _by_slice(
    contours: Sequence[Points], axis: int, name: str, file: Path
) -> dict[int, list[Points]]:
    slices: dict[int, list[Points]] = {}
    n_between, worst = 0, 0.0
    for points in contours:
        depth = points[:, axis]
        index = int(np.rint(np.clip(np.median(depth), -1e9, 1e9)))
        error = float(np.abs(depth - index).max())
        n_between += error > _MAX_OFF_SLICES
        worst = max(worst, error)
        slices.setdefault(index, []).append(points)
    if n_between:
        what = f"{n_between} of {len(contours)} contours of '{name}' do not lie on slices"
        raise _misplaced(f"{what} of the image (up to {worst:.2f} slices off)", file)
    return slices


def _box(
    polygons: Sequence[Float[np.ndarray, "_ 2"]], shape: tuple[int, int]
) -> tuple[Int[np.ndarray, "2"], tuple[int, int]]:
    """First voxel and size of the part of a slice that polygons reach."""
    corners = np.concatenate(polygons)
    low = np.clip(np.floor(corners.min(axis=0)), 0, np.array(shape) - 1).astype(np.int64)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, low + 1, shape).astype(np.int64)
    return low, (int(high[0] - low[0]), int(high[1] - low[1]))


def _misplaced(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="G02", where=str(file), fix=_FIX_SERIES)
