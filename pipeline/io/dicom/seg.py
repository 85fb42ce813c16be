"""DICOM-SEG: the voxels of every segment on the grid of the image."""

import math
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry
from pipeline.io.dicom.elements import (
    FIX_EXPORT,
    Dataset,
    bad_element,
    count,
    items,
    text,
    words,
)
from pipeline.io.dicom.grid import Grid, check_drawn_on, voxels_of
from pipeline.io.dicom.pixels import is_compressed, pixel_bytes, stored_frames
from pipeline.io.dicom.planes import Plane, first_item, group_of, n_frames_of, planes_of
from pipeline.io.dicom.structures import Structure

# Planes of a SEG repeat those of its image; rounding in the header explains no more than this.
_MAX_OFF_VOXELS = 0.1


def segment_table(dataset: Dataset, file: Path) -> dict[int, str]:
    """Number and name of every segment; number 0 of a label map is background and left out."""
    table = {
        count(item, "SegmentNumber", file): words(item, "SegmentLabel")
        for item in items(dataset, "SegmentSequence")
    }
    return {number: name for number, name in table.items() if number != 0}


def seg_structures(
    dataset: Dataset, grid: Grid, file: Path, wanted: Container[str] | None
) -> list[Structure]:
    """Find the voxels of every segment of a DICOM-SEG.

    Args:
        dataset: The file, read with its pixels: BINARY, LABELMAP, or FRACTIONAL with nothing
            between 0 and the highest fraction.
        grid: Grid of the image. Frames may cover part of it, in any order.
        file: For messages.
        wanted: Names of the segments to read, the others come back empty; None wants all.

    Returns:
        One structure per described segment, by number; without voxels if it has no frame.

    Raises:
        FileFormatError: E03 for true fractions; F04 for missing voxels; F05 for unreadable
            elements; G02 for another image, or planes that are not those of the image.
    """
    check_drawn_on(
        grid,
        series_uid=text(first_item(dataset, "ReferencedSeriesSequence"), "SeriesInstanceUID"),
        frame_uid=text(dataset, "FrameOfReferenceUID"),
        where=file,
    )
    names = segment_table(dataset, file)
    parts: dict[int, list[Int[np.ndarray, " _"]]] = {number: [] for number in names}
    planes = planes_of(dataset, file)
    numbers = _segment_numbers(dataset, file)
    if not len(planes) == len(numbers) == n_frames_of(dataset, file):
        raise bad_element("PerFrameFunctionalGroupsSequence", "does not fit the frames", file)
    for plane, number, frame in zip(planes, numbers, _frames(dataset, file), strict=True):
        for found, mask in _masks(frame, number):
            if found not in parts:
                raise bad_element("SegmentSequence", f"does not describe segment {found}", file)
            if wanted is None or names[found] in wanted:
                parts[found].append(_voxels(mask, plane, grid.geometry, names[found], file))
    empty = np.zeros(0, _index_dtype(grid.geometry))
    return [
        Structure(names[number], number, np.concatenate([empty, *parts[number]]))
        for number in sorted(names)
    ]


def _segment_numbers(dataset: Dataset, file: Path) -> list[int]:
    """Segment of every frame; 0 stands for frames of a label map, which hold several."""
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if text(dataset, "SegmentationType") == "LABELMAP":
        return [0] * len(frames)
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    groups = [group_of(frame, shared, "SegmentIdentificationSequence") for frame in frames]
    return [count(group, "ReferencedSegmentNumber", file) for group in groups]


def _masks(
    frame: Shaped[np.ndarray, "row column"], number: int
) -> Iterator[tuple[int, Shaped[np.ndarray, "row column"]]]:
    if number != 0:
        yield number, frame
        return
    for value in np.unique(frame):
        if value != 0:
            yield int(value), frame == value


# --- frames ---------------------------------------------------------------------------------------


def _frames(dataset: Dataset, file: Path) -> Iterator[Shaped[np.ndarray, "row column"]]:
    kind = text(dataset, "SegmentationType")
    if kind == "BINARY" and not is_compressed(dataset):
        yield from _bit_frames(dataset, file)
    elif kind in ("BINARY", "LABELMAP"):
        yield from stored_frames([dataset], [file])
    elif kind == "FRACTIONAL":
        highest = count(dataset, "MaximumFractionalValue", file)
        for frame in stored_frames([dataset], [file]):
            yield _whole_fraction(frame, highest, file)
    else:
        raise bad_element("SegmentationType", "is none of BINARY, LABELMAP, FRACTIONAL", file)


def _bit_frames(dataset: Dataset, file: Path) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Unpack frames of single bits, which follow each other without padding (PS3.5 8.1.1)."""
    n_rows, n_columns = count(dataset, "Rows", file), count(dataset, "Columns", file)
    n_frames, n_bits = n_frames_of(dataset, file), n_rows * n_columns
    raw = np.frombuffer(pixel_bytes(dataset, file), np.uint8)
    if count(dataset, "BitsAllocated", file) != 1:
        raise bad_element("BitsAllocated", "is not 1 in a BINARY segmentation", file)
    if raw.size * 8 < n_frames * n_bits:
        raise FileFormatError(
            f"the header promises {n_frames * n_bits} bits, the file holds {raw.size * 8}",
            check_id="F04",
            where=str(file),
            fix=FIX_EXPORT,
        )
    for n in range(n_frames):
        first, last = n * n_bits, (n + 1) * n_bits
        bits = np.unpackbits(raw[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + n_bits].reshape(n_rows, n_columns)


def _whole_fraction(
    frame: Shaped[np.ndarray, "row column"], highest: int, file: Path
) -> Shaped[np.ndarray, "row column"]:
    mask = frame == highest
    n_between = int(np.count_nonzero(frame)) - int(np.count_nonzero(mask))
    if n_between or highest == 0:
        raise FileFormatError(
            f"the segmentation holds fractions, not masks ({n_between} voxels in a frame)",
            check_id="E03",
            where=str(file),
            fix="export it as a binary segmentation, with the threshold of your choice",
        )
    return mask


# --- placing --------------------------------------------------------------------------------------


def _voxels(
    mask: Shaped[np.ndarray, "row column"],
    plane: Plane,
    geometry: Geometry,
    name: str,
    file: Path,
) -> Int[np.ndarray, " _"]:
    """Flat indices of the voxels of the image that a frame marks."""
    start, steps = _steps(plane, geometry, file)
    rows, columns = np.nonzero(mask)
    dtype = _index_dtype(geometry)
    if rows.size == 0:
        return np.zeros(0, dtype)
    if n_outside := _n_outside(columns, rows, start, steps, geometry):
        raise FileFormatError(
            f"{n_outside} voxels of segment '{name}' lie outside the image",
            check_id="G02",
            where=str(file),
            fix="put the label beside the complete series it was drawn on",
        )
    _, n_j, n_k = geometry.shape
    strides = np.array([n_j * n_k, n_k, 1])
    per_column, per_row = steps @ strides
    return (start @ strides + columns * per_column + rows * per_row).astype(dtype)


def _index_dtype(geometry: Geometry) -> np.dtype[np.signedinteger[Any]]:
    """Four bytes per marked voxel instead of eight, wherever they suffice."""
    return np.dtype(np.int32 if math.prod(geometry.shape) < 1 << 31 else np.int64)


def _n_outside(
    columns: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " n"],
    start: Int[np.ndarray, "3"],
    steps: Int[np.ndarray, "2 3"],
    geometry: Geometry,
) -> int:
    # Steps run along axes, so that the box around the marked voxels tells for all of them.
    box = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]]) @ steps + start
    if np.all((box >= 0) & (box < geometry.shape)):
        return 0
    indices = start + np.stack([columns, rows], axis=1) @ steps
    return int(np.count_nonzero(np.any((indices < 0) | (indices >= geometry.shape), axis=1)))


def _steps(
    plane: Plane, geometry: Geometry, file: Path
) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "2 3"]]:
    """Voxel of the first column and row of a frame, and the steps from column to column and row.

    Any order and direction of axes may come out, but only whole voxels.
    """
    first_mm = np.array(plane.position_mm)
    next_column_mm = first_mm + np.array(plane.along_columns) * plane.column_spacing_mm
    next_row_mm = first_mm + np.array(plane.along_rows) * plane.row_spacing_mm
    points = voxels_of(np.array([first_mm, next_column_mm, next_row_mm]), geometry)
    position, exact = points[0], points[1:] - points[0]
    steps = np.rint(exact)
    n_last = np.array([[plane.n_columns - 1], [plane.n_rows - 1]])
    errors = np.abs(position - np.rint(position)) + np.abs((exact - steps) * n_last).sum(axis=0)
    is_grid = np.all(np.abs(steps).sum(axis=1) == 1) and float(errors.max()) <= _MAX_OFF_VOXELS
    if not is_grid:
        raise FileFormatError(
            "the planes of the segmentation are not those of the image",
            check_id="G02",
            where=str(file),
            fix="put the label beside the series it was drawn on, or resample it in its own tool",
        )
    return np.rint(position).astype(np.int64), steps.astype(np.int64)
