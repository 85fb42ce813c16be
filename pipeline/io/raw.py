"""A volume as it lies in its file, before it is scaled, joined or turned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import FileFacts, Matrix4
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Affine, oblique_degrees, shear_degrees, spacing_of

# Smaller deviations from a right angle are the rounding of 32-bit headers.
_MIN_SHEAR_DEGREES = 0.01
_NO_ROW = (0.0, 0.0, 0.0, 0.0)
NO_MATRIX: Matrix4 = (_NO_ROW, _NO_ROW, _NO_ROW, _NO_ROW)


@dataclass(frozen=True)
class Segment:
    """One named structure of a segmentation file.

    Args:
        name: Its name, as people gave it.
        value: Number of its voxels.
        layer: Position along the fourth axis of the file; structures of one layer cannot overlap.
    """

    name: str
    value: int
    layer: int


@dataclass(frozen=True)
class RawVolume:
    """A volume file as it lies on disk.

    Args:
        facts: What the header says.
        array: Voxels in the stored number type, not rescaled, (i, j, k) or (i, j, k, channel); a
            read-only view.
        segments: Named structures, if the file names any.
    """

    facts: FileFacts
    array: Shaped[np.ndarray, "..."]
    segments: tuple[Segment, ...] = field(default=())


@dataclass(frozen=True)
class Voxels:
    """Voxels as they lie on disk, and the bytes they took.

    Args:
        array: Read-only view in the stored number type.
        n_bytes: Size of all files of the volume.
        n_trailing_bytes: Bytes after the last voxel.
    """

    array: Shaped[np.ndarray, "..."]
    n_bytes: int
    n_trailing_bytes: int


def facts_name(file: Path, root: Path) -> str:
    """A path as facts name it: relative to the dataset folder, with forward slashes."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def matrix_of(affine: Affine) -> Matrix4 | None:
    """An affine as a model stores it; None if it holds a value that is not finite."""
    if not np.all(np.isfinite(affine)):
        return None
    return tuple(tuple(float(x) for x in row) for row in affine)  # type: ignore[return-value]  # 4 by 4


def angles_of(affine: Affine) -> tuple[float, float]:
    """Obliqueness and shear in degrees; zeros where the axes do not span a volume."""
    if not np.all(np.isfinite(affine)) or min(spacing_of(affine)) <= 0:
        return 0.0, 0.0
    return oblique_degrees(affine), shear_degrees(affine)


def shear_notes(degrees: float) -> tuple[str, ...]:
    """What to say about voxel axes that are not at right angles, if anything."""
    if degrees < _MIN_SHEAR_DEGREES:
        return ()
    return (
        f"voxel axes are {degrees:.3g} degrees off the right angle, as a tilted CT gantry leaves "
        "them; kept as they are",
    )


def direction_facts(
    file: Path,
    voxels: Voxels,
    affine: Affine,
    *,
    root: Path,
    file_format: str,
    notes: Sequence[str] = (),
) -> FileFacts:
    """Facts of a file that places its voxels by directions, spacing and origin (all but NIfTI).

    Args:
        file: The file.
        voxels: Its voxels, (i, j, k) or (i, j, k, channel).
        affine: Voxel index to world mm, RAS+; one that is not finite is stored as zeros, which
            `core.geometry.check_affine` refuses.
        root: Folder that `facts.file` is relative to.
        file_format: "nrrd" or "metaimage".
        notes: What was resolved by rule.

    Returns:
        The facts.
    """
    matrix = matrix_of(affine)
    with np.errstate(all="ignore"):  # a header may hold numbers whose squares overflow
        oblique, shear = angles_of(affine)
        sizes_mm = spacing_of(affine)
    if not all(math.isfinite(n) for n in (oblique, shear, *sizes_mm)):
        matrix, oblique, shear = None, 0.0, 0.0
    return FileFacts(
        file=facts_name(file, root),
        n_bytes=voxels.n_bytes,
        format=file_format,
        dtype=voxels.array.dtype.name,
        shape=tuple(int(n) for n in voxels.array.shape),
        affine=matrix or NO_MATRIX,
        affine_source="direction",
        pixdim_mm=sizes_mm if matrix is not None else (0.0, 0.0, 0.0),
        sform_code=0,
        qform_code=0,
        sform=None,
        qform=None,
        scl_slope=None,
        scl_inter=None,
        n_trailing_bytes=voxels.n_trailing_bytes,
        oblique_degrees=oblique,
        shear_degrees=shear,
        notes=(*notes, *shear_notes(shear)),
    )


def voxels_of(
    content: bytes | bytearray | memoryview,
    dtype: np.dtype[np.generic],
    shape: Sequence[int],
    offset: int,
    file: Path,
) -> tuple[Shaped[np.ndarray, "..."], int]:
    """Look at decoded bytes as voxels, the first axis running fastest.

    Args:
        content: Decoded bytes.
        dtype: Stored number type with its byte order.
        shape: Length of each axis as stored.
        offset: Byte of the first voxel.
        file: For the error message.

    Returns:
        A read-only view, and the number of bytes after the last voxel.

    Raises:
        FileFormatError: F04 if there are fewer bytes than voxels.
    """
    n_voxels = 1
    for n in shape:
        n_voxels *= n
    n_needed = offset + n_voxels * dtype.itemsize
    if len(content) < n_needed:
        raise FileFormatError(
            f"the header promises {n_needed} bytes, the file holds {len(content)}",
            check_id="F04",
            where=str(file),
            fix="copy or export the file again; voxels are missing at its end",
        )
    array = np.frombuffer(content, dtype, n_voxels, offset).reshape(tuple(shape), order="F")
    array.flags.writeable = False
    return array, len(content) - n_needed


def bad_header(what: str, file: Path) -> FileFormatError:
    """F05: a header that is not understood."""
    return FileFormatError(what, check_id="F05", where=str(file), fix=_FIX_EXPORT)


def bad_dimensions(what: str, file: Path) -> FileFormatError:
    """F06: dimensions that are no volume."""
    return FileFormatError(what, check_id="F06", where=str(file), fix=_FIX_EXPORT)


def bad_placement(what: str, file: Path) -> FileFormatError:
    """G07: a header that does not place voxels in space."""
    fix = "export the file again from its source; the header does not say where voxels are"
    return FileFormatError(what, check_id="G07", where=str(file), fix=fix)


_FIX_EXPORT = "export the volume again as a three-dimensional scalar NIfTI-1 file"
