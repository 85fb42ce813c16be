"""What DICOM lies in a folder: series of images, and the labels drawn on them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.elements import Dataset, is_dicom_file, read_dataset, text
from pipeline.io.dicom.planes import first_item
from pipeline.io.dicom.rtstruct import referenced_series_uid, region_table
from pipeline.io.dicom.seg import segment_table
from pipeline.io.dicom.series import RTSTRUCT_CLASS, SEG_CLASSES, is_image

LabelKind = Literal["seg", "rtstruct"]
_KIND_ELEMENTS = ("SOPClassUID", "Modality", "SeriesInstanceUID", "Rows")


@dataclass(frozen=True)
class SeriesFolder:
    """A series of images in one folder.

    Args:
        folder: The folder.
        series_uid: SeriesInstanceUID. Kept in memory to match labels; never written anywhere.
        modality: Such as "CT" or "MR"; empty if the files do not say.
        n_files: Number of files.
        files: The files, sorted by name.
    """

    folder: Path
    series_uid: str
    modality: str
    n_files: int
    files: tuple[Path, ...]


def find_series(folder: Path) -> list[SeriesFolder]:
    """List the image series below a folder.

    Links to folders are not followed; hidden files and folders and damaged files are passed over.

    Args:
        folder: Where to look, at any depth.

    Returns:
        One entry per folder and series, sorted by folder, then by first file. Reading one may still
        find fault with it.

    Raises:
        UsageError: If pydicom is not installed.
    """
    found: list[SeriesFolder] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += _series_among([Path(place) / name for name in sorted(names)])
    return sorted(found, key=lambda series: (series.folder, series.files[0]))


def _series_among(files: list[Path]) -> list[SeriesFolder]:
    groups: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        dataset = _peek(file)
        if dataset is not None and is_image(dataset):
            key = (text(dataset, "SeriesInstanceUID"), text(dataset, "Modality"))
            groups.setdefault(key, []).append(file)
    return [
        SeriesFolder(members[0].parent, uid, modality, len(members), tuple(members))
        for (uid, modality), members in groups.items()
    ]


def _peek(file: Path) -> Dataset | None:
    """The few elements that tell what a file is; None if it is not (readable) DICOM."""
    if not is_dicom_file(file):
        return None
    try:
        return read_dataset(file, with_pixels=False, only=_KIND_ELEMENTS)
    except FileFormatError:
        return None


def is_dicom_folder(folder: Path) -> bool:
    """Whether a folder itself, not one below it, holds a DICOM image."""
    if not folder.is_dir():
        return False
    datasets = (_peek(file) for file in sorted(folder.iterdir()))
    return any(dataset is not None and is_image(dataset) for dataset in datasets)


def label_kind(file: Path) -> LabelKind | None:
    """Which kind of DICOM label a file is; None if it is something else."""
    dataset = _peek(file)
    sop_class = "" if dataset is None else text(dataset, "SOPClassUID")
    if sop_class in SEG_CLASSES:
        return "seg"
    return "rtstruct" if sop_class == RTSTRUCT_CLASS else None


def segment_names(file: Path) -> tuple[str, ...]:
    """Names of the structures a label file holds, by number.

    Args:
        file: A DICOM-SEG or RTSTRUCT.

    Returns:
        Segment labels, or names of the regions that have a closed contour.

    Raises:
        FileFormatError: F02, F03, F05 if the file cannot be read, or is no label.
    """
    kind = _needed_kind(file)
    if kind == "seg":
        dataset = read_dataset(file, with_pixels=False, only=_SEG_NAMES)
        table = segment_table(dataset, file)
    else:
        dataset = read_dataset(file, with_pixels=False, only=_RTSTRUCT_NAMES)
        table = region_table(dataset, file)
    return tuple(table[number] for number in sorted(table))


_SEG_NAMES = ("SpecificCharacterSet", "SegmentSequence")
_RTSTRUCT_NAMES = ("SpecificCharacterSet", "StructureSetROISequence", "ROIContourSequence")


def referenced_series(file: Path) -> str:
    """SeriesInstanceUID of the images a label was drawn on; empty if the label does not say.

    Raises:
        FileFormatError: F02, F03, F05 if the file cannot be read, or is no label.
    """
    if _needed_kind(file) == "seg":
        dataset = read_dataset(file, with_pixels=False, only=("ReferencedSeriesSequence",))
        return text(first_item(dataset, "ReferencedSeriesSequence"), "SeriesInstanceUID")
    only = ("ReferencedFrameOfReferenceSequence",)
    return referenced_series_uid(read_dataset(file, with_pixels=False, only=only))


def _needed_kind(file: Path) -> LabelKind:
    kind = label_kind(file)
    if kind is None:
        raise FileFormatError(
            "the file is no DICOM-SEG and no RTSTRUCT",
            check_id="F05",
            where=str(file),
            fix="name the label file of the case",
        )
    return kind
