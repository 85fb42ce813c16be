"""DICOM through the one door: a series as image, a DICOM-SEG or RTSTRUCT as label map."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError, GeometryError
from pipeline.core.geometry import (
    Affine,
    Shape3,
    check_affine,
    oblique_degrees,
    shear_degrees,
    spacing_of,
)
from pipeline.core.text import some_of
from pipeline.core.volume import Volume
from pipeline.io.dicom.elements import Dataset, read_dataset, text
from pipeline.io.dicom.grid import grid_of
from pipeline.io.dicom.rtstruct import rtstruct_structures
from pipeline.io.dicom.seg import seg_structures
from pipeline.io.dicom.series import RTSTRUCT_CLASS, SEG_CLASSES, read_series, series_voxels
from pipeline.io.dicom.structures import paint
from pipeline.io.raw import NO_MATRIX, facts_name, matrix_of

if TYPE_CHECKING:
    from pipeline.io.load import LabelContext

_MAX_NAMED = 8


def load_series(folder: Path, *, root: Path) -> tuple[FileFacts, Volume]:
    """Read the image series of a folder, or a multi-frame file.

    Axes i, j, k run along columns, rows and slices as stored; slices are sorted along their normal.
    Rescaling is applied slice by slice: whole numbers stay integers, the rest is float32. Facts
    hold no name, date, identifier or description.

    Args:
        folder: Folder with one series, or a multi-frame file.
        root: Folder that `facts.file` is relative to.

    Returns:
        Facts, and the volume (1, i, j, k).

    Raises:
        FileFormatError: F01 to F06, G03, G07, G08 as `read_series` and `series_voxels` say.
        UsageError: If the extra 'dicom' is not installed.
    """
    series = read_series(folder, with_pixels=True)
    voxels = series_voxels(series)
    array = voxels.array.transpose(2, 1, 0)[np.newaxis]
    n_nonfinite = 0
    if array.dtype.kind == "f":
        n_nonfinite = array.size - int(np.count_nonzero(np.isfinite(array)))
    facts = _facts(
        folder,
        root,
        n_bytes=sum(file.stat().st_size for file in series.files),
        shape=series.shape,
        affine=series.stack.affine,
    )
    facts = facts.model_copy(
        update={
            "format": "dicom",
            "dtype": voxels.dtype,
            "scl_slope": voxels.slope,
            "scl_inter": voxels.intercept,
            "n_nonfinite": n_nonfinite,
            "notes": (*series.stack.notes, *voxels.notes),
        }
    )
    return facts, Volume(array, series.stack.affine)


def load_dicom_label(
    file: Path, *, root: Path, context: "LabelContext"
) -> tuple[FileFacts, Volume]:
    """Read a DICOM-SEG or RTSTRUCT as a label map on the grid of its image.

    Args:
        file: The label file.
        root: Folder that `facts.file` is relative to.
        context: The image the label was drawn on, and the values of the classes by name. Without
            values a structure gets its segment or region number.

    Returns:
        Facts, with name and value of every structure painted; and the label map (i, j, k).

    Raises:
        FileFormatError: E03 fractions; E10 overlapping structures; E12 no structure is a class; F05
            no label file; G02 drawn on another image or outside of it; and what reading the image
            raises.
        UsageError: If the extra 'dicom' is not installed.
    """
    dataset = read_dataset(file, with_pixels=True)
    kind = _kind(dataset, file)
    grid = grid_of(context.image)
    notes: tuple[str, ...] = ()
    wanted: set[str] | None = None
    if context.class_values is not None:
        wanted = {name for name, values in context.class_values.items() if values[0]}
    if kind == "dicom_seg":
        structures = seg_structures(dataset, grid, file, wanted)
    else:
        drawn = rtstruct_structures(dataset, grid, file, wanted)
        structures, notes = drawn.structures, drawn.notes
    painted = paint(structures, grid.geometry.shape, context.class_values, file)
    if painted.left_out:
        notes += (f"structures that are no class: {some_of(painted.left_out, _MAX_NAMED)}",)
    facts = _facts(
        file,
        root,
        n_bytes=file.stat().st_size,
        shape=grid.geometry.shape,
        affine=grid.geometry.affine,
    )
    facts = facts.model_copy(
        update={
            "format": kind,
            "dtype": painted.array.dtype.name,
            "notes": notes,
            "segments": painted.segments,
        }
    )
    return facts, Volume(painted.array, grid.geometry.affine)


def _kind(dataset: Dataset, file: Path) -> str:
    sop_class = text(dataset, "SOPClassUID")
    if sop_class in SEG_CLASSES:
        return "dicom_seg"
    if sop_class == RTSTRUCT_CLASS:
        return "dicom_rtstruct"
    raise FileFormatError(
        "the file is no DICOM-SEG and no RTSTRUCT",
        check_id="F05",
        where=str(file),
        fix="name the label file of the case",
    )


def _facts(file: Path, root: Path, *, n_bytes: int, shape: Shape3, affine: Affine) -> FileFacts:
    try:
        check_affine(affine)
    except GeometryError as error:
        raise FileFormatError(error.what, check_id="G07", where=str(file), fix=error.fix) from None
    return FileFacts(
        file=facts_name(file, root),
        n_bytes=n_bytes,
        format="dicom",
        dtype="",
        shape=shape,
        affine=matrix_of(affine) or NO_MATRIX,
        affine_source="direction",
        pixdim_mm=spacing_of(affine),
        sform_code=0,
        qform_code=0,
        sform=None,
        qform=None,
        scl_slope=None,
        scl_inter=None,
        oblique_degrees=oblique_degrees(affine),
        shear_degrees=shear_degrees(affine),
    )
