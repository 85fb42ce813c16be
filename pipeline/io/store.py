"""The case store: one flat array file per case and role, opened as a memory map.

Beside each ``<key>.npy`` lies ``<key>.json`` with geometry and content hash (`StoredArray`).
"""

import mmap
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import Matrix4, StoredArray
from pipeline.core.errors import DataError
from pipeline.core.geometry import Affine
from pipeline.core.workspace import atomic_write, write_json
from pipeline.io.files import hash_bytes

# Smaller arrays stay in the cache, whatever the order.
_LARGE_VOXELS = 1 << 20
_BLOCK = 16


def array_hash(array: Shaped[np.ndarray, "..."]) -> str:
    """Hash number type, shape and values; memory order and byte order do not matter.

    Args:
        array: Any shape.

    Returns:
        xxh3-128, hexadecimal.
    """
    plain = _plain(array)
    description = f"{plain.dtype.name} {plain.shape}".encode()
    return hash_bytes(description, _bytes_of(plain))


def write_array(
    store_dir: Path,
    key: str,
    array: Shaped[np.ndarray, "..."],
    affine: Affine,
    source_orientation: str,
    work_root: Path,
) -> StoredArray:
    """Put an array into a store, atomically, with its sidecar.

    Args:
        store_dir: Folder of the store; created if needed.
        key: File name without suffix, unique in the store.
        array: (channel, i, j, k) or (i, j, k), axes running to R, A, S; written in C order.
        affine: Voxel index to world mm of this array.
        source_orientation: Orientation of the file it came from, such as "LPS".
        work_root: Work folder that `StoredArray.file` is relative to.

    Returns:
        The record that `open_array` takes.
    """
    plain = _plain(array)
    file = store_dir / f"{key}.npy"
    # Not waiting for the disk makes small cases five times faster; `is_stored` and `open_array`
    # notice a file that a power failure cut short, and everything here can be made again.
    with atomic_write(file, durable=False) as stream:
        stream.write(_npy_header(plain.dtype.name, plain.shape))
        stream.write(_bytes_of(plain))
    stored = StoredArray(
        file=file.relative_to(work_root).as_posix(),
        dtype=plain.dtype.name,
        shape=plain.shape,
        affine=cast(Matrix4, tuple(tuple(float(x) for x in row) for row in affine)),
        source_orientation=source_orientation,
        content_hash=array_hash(plain),
    )
    write_json(sidecar_file(file), stored, durable=False)
    return stored


def open_array(work_root: Path, stored: StoredArray) -> Shaped[np.ndarray, "..."]:
    """Open a stored array as a read-only memory map; voxels are read when they are used.

    Args:
        work_root: Work folder.
        stored: What `write_array` returned.

    Returns:
        The array, (channel, i, j, k) or (i, j, k).

    Raises:
        DataError: If the file is missing, cut short, or of another shape or number type.
    """
    file = work_root / stored.file
    fix = "run ingest again"
    header = _npy_header(stored.dtype, stored.shape)
    try:
        # Mapped here, not by np.load: that parses the header as Python and resolves the path,
        # which takes longer than reading a small volume.
        with file.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise DataError("a stored volume is missing", where=str(file), fix=fix) from None
    except (OSError, ValueError) as error:
        raise DataError(f"a stored volume is damaged: {error}", where=str(file), fix=fix) from None
    if content[: len(header)] != header:
        raise DataError(
            f"a stored volume is not the {stored.dtype} {stored.shape} that its record says",
            where=str(file),
            fix=fix,
        )
    if len(content) != len(header) + n_voxel_bytes(stored):
        raise DataError("a stored volume is cut short", where=str(file), fix=fix)
    return np.ndarray(stored.shape, np.dtype(stored.dtype), content, offset=len(header))


def is_stored(work_root: Path, stored: StoredArray) -> bool:
    """Whether the array's file exists with at least the bytes its voxels need."""
    try:
        return (work_root / stored.file).stat().st_size > n_voxel_bytes(stored)
    except OSError:
        return False


def n_voxel_bytes(stored: StoredArray) -> int:
    """Bytes that the voxels of an array take."""
    return int(np.prod(stored.shape, dtype=np.int64)) * np.dtype(stored.dtype).itemsize


def read_sidecar(work_root: Path, stored: StoredArray) -> StoredArray:
    """Read what lies beside a stored array.

    Args:
        work_root: Work folder.
        stored: The array.

    Returns:
        The content of its sidecar.

    Raises:
        DataError: If the sidecar is missing or damaged.
    """
    file = sidecar_file(work_root / stored.file)
    try:
        return StoredArray.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        raise DataError(
            "a sidecar is missing or damaged", where=str(file), fix="run ingest again"
        ) from None


def sidecar_file(file: Path) -> Path:
    """Sidecar of an array file."""
    return file.with_name(file.name.removesuffix(".npy") + ".json")


@lru_cache
def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What np.save writes before the voxels of an array in C order."""
    stream = BytesIO()
    description = {
        "descr": np.dtype(dtype).newbyteorder("<").str,
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _bytes_of(plain: Shaped[np.ndarray, "..."]) -> memoryview:
    return plain.reshape(-1).view(np.uint8).data


def _plain(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """C order and little-endian, so that equal content means equal bytes."""
    dtype = array.dtype.newbyteorder("<")
    is_row_wise = array.ndim < 3 or array.strides[-1] == array.itemsize
    if is_row_wise or array.size < _LARGE_VOXELS:
        return np.ascontiguousarray(array, dtype=dtype)
    # Files run along i, the store along k. Column by column both caches miss at every voxel; in
    # blocks of i and k (j at once) a 512x512x200 CT takes half as long.
    plain = np.empty(array.shape, dtype)
    for i in range(0, array.shape[-3], _BLOCK):
        for k in range(0, array.shape[-1], _BLOCK):
            block = (..., slice(i, i + _BLOCK), slice(None), slice(k, k + _BLOCK))
            plain[block] = array[block]
    return plain
