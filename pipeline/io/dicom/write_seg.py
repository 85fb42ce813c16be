"""Label maps out as DICOM-SEG, on the slices of the series they were predicted from."""

import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from pipeline.core.errors import DataError, GeometryError, UsageError
from pipeline.core.volume import Volume
from pipeline.core.workspace import atomic_write
from pipeline.io.dicom.seg_source import seg_sources
from pipeline.io.dicom.series import Series, read_series

# Same grid as read back: an affine is only ever rounded on the way.
_SAME_GRID_MM = 1e-3
_MANUFACTURER = "Voxline"
_SERIES_NUMBER = 9000


def write_dicom_seg(
    file: Path,
    label: Volume,
    *,
    source_folder: Path,
    class_names: Sequence[str],
    values: Sequence[int],
    model_name: str,
) -> None:
    """Write a label map as a DICOM-SEG (BINARY) that belongs to its source series.

    Patient, study and frame of reference are those of the source, as the standard demands. Segment
    numbers run from 1 in the order of the classes. Empty frames are left out.

    Args:
        file: Where to write; complete or not there at all.
        label: Label map (i, j, k) on the grid that `load_series` returns for the source.
        source_folder: Folder of the series, or its multi-frame file.
        class_names: Name of each foreground class, used as segment label.
        values: Value of each class in the label map.
        model_name: Written as the name of the algorithm.

    Raises:
        FileFormatError: If the source cannot be read.
        GeometryError: If the label map is not on the grid of the source.
        DataError: If the source lacks elements that a DICOM-SEG must repeat.
        UsageError: If the extra 'dicom' is not installed, or there are no classes.
    """
    if not class_names or len(class_names) != len(values):
        raise UsageError(
            f"{len(class_names)} class names for {len(values)} values", where=str(file)
        )
    highdicom = _import_highdicom()
    series = read_series(source_folder, with_pixels=False, with_patient=True)
    _check_grid(label, series, file)
    try:
        with warnings.catch_warnings():
            # highdicom warns of unusual elements of the source and may quote them.
            warnings.simplefilter("ignore")
            dataset = highdicom.seg.Segmentation(
                source_images=seg_sources(series),
                pixel_array=_segment_numbers(label, series, values),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_descriptions(class_names, model_name),
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=_MANUFACTURER,
                manufacturer_model_name=model_name[:64],
                software_versions=_version(),
                device_serial_number=_MANUFACTURER,
                series_description=f"Segmentation by {_MANUFACTURER}",
                omit_empty_frames=bool(np.any(np.isin(label.array, list(values)))),
            )
    except (ValueError, AttributeError, KeyError, TypeError):
        # Messages of highdicom may hold values of the source.
        raise DataError(
            "the source series lacks elements that a DICOM-SEG must repeat",
            where=str(source_folder),
            fix="use the NIfTI prediction, or a series exported without stripped headers",
        ) from None
    with atomic_write(file) as stream:
        dataset.save_as(stream)


def _import_highdicom() -> Any:
    try:
        import highdicom
        import highdicom.seg
    except ImportError:
        raise UsageError(
            "writing DICOM-SEG needs the packages of the extra 'dicom'",
            fix="pip install 'voxline[dicom]'",
        ) from None
    return highdicom


def _version() -> str:
    try:
        return version("voxline")
    except PackageNotFoundError:
        return "unknown"


def _check_grid(label: Volume, series: Series, file: Path) -> None:
    if label.shape != series.shape:
        raise GeometryError(
            f"the label map has the shape {label.shape}, its source series {series.shape}",
            where=str(file),
        )
    last = np.array([*label.shape, 1]) - 1
    difference = label.affine - series.stack.affine
    ends_mm = np.abs(difference @ [0, 0, 0, 1]) + np.abs(difference[:, :3]) @ last[:3]
    if float(ends_mm.max()) > _SAME_GRID_MM * min(label.geometry.spacing_mm):
        raise GeometryError(
            "the label map does not lie on the grid of its source series",
            where=str(file),
            fix="bring it back to the orientation of the series before writing it",
        )


def _segment_numbers(
    label: Volume, series: Series, values: Sequence[int]
) -> UInt[np.ndarray, "frame row column"]:
    """Segment number of every voxel, in the order of `seg_sources` or of a multi-frame file.

    A mask per class would take as many bytes per voxel as there are classes.
    """
    numbers = np.zeros(label.shape, np.min_scalar_type(len(values)))
    for number, value in enumerate(values, start=1):
        numbers[label.array == value] = number
    slices = numbers.transpose(2, 1, 0)
    if len(series.datasets) == 1:
        slices = slices[np.argsort(np.array(series.stack.order))]
    return slices


def _descriptions(class_names: Sequence[str], model_name: str) -> list[Any]:
    """One description per class.

    Nothing tells which anatomy a class name means, so that category and type are the general
    concept "Tissue", as other software does; the name is in the segment label.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=model_name[:64], version=_version(), family=codes.cid7162.ArtificialIntelligence
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(class_names, start=1)
    ]
