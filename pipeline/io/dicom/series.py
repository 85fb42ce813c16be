"""A DICOM series as one volume: the files of a folder, ordered, checked and rescaled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Shape3
from pipeline.core.text import some_of
from pipeline.io.dicom.elements import (
    FIX_EXPORT,
    Dataset,
    bad_element,
    has_dicom_name,
    is_dicom_file,
    items,
    read_dataset,
    text,
    vector,
)
from pipeline.io.dicom.geometry import Stack, stack_planes
from pipeline.io.dicom.pixels import stored_dtype, stored_frames
from pipeline.io.dicom.planes import Plane, first_item, group_of, n_frames_of, planes_of
from pipeline.io.files import check_memory

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
# A plan's dose lies beside its CT in most exports; its grid is written in a way of its own.
_RTDOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
_MAX_NAMED = 6


@dataclass(frozen=True)
class Series:
    """The images of one series, read and in order.

    Args:
        path: Folder, or the one multi-frame file.
        files: Files in the order read.
        datasets: One per file.
        stack: Order of all frames and the grid they make. Frames are numbered file by file.
        shape: Voxels along columns, rows and slices: the axes i, j, k of the grid.
        series_uid: SeriesInstanceUID, for comparison only; never written anywhere.
        frame_uid: FrameOfReferenceUID, likewise.
        modality: Such as "CT".
    """

    path: Path
    files: tuple[Path, ...]
    datasets: tuple[Dataset, ...]
    stack: Stack
    shape: Shape3
    series_uid: str
    frame_uid: str
    modality: str


@dataclass(frozen=True)
class Voxels:
    """Voxels of a series in slice order.

    Args:
        array: Shape (slice, row, column), in the units of the series.
        dtype: Name of the stored type.
        slope: Rescale slope; None if there is none or it differs between slices.
        intercept: Rescale intercept, likewise.
        notes: How values were made, in words.
    """

    array: Shaped[np.ndarray, "slice row column"]
    dtype: str
    slope: float | None
    intercept: float | None
    notes: tuple[str, ...]


# All that makes a volume. Nothing that names a patient is even read.
_IMAGE_ELEMENTS = (
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"),
    *("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "PixelData"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


def read_series(path: Path, *, with_pixels: bool, with_patient: bool = False) -> Series:
    """Read the one image series of a folder, or of a multi-frame file.

    DICOM-SEG, RTSTRUCT, RTDOSE and objects that are no images may lie beside it and are left out,
    and so are files of other formats.

    Args:
        path: Folder (its subfolders are not searched) or file.
        with_pixels: False reads the headers alone.
        with_patient: Keep all elements, to write another DICOM object of the same study.

    Returns:
        The series with its grid.

    Raises:
        FileFormatError: F01 no image in the folder; F02 a file named like DICOM that is none, or an
            empty one; F03 a damaged file; F05 an element missing; F06 several series; and what
            `stack_planes` raises.
        UsageError: If pydicom is not installed.
    """
    files, datasets = [], []
    for file in image_files(path):
        only = None if with_patient else _IMAGE_ELEMENTS
        dataset = read_dataset(file, with_pixels=with_pixels, only=only)
        if is_image(dataset):
            files.append(file)
            datasets.append(dataset)
    if not files:
        raise FileFormatError(
            "there is no DICOM image here",
            check_id="F01",
            where=str(path),
            fix="name the folder that holds the slices of one series",
        )
    _check_one_series(datasets, path)
    planes: list[Plane] = []
    for file, dataset in zip(files, datasets, strict=True):
        planes += _checked_planes(dataset, file)
    stack = stack_planes(planes, path)
    return Series(
        path=path,
        files=tuple(files),
        datasets=tuple(datasets),
        stack=stack,
        shape=(planes[0].n_columns, planes[0].n_rows, len(planes)),
        series_uid=text(datasets[0], "SeriesInstanceUID"),
        frame_uid=text(datasets[0], "FrameOfReferenceUID"),
        modality=text(datasets[0], "Modality"),
    )


def image_files(path: Path) -> list[Path]:
    """Files of a folder that are DICOM or should be, sorted by name; a file stands for itself.

    Raises:
        FileFormatError: F02 for an empty file, or one that is DICOM by name alone.
    """
    if not path.is_dir():
        return [path]
    found = []
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or not file.is_file():
            continue
        if is_dicom_file(file):
            found.append(file)
        elif has_dicom_name(file) or file.stat().st_size == 0:
            what = "the file is not DICOM" if file.stat().st_size else "the file is empty"
            raise FileFormatError(what, check_id="F02", where=str(file), fix=FIX_EXPORT)
    return found


def is_image(dataset: Dataset) -> bool:
    """Whether a data set holds an image that could be part of a series."""
    sop_class = text(dataset, "SOPClassUID")
    return "Rows" in dataset and sop_class not in (*SEG_CLASSES, RTSTRUCT_CLASS, _RTDOSE_CLASS)


def _check_one_series(datasets: Sequence[Dataset], path: Path) -> None:
    counts: dict[tuple[str, str], int] = {}
    for dataset in datasets:
        key = (text(dataset, "SeriesInstanceUID"), text(dataset, "Modality"))
        counts[key] = counts.get(key, 0) + 1
    if len(counts) > 1:
        names = [
            f"{modality or 'no modality'} with {n} files" for (_, modality), n in counts.items()
        ]
        raise FileFormatError(
            f"the folder holds {len(counts)} series: {some_of(names, _MAX_NAMED)}",
            check_id="F06",
            where=str(path),
            fix="keep one series per folder",
        )


def _checked_planes(dataset: Dataset, file: Path) -> list[Plane]:
    planes = planes_of(dataset, file)
    if len(planes) != n_frames_of(dataset, file):
        raise bad_element(
            "PerFrameFunctionalGroupsSequence",
            f"places {len(planes)} of {n_frames_of(dataset, file)} frames",
            file,
        )
    return planes


# --- voxels ---------------------------------------------------------------------------------------


def series_voxels(series: Series) -> Voxels:
    """Decode all slices, in order, and turn stored numbers into units.

    Each slice is rescaled by its own slope and intercept. Results stay integers where all of them
    are whole numbers (CT), else float32 (PET).

    Args:
        series: A series read with its pixels.

    Raises:
        FileFormatError: F03, F04, F05 as `stored_frames`; F05 for slices of differing type and for
            lookup tables; F06 if memory does not suffice.
    """
    dtypes = {stored_dtype(d, f) for d, f in zip(series.datasets, series.files, strict=True)}
    # Signed and unsigned slices in one series: the wider signed type holds both.
    dtype = np.result_type(*dtypes)
    n_columns, n_rows, n_slices = series.shape
    check_memory(2 * n_columns * n_rows * n_slices * dtype.itemsize, series.path)
    places = np.argsort(np.array(series.stack.order))
    array = np.empty((n_slices, n_rows, n_columns), dtype)
    rescales = np.empty((n_slices, 2))
    pairs = zip(series.datasets, series.files, strict=True)
    rescales[places] = [rescale for pair in pairs for rescale in _rescales(*pair)]
    for place, frame in zip(places, stored_frames(series.datasets, series.files), strict=True):
        array[place] = frame
    is_same = bool(np.all(rescales == rescales[0]))
    slope, intercept = (float(rescales[0, 0]), float(rescales[0, 1])) if is_same else (None, None)
    return Voxels(
        array=_rescaled(array, rescales),
        dtype=dtype.name,
        slope=slope,
        intercept=intercept,
        notes=_value_notes(series, is_same=is_same),
    )


def _value_notes(series: Series, *, is_same: bool) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    if not is_same:
        notes += ("rescale slope or intercept differs between slices; applied slice by slice",)
    if series.modality == "PT":
        notes += ("PET in the units of the file, not converted to SUV",)
    return notes


def _rescales(dataset: Dataset, file: Path) -> list[tuple[float, float]]:
    """Slope and intercept of every frame of a file."""
    frames = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames:
        if "ModalityLUTSequence" in dataset:
            raise bad_element("ModalityLUTSequence", "(a lookup table) is not supported", file)
        return [_rescale(dataset, file)]
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    groups = [group_of(frame, shared, "PixelValueTransformationSequence") for frame in frames]
    return [_rescale(group, file) for group in groups]


def _rescale(dataset: Dataset, file: Path) -> tuple[float, float]:
    slope = vector(dataset, "RescaleSlope", 1, file)[0] if "RescaleSlope" in dataset else 1.0
    has_intercept = "RescaleIntercept" in dataset
    intercept = vector(dataset, "RescaleIntercept", 1, file)[0] if has_intercept else 0.0
    if slope == 0:
        raise bad_element("RescaleSlope", "is zero", file)
    return slope, intercept


def _rescaled(
    array: Shaped[np.ndarray, "slice row column"], rescales: Float[np.ndarray, "slice 2"]
) -> Shaped[np.ndarray, "slice row column"]:
    if np.all(rescales == (1, 0)):
        return array
    dtype = _whole_dtype(array, rescales) if np.all(rescales == np.rint(rescales)) else None
    if dtype is None:
        scaled = np.empty(array.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # the audit reports what overflows
            for n, (slope, intercept) in enumerate(rescales):
                scaled[n] = array[n].astype(np.float64) * slope + intercept
        return scaled
    whole = array.astype(dtype, copy=False)
    for n, (slope, intercept) in enumerate(rescales):
        whole[n] = array[n].astype(np.int64) * int(slope) + int(intercept)
    return whole


def _whole_dtype(
    array: Shaped[np.ndarray, "slice row column"], rescales: Float[np.ndarray, "slice 2"]
) -> np.dtype[np.generic] | None:
    """The narrowest of the usual types that holds all rescaled values; None if there is none."""
    flat = array.reshape(len(array), -1)
    ends = np.array([flat.min(axis=1), flat.max(axis=1)], np.float64)
    ends = ends * rescales[:, 0] + rescales[:, 1]
    low, high = float(ends.min()), float(ends.max())
    for dtype in (array.dtype, np.dtype("i2"), np.dtype("u2"), np.dtype("i4")):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return None
