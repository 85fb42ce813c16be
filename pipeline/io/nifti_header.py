"""NIfTI headers: what they say about number type, shape and place, and what is not believed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from pipeline.artifacts import FileFacts, Matrix4
from pipeline.core.geometry import Geometry, Spacing, corner_distance_mm, spacing_of
from pipeline.io.raw import (
    NO_MATRIX,
    angles_of,
    bad_dimensions,
    bad_header,
    matrix_of,
    shear_notes,
)

# nibabel's headers carry no type annotations.
Header = Any

# Byte order and version follow from the first field, the size of the header (NIfTI-1.1, NIfTI-2).
HEADER_SIZES: dict[int, Any] = {348: nib.nifti1.Nifti1Header, 540: nib.nifti2.Nifti2Header}
_SINGLE_MAGICS = (b"n+1", b"n+2")
_PAIR_MAGICS = (b"ni1", b"ni2")
# Codes of nifti1.h; colour, complex and 128-bit types have no place in a scalar volume.
_DTYPES = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"},
    **{256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_OTHER_TYPES = {
    **{0: "of unknown type", 1: "single bits", 32: "complex", 128: "RGB colour"},
    **{1536: "128-bit floats", 1792: "complex", 2048: "complex", 2304: "RGBA colour"},
}
# Units of length other than mm (nifti1.h), in the lowest three bits of their field.
_OTHER_UNITS = {1: "meters", 3: "micrometers"}
_LENGTH_BITS = 7
# Two matrices that put no corner farther apart than this differ by the rounding of quaternions.
_MAX_ROUNDING_VOXELS = 0.1
# Check G03: relative difference of voxel sizes that 32-bit rounding explains.
_MAX_SIZE_ROUNDING = 1e-3


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI header that was understood.

    Args:
        header: nibabel's view of the bytes.
        dtype: Stored number type with its byte order.
        shape: Axes as stored, trailing 1s included.
        offset: Byte of the first voxel in the file that holds the voxels.
    """

    header: Header
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int


def parse_nifti_header(head: bytes, file: Path, *, is_pair: bool) -> NiftiHeader:
    """Read a NIfTI-1 or NIfTI-2 header of either byte order.

    Args:
        head: The first bytes of the file, 540 if there are as many.
        file: For the error message.
        is_pair: Whether the header stands in a file of its own (.hdr beside .img).

    Returns:
        The header.

    Raises:
        FileFormatError: F05 header not understood or no scalar number type; F06 dimensions that
            are no volume.
    """
    header = _parse(head, file)
    _check_magic(bytes(header["magic"].item()), file, is_pair=is_pair)
    return NiftiHeader(
        header,
        _stored_dtype(header, file),
        _stored_shape(header, file),
        _voxel_offset(header, file, lowest=0 if is_pair else int(header.single_vox_offset)),
    )


def nifti_facts(parsed: NiftiHeader, file: Path, *, name: str, n_bytes: int) -> FileFacts:
    """Facts of a NIfTI file; the rule which of its matrices counts is in `io.nifti.read_nifti`.

    Args:
        parsed: The header.
        file: For the error message.
        name: How facts name the file.
        n_bytes: Size of the file, of both files of a pair.

    Returns:
        The facts; the number of trailing bytes is still to be filled in.

    Raises:
        FileFormatError: F05 if the intensity scaling makes no sense.
    """
    header = parsed.header
    slope, inter = _scaling(header, file)
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = matrix_of(header.get_sform()) if sform_code > 0 else None
    qform = _qform(header) if qform_code > 0 else None
    source: Literal["sform", "qform", "pixdim"] = "pixdim"
    if sform_code > 0:
        source, affine = "sform", sform
    elif qform_code > 0:
        source, affine = "qform", qform
    else:
        affine = matrix_of(header.get_base_affine())
    i_mm, j_mm, k_mm = (float(n) if math.isfinite(n) else 0.0 for n in header["pixdim"][1:4])
    facts = FileFacts(
        file=name,
        n_bytes=n_bytes,
        format="nifti2" if isinstance(header, nib.nifti2.Nifti2Header) else "nifti1",
        dtype=parsed.dtype.name,
        shape=parsed.shape,
        affine=affine or NO_MATRIX,
        affine_source=source,
        pixdim_mm=(i_mm, j_mm, k_mm),
        sform_code=sform_code,
        qform_code=qform_code,
        sform=sform,
        qform=qform,
        scl_slope=slope,
        scl_inter=inter,
    )
    if affine is None:
        return facts
    place = _Place(affine, source, sform, qform, parsed.shape[:3], facts.pixdim_mm)
    placed = facts.model_copy(update=_placement(place))
    unit = _OTHER_UNITS.get(int(header["xyzt_units"]) & _LENGTH_BITS)
    if unit is None:
        return placed
    note = f"the header counts in {unit}; taken as mm, as nibabel does"
    return placed.model_copy(update={"notes": (*placed.notes, note)})


def _parse(head: bytes, file: Path) -> Header:
    for endianness, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]  # a Literal by its table
        if size in HEADER_SIZES and len(head) >= size:
            return HEADER_SIZES[size](head[:size], endianness, check=False)
    raise bad_header("the file is not NIfTI: its first bytes are no header size", file)


def _check_magic(magic: bytes, file: Path, *, is_pair: bool) -> None:
    if magic in (_PAIR_MAGICS if is_pair else _SINGLE_MAGICS):
        return
    if magic in _PAIR_MAGICS:
        raise bad_header("the header belongs to a .hdr/.img pair, in two files of that name", file)
    if magic in _SINGLE_MAGICS:
        raise bad_header("the header belongs to a single .nii file, not to a pair", file)
    if is_pair and not magic.strip(b"\0"):
        raise bad_header(
            "the file is Analyze 7.5, which does not say which side is left: not supported", file
        )
    raise bad_header(f"the file is not NIfTI: magic {magic!r} (Analyze 7.5?)", file)


def _stored_dtype(header: Header, file: Path) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        kind = _OTHER_TYPES.get(code, f"of a type NIfTI does not define (code {code})")
        raise bad_header(f"the voxels are {kind}, not plain numbers", file)
    return np.dtype(_DTYPES[code]).newbyteorder(header.endianness)


def _stored_shape(header: Header, file: Path) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    shape = tuple(dim[1 : dim[0] + 1]) if 1 <= dim[0] <= 7 else ()
    if len(shape) < 3 or min(shape) < 1:
        raise bad_dimensions(f"the header describes no volume: dim = {dim}", file)
    if math.prod(shape[4:]) > 1:
        raise bad_dimensions(f"the file has {len(shape)} axes: {shape}", file)
    return shape


def _voxel_offset(header: Header, file: Path, *, lowest: int) -> int:
    offset = float(header["vox_offset"])
    if offset == 0:
        return lowest
    if not math.isfinite(offset) or offset != int(offset) or offset < lowest:
        raise bad_header(f"the voxels cannot begin at byte {offset:g}", file)
    return int(offset)


def _scaling(header: Header, file: Path) -> tuple[float | None, float | None]:
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError:
        raise bad_header("scl_slope is set but scl_inter is not finite", file) from None
    return slope, inter


def _qform(header: Header) -> Matrix4 | None:
    try:
        with np.errstate(all="ignore"):  # what overflows is not finite and refused below
            return matrix_of(header.get_qform())
    except (HeaderDataError, ValueError):  # the quaternion is none, or a voxel size is negative
        return None


@dataclass(frozen=True)
class _Place:
    """All of a header that says where the voxels lie."""

    affine: Matrix4
    affine_source: str
    sform: Matrix4 | None
    qform: Matrix4 | None
    shape: tuple[int, ...]
    pixdim_mm: Spacing


# Image and label, and often all cases, lie on the same grid.
@lru_cache(maxsize=256)
def _placement(facts: _Place) -> dict[str, float | tuple[str, ...] | None]:
    """Angles, disagreement of the two matrices, and what was resolved by rule."""
    affine = np.array(facts.affine)
    with np.errstate(all="ignore"):  # a header may hold numbers whose squares overflow
        oblique, shear = angles_of(affine)
        sizes_mm = np.array(spacing_of(affine))
        distance_mm = _disagreement_mm(facts)
    if not all(math.isfinite(n) for n in (oblique, shear, distance_mm or 0.0)):
        return {}
    notes: list[str] = []
    if distance_mm is not None and distance_mm > _MAX_ROUNDING_VOXELS * sizes_mm.min():
        notes.append(f"sform and qform place corners {distance_mm:.3g} mm apart; the sform counts")
    if facts.affine_source == "pixdim":
        notes.append(
            "neither sform nor qform is set; placed around its center, with i running to the left"
        )
    elif np.any(np.abs(sizes_mm - np.abs(facts.pixdim_mm)) > _MAX_SIZE_ROUNDING * sizes_mm):
        notes.append(
            f"pixdim says {_listed(facts.pixdim_mm)} mm, the {facts.affine_source} "
            f"{_listed(sizes_mm.tolist())} mm; the {facts.affine_source} counts"
        )
    return {
        "oblique_degrees": oblique,
        "shear_degrees": shear,
        "disagreement_mm": distance_mm,
        "notes": (*notes, *shear_notes(shear)),
    }


def _disagreement_mm(facts: _Place) -> float | None:
    if facts.sform is None or facts.qform is None:
        return None
    i, j, k = facts.shape[:3]
    sform, qform = Geometry((i, j, k), np.array(facts.sform)), np.array(facts.qform)
    return corner_distance_mm(sform, Geometry((i, j, k), qform))


def _listed(sizes_mm: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes_mm)
