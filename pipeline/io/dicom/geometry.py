"""Slices to one voxel grid: order, spacing and tilt from their positions alone.

SliceThickness and SpacingBetweenSlices are never used: the first is how thick a slice was measured,
the second is often wrong. Only ImagePositionPatient and ImageOrientationPatient say where voxels
are (DICOM PS3.3 C.7.6.2.1.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Affine, lps_to_ras
from pipeline.core.text import some_of
from pipeline.io.dicom.elements import FIX_EXPORT
from pipeline.io.dicom.planes import Plane

# Cosines are written with 6 digits and more; what differs by more is another direction.
_MAX_COSINE_ERROR = 1e-3
# Positions are often rounded to 0.1 mm; a slice may be this far from its place on the even grid.
_MAX_ERROR_SLICES = 0.1
_MAX_LATERAL_PIXELS = 0.25
# Positions of one and the same slice differ by less than this.
_SAME_POSITION_MM = 1e-3
_NOTED_ERROR_SLICES = 0.01
_NOTED_TILT_DEGREES = 0.05
_MAX_NAMED = 8


@dataclass(frozen=True)
class Stack:
    """Slices in the order in which they make a volume.

    Args:
        order: ``order[k]`` is the number of the plane that becomes slice k.
        affine: Voxel (column, row, slice) to RAS+ mm; sheared for a tilted gantry.
        tilt_degrees: Angle between the slice normal and the line through the slices.
        notes: What was found and accepted, in words.
    """

    order: tuple[int, ...]
    affine: Affine
    tilt_degrees: float
    notes: tuple[str, ...]


def stack_planes(planes: Sequence[Plane], where: Path) -> Stack:
    """Order slices along their normal and check that they make one even grid.

    Slice numbers in messages count from 1 along the normal (row direction cross column direction).

    Args:
        planes: Slices in any order.
        where: Folder or file, for messages.

    Returns:
        The stack; ``affine`` has the exact step between the first and the last slice.

    Raises:
        FileFormatError: F06 for a single slice, slices of differing size, or several images at one
            position; G03 for differing pixel spacing; G07 for missing or unevenly placed slices
            and unusable directions; G08 for differing orientation.
    """
    if len(planes) < 2:
        raise _refused("F06", "a single slice is no volume", where)
    _check_alike(planes, where)
    along_columns, along_rows = _directions(planes[0], where)
    normal = np.cross(along_columns, along_rows)
    positions_mm = np.array([plane.position_mm for plane in planes])
    order = np.argsort(positions_mm @ normal, kind="stable")
    positions_mm = positions_mm[order]
    depths_mm = positions_mm @ normal
    _check_gaps(depths_mm, where)
    step_mm = (positions_mm[-1] - positions_mm[0]) / (len(planes) - 1)
    notes = _check_even(positions_mm, step_mm, normal, planes[0], where)
    tilt_degrees = _tilt_degrees(step_mm, normal)
    if tilt_degrees > _NOTED_TILT_DEGREES:
        notes += (f"gantry tilt of {tilt_degrees:.1f} degrees, kept as shear of the grid",)
    affine = np.eye(4)
    affine[:3, 0] = along_columns * planes[0].column_spacing_mm
    affine[:3, 1] = along_rows * planes[0].row_spacing_mm
    affine[:3, 2] = step_mm
    affine[:3, 3] = positions_mm[0]
    return Stack(tuple(int(n) for n in order), lps_to_ras(affine), tilt_degrees, notes)


def _check_alike(planes: Sequence[Plane], where: Path) -> None:
    sizes = sorted({(plane.n_columns, plane.n_rows) for plane in planes})
    if len(sizes) > 1:
        found = some_of([f"{n_columns}x{n_rows}" for n_columns, n_rows in sizes], _MAX_NAMED)
        raise _refused("F06", f"the slices differ in size: {found} voxels", where)
    if min(sizes[0]) < 1:
        raise _refused("F06", "the slices hold no voxels", where)
    spacings_mm = np.array([(p.column_spacing_mm, p.row_spacing_mm) for p in planes])
    if not np.all((spacings_mm > 0) & (spacings_mm < _MAX_SPACING_MM)):
        raise _refused("G07", "a pixel spacing is not a possible length", where)
    if np.ptp(spacings_mm, axis=0).max() > _MAX_COSINE_ERROR * spacings_mm.min():
        raise _refused("G03", "the pixel spacing differs between slices", where)
    cosines = np.array([plane.along_columns + plane.along_rows for plane in planes])
    if np.ptp(cosines, axis=0).max() > _MAX_COSINE_ERROR:
        raise _refused("G08", "the slices differ in orientation", where)


# Wider than any scanner: catches numbers that are no lengths before they overflow.
_MAX_SPACING_MM = 1e4


def _directions(plane: Plane, where: Path) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    along_columns, along_rows = np.array(plane.along_columns), np.array(plane.along_rows)
    lengths = np.array([np.linalg.norm(along_columns), np.linalg.norm(along_rows)])
    is_unit = bool(np.all(np.abs(lengths - 1) < _MAX_COSINE_ERROR))
    if not is_unit or abs(float(along_columns @ along_rows)) > _MAX_COSINE_ERROR:
        raise _refused("G07", "the directions of rows and columns are not at right angles", where)
    return along_columns / lengths[0], along_rows / lengths[1]


def _check_gaps(depths_mm: Float[np.ndarray, " n"], where: Path) -> None:
    gaps_mm = np.diff(depths_mm)
    doubled = np.flatnonzero(gaps_mm < _SAME_POSITION_MM)
    if doubled.size == depths_mm.size - 1 or _is_repeated(depths_mm):
        raise _refused(
            "F06",
            f"{depths_mm.size} images share {depths_mm.size - doubled.size} positions: "
            "several time points, echoes or b-values",
            where,
            "keep one volume per series folder",
        )
    if doubled.size:
        raise _refused(
            "F06",
            f"two images lie at one position: {_named_slices(doubled, gaps_mm)}",
            where,
            "remove the copies; keep one image per position",
        )
    usual_mm = float(np.median(gaps_mm))
    missing = np.rint(gaps_mm / usual_mm).astype(np.int64) - 1
    is_multiple = np.abs(gaps_mm / usual_mm - missing - 1) <= _MAX_ERROR_SLICES
    holes = np.flatnonzero(missing > 0)
    if holes.size and np.all(is_multiple):
        names = [f"{missing[n]} between slices {n + 1} and {n + 2}" for n in holes]
        raise _refused(
            "G07",
            f"{int(missing.sum())} slices are missing: {some_of(names, _MAX_NAMED)}",
            where,
            "copy the missing slices from the archive; voxels are never made up",
        )


def _is_repeated(depths_mm: Float[np.ndarray, " n"]) -> bool:
    """Whether every position holds the same number of images, two or more."""
    starts = np.flatnonzero(np.diff(depths_mm, prepend=-np.inf) >= _SAME_POSITION_MM)
    sizes = np.diff(np.append(starts, depths_mm.size))
    return bool(sizes[0] > 1 and np.all(sizes == sizes[0]))


def _named_slices(
    after: Float[np.ndarray, " n"] | np.ndarray, gaps_mm: Float[np.ndarray, " m"]
) -> str:
    return some_of([f"{int(n) + 1} and {int(n) + 2}" for n in after], _MAX_NAMED)


def _check_even(
    positions_mm: Float[np.ndarray, "n 3"],
    step_mm: Float[np.ndarray, "3"],
    normal: Float[np.ndarray, "3"],
    plane: Plane,
    where: Path,
) -> tuple[str, ...]:
    """Compare every slice with its place on the even grid; returns a note if it is a little off."""
    places_mm = positions_mm[0] + np.arange(len(positions_mm))[:, None] * step_mm
    errors_mm = positions_mm - places_mm
    along = np.abs(errors_mm @ normal) / abs(float(step_mm @ normal))
    lateral_mm = np.linalg.norm(errors_mm - (errors_mm @ normal)[:, None] * normal, axis=1)
    if along.max() > _MAX_ERROR_SLICES:
        gaps_mm = np.diff(positions_mm @ normal)
        usual_mm = float(np.median(gaps_mm))
        odd = np.flatnonzero(np.abs(gaps_mm - usual_mm) > _MAX_ERROR_SLICES * usual_mm)
        names = [f"{gaps_mm[n]:.2f} mm between slices {n + 1} and {n + 2}" for n in odd]
        detail = some_of(names, _MAX_NAMED) or f"up to {along.max():.2f} slices off"
        raise _refused("G07", f"the slices are not evenly spaced: {detail}", where)
    pixel_mm = min(plane.column_spacing_mm, plane.row_spacing_mm)
    if lateral_mm.max() > _MAX_LATERAL_PIXELS * pixel_mm:
        worst = int(np.argmax(lateral_mm))
        raise _refused(
            "G07",
            f"slice {worst + 1} lies {lateral_mm[worst]:.2f} mm beside the line of the others",
            where,
        )
    if along.max() > _NOTED_ERROR_SLICES:
        return (f"slice positions are up to {along.max():.2f} slices off an even grid",)
    return ()


def _tilt_degrees(step_mm: Float[np.ndarray, "3"], normal: Float[np.ndarray, "3"]) -> float:
    depth_mm = float(step_mm @ normal)
    lateral_mm = float(np.linalg.norm(step_mm - depth_mm * normal))
    return math.degrees(math.atan2(lateral_mm, depth_mm))


def _refused(check_id: str, what: str, where: Path, fix: str = FIX_EXPORT) -> FileFormatError:
    return FileFormatError(what, check_id=check_id, where=str(where), fix=fix)
