"""The case store: one flat array file per case and role, opened as a memory map.

Beside each ``<key>.npy`` lies ``<key>.json`` with geometry and content hash (`StoredArray`).
"""

from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import Matrix4, StoredArray
from pipeline.core.errors import DataError
from pipeline.core.geometry import Affine
from pipeline.core.workspace import atomic_write, write_json
from pipeline.io.files import hash_bytes


def array_hash(array: Shaped[np.ndarray, "..."]) -> str:
    """Hash number type, shape and values; memory order and byte order do not matter.

    Args:
        array: Any shape.

    Returns:
        xxh3-128, hexadecimal.
    """
    plain = _plain(array)
    description = f"{plain.dtype.name} {plain.shape}".encode()
    return hash_bytes(description, plain.reshape(-1).view(np.uint8).data)


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
        np.save(stream, plain, allow_pickle=False)
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
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError("a stored volume is missing", where=str(file), fix=fix) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"a stored volume is damaged: {error}", where=str(file), fix=fix) from None
    if array.shape != stored.shape or array.dtype.name != stored.dtype:
        raise DataError(
            f"a stored volume is {array.dtype.name} {array.shape}, "
            f"the record says {stored.dtype} {stored.shape}",
            where=str(file),
            fix=fix,
        )
    return np.asarray(array)


def is_stored(work_root: Path, stored: StoredArray) -> bool:
    """Whether the array's file exists with at least the bytes its voxels need."""
    n_bytes = int(np.prod(stored.shape, dtype=np.int64)) * np.dtype(stored.dtype).itemsize
    try:
        return (work_root / stored.file).stat().st_size > n_bytes
    except OSError:
        return False


def sidecar_file(file: Path) -> Path:
    """Sidecar of an array file."""
    return file.with_name(file.name.removesuffix(".npy") + ".json")


def _plain(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """C order and little-endian, so that equal content means equal bytes."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
