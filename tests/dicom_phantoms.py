"""Tiny DICOM series, DICOM-SEG and RTSTRUCT files with known answers, and planted identifiers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTStructureSetStorage,
    generate_uid,
)

CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}
# Found nowhere but in the planted elements.
PLANTED_TEXT = "Geheimrat"
PLANTED_DATE = "19370214"
PLANTED_TIME = "031415"
PLANTED_UID = "1.2.999.31415.9265"
PLANTED = (PLANTED_TEXT, PLANTED_DATE, PLANTED_TIME, PLANTED_UID)


def series_slices(
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    modality: str = "CT",
    rescale: tuple[float, float] | None = None,
) -> list[Dataset]:
    """One data set per slice k, to be changed at will and saved with `save`.

    Args:
        array: Voxels (i, j, k) of an 8, 16 or 32-bit integer type: columns, rows, slices.
        affine: Voxel index to RAS+ mm.
        modality: CT, MR or PT.
        rescale: Slope and intercept written into every slice.
    """
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for k in range(array.shape[2]):
        dataset = _new_file(CLASSES[modality])
        dataset.Modality = modality
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = frame
        dataset.InstanceNumber = k + 1
        # Wrong on purpose: neither may be used for spacing.
        dataset.SliceThickness, dataset.SpacingBetweenSlices = "17", "-13"
        _set_plane(dataset, dataset, dataset, affine, k)
        _set_pixels(dataset, array[:, :, k].T)
        if rescale is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = (repr(float(n)) for n in rescale)
        slices.append(dataset)
    return slices


def multi_frame(
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    order: Sequence[int] | None = None,
    rescales: Sequence[tuple[float, float]] | None = None,
) -> Dataset:
    """An Enhanced MR file: all slices in one, in any stored order."""
    order = list(range(array.shape[2])) if order is None else list(order)
    dataset = _new_file(EnhancedMRImageStorage)
    dataset.Modality = "MR"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    shared = Dataset()
    measures, orientation = Dataset(), Dataset()
    frames = []
    for k in order:
        position, frame = Dataset(), Dataset()
        _set_plane(position, orientation, measures, affine, k)
        frame.PlanePositionSequence = Items([position])
        if rescales is not None:
            values = Dataset()
            values.RescaleSlope, values.RescaleIntercept = (repr(float(n)) for n in rescales[k])
            values.RescaleType = "US"
            frame.PixelValueTransformationSequence = Items([values])
        frames.append(frame)
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    dataset.NumberOfFrames = len(order)
    _set_pixels(dataset, array.transpose(2, 1, 0)[order])
    return dataset


def save(folder: Path, datasets: Sequence[Dataset], pattern: str = "{:03d}.dcm") -> Path:
    """Write data sets into a folder, in an order that is not that of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(3).permutation(len(datasets))
    for dataset, number in zip(datasets, numbers, strict=True):
        dataset.save_as(folder / pattern.format(number), enforce_file_format=True)
    return folder


def write_series(
    folder: Path,
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    change: Callable[[list[Dataset]], list[Dataset] | None] = lambda slices: None,
    **options: object,
) -> Path:
    """Write a series after `change` had its way with the slices (in place, or a new list)."""
    slices = series_slices(array, affine, **options)  # type: ignore[arg-type]
    return save(folder, change(slices) or slices)


def rtstruct(
    source: Sequence[Dataset],
    regions: dict[str, Sequence[NDArray[np.float64]]],
    kind: str = "CLOSED_PLANAR",
) -> Dataset:
    """An RTSTRUCT whose contours are given in RAS+ mm, shape (point, 3)."""
    dataset = _new_file(RTStructureSetStorage)
    dataset.Modality = "RTSTRUCT"
    dataset.StudyInstanceUID = source[0].StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    frame.FrameOfReferenceUID = source[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    dataset.ReferencedFrameOfReferenceSequence = Items([frame])
    names, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, outline = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        region.ReferencedFrameOfReferenceUID = source[0].FrameOfReferenceUID
        outline.ReferencedROINumber = number
        outline.ContourSequence = Items([_contour(points, kind) for points in contours])
        names.append(region)
        drawn.append(outline)
    dataset.StructureSetROISequence = Items(names)
    dataset.ROIContourSequence = Items(drawn)
    return dataset


def plant_identifiers(dataset: Dataset) -> None:
    """Fill every textual element of the dictionary that is not set yet with a secret."""
    values = {"DA": PLANTED_DATE, "TM": PLANTED_TIME, "DT": PLANTED_DATE + PLANTED_TIME}
    values |= dict.fromkeys(("PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE"), PLANTED_TEXT)
    for number, (kind, _, _, is_retired, _) in DicomDictionary.items():
        tag = Tag(number)
        is_header = 0x0008 <= tag.group <= 0x0040 and not is_retired
        if is_header and kind in values and keyword_for_tag(tag) not in dataset:
            dataset.add_new(tag, kind, values[kind])
    dataset.add_new(0x00091010, "LO", PLANTED_TEXT)  # a private element


def replace_uids(datasets: Sequence[Dataset]) -> None:
    """Make all identifiers of a series recognizable."""
    for n, dataset in enumerate(datasets):
        dataset.StudyInstanceUID = f"{PLANTED_UID}.1"
        dataset.SeriesInstanceUID = f"{PLANTED_UID}.2"
        dataset.FrameOfReferenceUID = f"{PLANTED_UID}.3"
        dataset.SOPInstanceUID = f"{PLANTED_UID}.4.{n}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _new_file(sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    return dataset


def _set_plane(
    position: Dataset,
    orientation: Dataset,
    measures: Dataset,
    affine: NDArray[np.float64],
    k: int,
) -> None:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    lengths = np.linalg.norm(lps[:3, :2], axis=0)
    directions = (lps[:3, :2] / lengths).T.ravel()
    position.ImagePositionPatient = _decimals(lps[:3, 3] + k * lps[:3, 2])
    orientation.ImageOrientationPatient = _decimals(directions)
    measures.PixelSpacing = _decimals(lengths[::-1])


def _set_pixels(dataset: Dataset, rows: NDArray[np.generic]) -> None:
    dataset.Rows, dataset.Columns = rows.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    n_bits = rows.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = n_bits, n_bits, n_bits - 1
    dataset.PixelRepresentation = int(rows.dtype.kind == "i")
    raw = np.ascontiguousarray(rows).tobytes()
    dataset.PixelData = raw + bytes(len(raw) % 2)
    dataset["PixelData"].VR = "OW"


def _contour(points_mm: NDArray[np.float64], kind: str) -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType = kind
    contour.NumberOfContourPoints = len(points_mm)
    contour.ContourData = _decimals((points_mm * [-1, -1, 1]).ravel())
    return contour


def _decimals(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.10g}"[:16] for value in values]
