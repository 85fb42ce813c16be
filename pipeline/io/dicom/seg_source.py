"""The source series as highdicom wants it, when a DICOM-SEG is written for it.

Archives hand out series with empty or missing elements, which highdicom refuses. What patient and
study elements are there is carried over; what is missing stays empty where the standard allows it,
and identifiers that must be are made up: they name nothing that exists.
"""

import copy

import numpy as np

from pipeline.io.dicom.elements import Dataset, text
from pipeline.io.dicom.planes import Plane, first_item, planes_of
from pipeline.io.dicom.series import Series

_CARRIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Storage classes of single slices; used only if a file does not say its own.
_CLASS_OF_MODALITY = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def seg_sources(series: Series) -> list[Dataset]:
    """Data sets to refer to: one per slice in slice order, or the one multi-frame file.

    Args:
        series: A series; its pixels are not needed.

    Returns:
        New data sets; those of the series stay as they are.
    """
    if len(series.datasets) == 1:
        return [_multi_frame(series.datasets[0], series)]
    header = _study_header(series.datasets[0], series)
    step_mm = float(np.linalg.norm(series.stack.affine[:3, 2]))
    slices = []
    for n in series.stack.order:
        dataset = copy.deepcopy(header)
        _add_slice(dataset, series.datasets[n], planes_of(series.datasets[n], series.files[n])[0])
        dataset.SliceThickness = round(step_mm, 6)
        slices.append(dataset)
    return slices


def _study_header(source: Dataset, series: Series) -> Dataset:
    from pydicom.dataset import Dataset as NewDataset
    from pydicom.uid import generate_uid

    header = NewDataset()
    if text(source, "SpecificCharacterSet"):
        header.add(source["SpecificCharacterSet"])
    for keyword in _CARRIED:
        if keyword in source:
            header.add(source[keyword])
        else:
            setattr(header, keyword, "")
    header.Modality = series.modality or "OT"
    header.StudyInstanceUID = text(source, "StudyInstanceUID") or generate_uid()
    header.SeriesInstanceUID = series.series_uid or generate_uid()
    header.FrameOfReferenceUID = series.frame_uid or generate_uid()
    header.Columns, header.Rows = series.shape[:2]
    return header


def _add_slice(dataset: Dataset, source: Dataset, plane: Plane) -> None:
    from pydicom.uid import generate_uid

    usual_class = _CLASS_OF_MODALITY.get(text(source, "Modality"), _SECONDARY_CAPTURE)
    dataset.SOPClassUID = text(source, "SOPClassUID") or usual_class
    dataset.SOPInstanceUID = text(source, "SOPInstanceUID") or generate_uid()
    dataset.ImagePositionPatient = _decimals(plane.position_mm)
    dataset.ImageOrientationPatient = _decimals(plane.along_columns + plane.along_rows)
    dataset.PixelSpacing = _decimals((plane.row_spacing_mm, plane.column_spacing_mm))


def _decimals(values: tuple[float, ...]) -> list[str]:
    """Numbers as decimal strings of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(value) for value in values]


def _multi_frame(source: Dataset, series: Series) -> Dataset:
    """The file itself, with what all frames have in common moved to the shared groups."""
    dataset = copy.deepcopy(source)
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    first_frame = dataset.PerFrameFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        # `stack_planes` has checked that spacing and orientation are the same in all frames.
        if keyword not in shared:
            shared.add(first_frame[keyword])
    header = _study_header(source, series)
    for element in header:
        dataset.add(element)
    if not text(dataset, "SpecificCharacterSet"):
        dataset.pop("SpecificCharacterSet", None)
    return dataset
