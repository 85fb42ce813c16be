"""NIfTI files, read from their bytes: everything is checked, no voxel is copied or rescaled."""

import math
from pathlib import Path

import deflate
import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError, GeometryError, UsageError
from pipeline.core.volume import Volume
from pipeline.core.workspace import atomic_write
from pipeline.io.files import GZIP_MAGIC, file_size, gunzip, gunzip_file, gunzip_head, read_bytes
from pipeline.io.nifti_header import (
    HEADER_SIZES,
    Header,
    NiftiHeader,
    nifti_facts,
    parse_nifti_header,
)
from pipeline.io.raw import RawVolume, facts_name, voxels_of

# Decoding at once is twice as fast but holds the compressed bytes beside the voxels: where those
# are many, memory counts more.
_STREAM_ABOVE_BYTES = 16 << 20
_HEAD_BYTES = 1 << 16
_MIN_FILE_BYTES = 352
_MIN_HEADER_BYTES = 348
_MAX_HEADER_BYTES = 540


def read_nifti(file: Path, *, root: Path) -> RawVolume:
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
    beginning = _beginning(file)
    head = _decoded_head(beginning, file, n_min=_MIN_FILE_BYTES)
    parsed = parse_nifti_header(head, file, is_pair=False)
    return _assemble(parsed, beginning, file, root=root)


def read_nifti_pair(file: Path, *, root: Path) -> RawVolume:
    """Read a NIfTI volume in two files, .hdr and .img, each perhaps with .gz.

    Args:
        file: Either of the two.
        root: Folder that `facts.file` is relative to.

    Returns:
        Header facts and voxels; `facts.file` is the .img file.

    Raises:
        FileFormatError: F01 if the other file is not there; F05 for Analyze 7.5, which does not
            say which side is left; else as `read_nifti`.
    """
    header_file, image_file = pair_files(file)
    raw_header = read_bytes(header_file)
    head = _decoded_head(raw_header, header_file, n_min=_MIN_HEADER_BYTES)
    parsed = parse_nifti_header(head, header_file, is_pair=True)
    beginning = _beginning(image_file)
    _check_gzip_name(beginning, image_file)
    raw = _assemble(parsed, beginning, image_file, root=root)
    n_bytes = raw.facts.n_bytes + len(raw_header)
    return RawVolume(raw.facts.model_copy(update={"n_bytes": n_bytes}), raw.array)


def pair_files(file: Path) -> tuple[Path, Path]:
    """Header and voxel file of a pair, given either of them.

    Raises:
        FileFormatError: F01 if the other one is not there.
    """
    is_gzip = file.name.lower().endswith(".gz")
    plain = file.name[:-3] if is_gzip else file.name
    stem, suffix = plain[:-4], plain[-4:]
    is_header = suffix.lower() == ".hdr"
    wanted = ".img" if is_header else ".hdr"
    wanted = wanted.upper() if suffix.isupper() else wanted
    ends = (".gz", "") if is_gzip else ("", ".gz")
    other = next((f for end in ends if (f := file.with_name(stem + wanted + end)).exists()), None)
    if other is None:
        what = "its voxels" if is_header else "its header"
        raise FileFormatError(
            f"half a pair: {what}, {stem}{wanted}, is not beside it",
            check_id="F01",
            where=str(file),
            fix=f"add {stem}{wanted}, or export the volume as one .nii.gz file",
        )
    return (file, other) if is_header else (other, file)


def _beginning(file: Path) -> bytes:
    """The whole file, but of a large compressed one only its beginning."""
    is_streamed = file.name.lower().endswith(".gz") and file_size(file) > _STREAM_ABOVE_BYTES
    return read_bytes(file, _HEAD_BYTES if is_streamed else -1)


def _assemble(parsed: NiftiHeader, beginning: bytes, file: Path, *, root: Path) -> RawVolume:
    n_expected = parsed.offset + math.prod(parsed.shape) * parsed.dtype.itemsize
    n_bytes = file_size(file)
    content: bytes | bytearray = beginning
    if len(beginning) < n_bytes and beginning[:2] == GZIP_MAGIC:
        content = gunzip_file(file, n_expected)
    elif beginning[:2] == GZIP_MAGIC:
        content = gunzip(beginning, n_expected, file)
    array, n_trailing = voxels_of(content, parsed.dtype, parsed.shape, parsed.offset, file)
    facts = nifti_facts(parsed, file, name=facts_name(file, root), n_bytes=n_bytes)
    return RawVolume(facts.model_copy(update={"n_trailing_bytes": n_trailing}), array)


def _decoded_head(raw: bytes, file: Path, *, n_min: int) -> bytes:
    if not raw:
        raise _not_as_named("the file is empty", file)
    _check_gzip_name(raw, file)
    is_gzip = raw[:2] == GZIP_MAGIC
    head = gunzip_head(raw, _MAX_HEADER_BYTES, file) if is_gzip else raw[:_MAX_HEADER_BYTES]
    if len(head) < n_min:
        if is_gzip:
            gunzip(raw, len(head), file)  # tells a truncated file from a short one
        raise _not_as_named(f"the file is too small for a volume ({len(head)} bytes)", file)
    return head


def _check_gzip_name(raw: bytes, file: Path) -> None:
    is_gzip_name = file.name.lower().endswith(".gz")
    if (raw[:2] == GZIP_MAGIC) == is_gzip_name:
        return
    what = "is gzip although its name does not end in .gz"
    if is_gzip_name:
        what = "is not gzip although its name ends in .gz"
    raise _not_as_named(f"the file {what}", file)


def _not_as_named(what: str, file: Path) -> FileFormatError:
    fix = "copy or export the file again, or correct its name"
    return FileFormatError(what, check_id="F02", where=str(file), fix=fix)


# --- writing --------------------------------------------------------------------------------------


def write_nifti(file: Path, volume: Volume, *, like: FileFacts | None) -> None:
    """Write a NIfTI volume so that it is complete or not there at all.

    Label maps (integer or bool) get the smallest unsigned type that holds them, signed only for
    negative values. No value is rescaled.

    Args:
        file: Name ending in .nii or .nii.gz.
        volume: Label map (i, j, k) or image (channel, i, j, k); channels become the fourth axis.
        like: Facts of the file this volume belongs to. The sform and qform of a NIfTI file are
            repeated, with their codes, so that every program places both files alike. For other
            formats, and for None, the volume's affine becomes sform and qform with code 1
            (scanner); a sheared one is exact in the sform only, a qform cannot hold it.

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
    header = HEADER_SIZES[540 if is_large else 348]()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_xyzt_units("mm")
    if like is not None:
        _check_same_grid(volume, like, file)
    if like is None or like.affine_source == "direction":
        header.set_qform(volume.affine, 1)
        header.set_sform(volume.affine, 1)
    else:
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
