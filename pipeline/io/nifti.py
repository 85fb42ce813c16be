"""NIfTI files, read from their bytes: everything is checked, no voxel is copied or rescaled."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import deflate
import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.spatialimages import HeaderDataError

from pipeline.artifacts import FileFacts, Matrix4
from pipeline.core.errors import FileFormatError, GeometryError, UsageError
from pipeline.core.volume import Volume
from pipeline.core.workspace import atomic_write
from pipeline.io.files import GZIP_MAGIC, gunzip, gunzip_head, read_bytes

# nibabel's headers carry no type annotations.
Header = Any

# Byte order and version follow from the first field, the size of the header (NIfTI-1.1, NIfTI-2).
_HEADER_SIZES: dict[int, Any] = {348: nib.nifti1.Nifti1Header, 540: nib.nifti2.Nifti2Header}
_MIN_FILE_BYTES = 352
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
_FIX_EXPORT = "export the volume again as a three-dimensional scalar NIfTI-1 file"


@dataclass(frozen=True)
class RawNifti:
    """A NIfTI file as it lies on disk.

    Args:
        facts: What the header says.
        array: Voxels in the stored number type, not rescaled, axes as stored; a read-only view.
    """

    facts: FileFacts
    array: Shaped[np.ndarray, "..."]


def read_nifti(file: Path, *, root: Path) -> RawNifti:
    """Read a single-file NIfTI-1 or NIfTI-2 volume (.nii, .nii.gz) of either byte order.

    The affine follows nibabel: the sform if its code is above 0, else the qform if its code is
    above 0, else a grid centred on the middle voxel from pixdim with x running to the left. If the
    chosen matrix holds a value that is not finite, `facts.affine` is all zeros, which
    `core.geometry.check_affine` refuses.

    Args:
        file: The file.
        root: Folder that `facts.file` is relative to.

    Returns:
        Header facts and voxels.

    Raises:
        FileFormatError: F01 no such file; F02 empty, too small, or gzip by name only (or the other
            way round); F03 truncated or a wrong checksum; F04 fewer or far more bytes than the
            header says; F05 header not understood or no scalar number type; F06 dimensions that
            are no volume.
    """
    raw = read_bytes(file)
    head = _decoded_head(raw, file)
    header = _parse_header(head, file)
    dtype = _stored_dtype(header, file)
    shape = _stored_shape(header, file)
    offset = _voxel_offset(header, file)
    n_voxel_bytes = math.prod(shape) * dtype.itemsize
    content = _decoded(raw, offset + n_voxel_bytes, file)
    if len(content) < offset + n_voxel_bytes:
        raise FileFormatError(
            f"the header promises {offset + n_voxel_bytes} bytes, the file holds {len(content)}",
            check_id="F04",
            where=str(file),
            fix="copy or export the file again; voxels are missing at its end",
        )
    array = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape, order="F")
    array.flags.writeable = False
    facts = _facts(
        header,
        file=file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name,
        n_bytes=len(raw),
        n_trailing_bytes=len(content) - offset - n_voxel_bytes,
        where=file,
    )
    return RawNifti(facts, array)


def _decoded_head(raw: bytes, file: Path) -> bytes:
    is_gzip_name = file.name.lower().endswith(".gz")
    is_gzip = raw[:2] == GZIP_MAGIC
    if not raw:
        raise _not_as_named("the file is empty", file)
    if is_gzip != is_gzip_name:
        what = "is gzip although its name does not end in .gz"
        if is_gzip_name:
            what = "is not gzip although its name ends in .gz"
        raise _not_as_named(f"the file {what}", file)
    head = gunzip_head(raw, 540, file) if is_gzip else raw[:540]
    if len(head) < _MIN_FILE_BYTES:
        if is_gzip:
            gunzip(raw, len(head), file)  # tells a truncated file from a short one
        raise _not_as_named(f"the file is too small for a volume ({len(head)} bytes)", file)
    return head


def _decoded(raw: bytes, n_expected: int, file: Path) -> bytes | bytearray:
    if raw[:2] == GZIP_MAGIC:
        return gunzip(raw, n_expected, file)
    return raw


def _parse_header(head: bytes, file: Path) -> Header:
    for endianness, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(head[:4], order)  # type: ignore[arg-type]  # a Literal by its table
        if size in _HEADER_SIZES and len(head) >= size:
            header = _HEADER_SIZES[size](head[:size], endianness, check=False)
            break
    else:
        raise _bad_header("the file is not NIfTI: its first bytes are no header size", file)
    magic = bytes(header["magic"].item())
    if magic in _PAIR_MAGICS:
        raise _bad_header("the header belongs to a .hdr/.img pair: not supported yet", file)
    if magic not in _SINGLE_MAGICS:
        raise _bad_header(f"the file is not NIfTI: magic {magic!r} (Analyze 7.5?)", file)
    return header


def _stored_dtype(header: Header, file: Path) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        kind = _OTHER_TYPES.get(code, f"of a type NIfTI does not define (code {code})")
        raise _bad_header(f"the voxels are {kind}, not plain numbers", file)
    return np.dtype(_DTYPES[code]).newbyteorder(header.endianness)


def _stored_shape(header: Header, file: Path) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    shape = tuple(dim[1 : dim[0] + 1]) if 1 <= dim[0] <= 7 else ()
    if len(shape) < 3 or min(shape) < 1:
        raise _bad_dimensions(f"the header describes no volume: dim = {dim}", file)
    if math.prod(shape[4:]) > 1:
        raise _bad_dimensions(f"the file has {len(shape)} axes: {shape}", file)
    return shape


def _voxel_offset(header: Header, file: Path) -> int:
    offset = float(header["vox_offset"])
    lowest = int(header.single_vox_offset)
    if offset == 0:
        return lowest
    if not math.isfinite(offset) or offset != int(offset) or offset < lowest:
        raise _bad_header(f"the voxels cannot begin at byte {offset:g}", file)
    return int(offset)


def _facts(
    header: Header, *, file: str, n_bytes: int, n_trailing_bytes: int, where: Path
) -> FileFacts:
    slope, inter = _scaling(header, where)
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = _matrix(header.get_sform()) if sform_code > 0 else None
    qform = _qform(header) if qform_code > 0 else None
    source: Literal["sform", "qform", "pixdim"] = "pixdim"
    affine = None
    if sform_code > 0:
        source, affine = "sform", sform
    elif qform_code > 0:
        source, affine = "qform", qform
    else:
        affine = _matrix(header.get_base_affine())
    i_mm, j_mm, k_mm = (float(n) if math.isfinite(n) else 0.0 for n in header["pixdim"][1:4])
    dim = header["dim"]
    return FileFacts(
        file=file,
        n_bytes=n_bytes,
        format="nifti2" if isinstance(header, nib.nifti2.Nifti2Header) else "nifti1",
        dtype=np.dtype(_DTYPES[int(header["datatype"])]).name,
        shape=tuple(int(n) for n in dim[1 : int(dim[0]) + 1]),
        affine=affine or _NO_MATRIX,
        affine_source=source,
        pixdim_mm=(i_mm, j_mm, k_mm),
        sform_code=sform_code,
        qform_code=qform_code,
        sform=sform,
        qform=qform,
        scl_slope=slope,
        scl_inter=inter,
        n_trailing_bytes=n_trailing_bytes,
    )


_NO_ROW = (0.0, 0.0, 0.0, 0.0)
_NO_MATRIX: Matrix4 = (_NO_ROW, _NO_ROW, _NO_ROW, _NO_ROW)


def _scaling(header: Header, file: Path) -> tuple[float | None, float | None]:
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError:
        raise _bad_header("scl_slope is set but scl_inter is not finite", file) from None
    return slope, inter


def _qform(header: Header) -> Matrix4 | None:
    try:
        with np.errstate(all="ignore"):  # what overflows is not finite and refused below
            return _matrix(header.get_qform())
    except (HeaderDataError, ValueError):  # the quaternion is none, or a voxel size is negative
        return None


def _matrix(array: Float[np.ndarray, "4 4"]) -> Matrix4 | None:
    if not np.all(np.isfinite(array)):
        return None
    return tuple(tuple(float(x) for x in row) for row in array)  # type: ignore[return-value]  # 4 by 4


def _not_as_named(what: str, file: Path) -> FileFormatError:
    fix = "copy or export the file again, or correct its name"
    return FileFormatError(what, check_id="F02", where=str(file), fix=fix)


def _bad_header(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="F05", where=str(file), fix=_FIX_EXPORT)


def _bad_dimensions(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="F06", where=str(file), fix=_FIX_EXPORT)


# --- writing --------------------------------------------------------------------------------------


def write_nifti(file: Path, volume: Volume, *, like: FileFacts | None) -> None:
    """Write a NIfTI volume so that it is complete or not there at all.

    Label maps (integer or bool) get the smallest unsigned type that holds them, signed only for
    negative values. No value is rescaled.

    Args:
        file: Name ending in .nii or .nii.gz.
        volume: Label map (i, j, k) or image (channel, i, j, k); channels become the fourth axis.
        like: Facts of the file this volume belongs to. Its sform and qform are repeated, with
            their codes, so that every program places both files alike. None writes the volume's
            affine as sform and qform with code 1 (scanner).

    Raises:
        GeometryError: If the grid is not the one of `like`.
        UsageError: If the name does not end in .nii or .nii.gz.
    """
    name = file.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise UsageError(
            f"'{file.name}' is no NIfTI name", where=str(file), fix="end it in .nii or .nii.gz"
        )
    array = _smallest(volume.array)
    if array.ndim == 4:
        array = np.moveaxis(array, 0, 3)
    is_large = max(array.shape) > _MAX_NIFTI1_AXIS
    header = _HEADER_SIZES[540 if is_large else 348]()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_xyzt_units("mm")
    if like is None:
        header.set_qform(volume.affine, 1)
        header.set_sform(volume.affine, 1)
    else:
        _check_same_grid(volume, like, file)
        _copy_placement(header, like)
    header["vox_offset"] = header.single_vox_offset
    # Four zero bytes after the header say that no extension follows.
    content = header.binaryblock + bytes(4) + array.tobytes(order="F")
    if name.endswith(".gz"):
        content = deflate.gzip_compress(content, _GZIP_LEVEL)
    with atomic_write(file) as stream:
        stream.write(content)


def _copy_placement(header: Header, like: FileFacts) -> None:
    if like.qform is not None:
        header.set_qform(np.array(like.qform), like.qform_code)
    if like.sform is not None:
        header.set_sform(np.array(like.sform), like.sform_code)
    if like.qform is None:
        # set_qform also writes pixdim; without a qform it is ours to write.
        header["pixdim"][1:4] = like.pixdim_mm


def _check_same_grid(volume: Volume, like: FileFacts, file: Path) -> None:
    native = np.array(like.affine)
    if volume.shape != like.shape[:3]:
        raise GeometryError(
            f"shape {volume.shape} is not that of {like.file} {like.shape[:3]}", where=str(file)
        )
    tolerance_mm = 1e-4 * min(volume.geometry.spacing_mm)
    if not np.allclose(volume.affine, native, rtol=1e-5, atol=tolerance_mm):
        raise GeometryError(
            f"the affine is not that of {like.file}",
            where=str(file),
            fix="bring the volume back to the orientation of the file before writing it",
        )


def _smallest(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        return array if array.dtype.itemsize > 2 else array.astype(np.float32)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    kinds = _UNSIGNED if low >= 0 else _SIGNED
    dtype = next(t for t in kinds if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return array.astype(dtype, copy=False)


_UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)
_SIGNED = (np.int8, np.int16, np.int32, np.int64)
_MAX_NIFTI1_AXIS = 32767
# libdeflate's level 4 is faster than zlib's 1 and label maps shrink almost as far as they can.
_GZIP_LEVEL = 4
