"""Stored voxels of a DICOM file, decoded if they are compressed, before any rescaling."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.elements import (
    FIX_EXPORT,
    Dataset,
    bad_element,
    count,
    read_errors,
    text,
)
from pipeline.io.dicom.gdcm import LOSSLESS_JPEG, gdcm_frames
from pipeline.io.dicom.planes import n_frames_of

_FIX_UNCOMPRESSED = "export it uncompressed (Explicit VR Little Endian)"
# A default for files from before part 10, which cannot say it: DICOM PS3.5 section 10.
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_UNCOMPRESSED = (
    *(_IMPLICIT_LITTLE, _BIG_ENDIAN),
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"),  # explicit, plain and deflated as a whole
)


def stored_dtype(dataset: Dataset, file: Path) -> np.dtype[Any]:
    """Number type of the stored voxels, in the byte order of this machine.

    Raises:
        FileFormatError: F05 for color images and for voxels that are no plain 8, 16 or 32-bit
            integers.
    """
    n_samples = count(dataset, "SamplesPerPixel", file, default=1)
    kind = text(dataset, "PhotometricInterpretation")
    is_gray = not kind or kind.startswith("MONOCHROME") or text(dataset, "Modality") == "SEG"
    if n_samples != 1 or not is_gray:
        raise _unusable("the image is in color, not a volume of one number per voxel", file)
    n_bits = count(dataset, "BitsAllocated", file)
    n_used = count(dataset, "BitsStored", file, default=n_bits)
    highest = count(dataset, "HighBit", file, default=n_used - 1)
    if n_bits not in (8, 16, 32) or not 0 < n_used <= n_bits or highest != n_used - 1:
        raise _unusable(f"voxels of {n_used} in {n_bits} bits are not supported", file)
    sign = "i" if count(dataset, "PixelRepresentation", file, default=0) == 1 else "u"
    return np.dtype(f"{sign}{n_bits // 8}")


def is_compressed(dataset: Dataset) -> bool:
    """Whether the voxels are stored as compressed frames."""
    return syntax_of(dataset) not in _UNCOMPRESSED


def syntax_of(dataset: Dataset) -> str:
    """Transfer syntax UID of a file."""
    return text(getattr(dataset, "file_meta", {}), "TransferSyntaxUID") or _IMPLICIT_LITTLE


def stored_frames(
    datasets: Sequence[Dataset], files: Sequence[Path]
) -> Iterator[Shaped[np.ndarray, "row column"]]:
    """Decode the frames of files one by one, file by file in stored order.

    Args:
        datasets: Files read with their pixels, of whole bytes per voxel.
        files: Their names, for messages.

    Returns:
        Frames of shape (row, column) in the type of `stored_dtype`; views for uncompressed files.

    Raises:
        FileFormatError: F03 if compressed data is damaged or of another size than the header says;
            F04 if voxels are missing; F05 for types and compressions that cannot be read.
    """
    pairs = list(zip(datasets, files, strict=True))
    if all(syntax_of(dataset) in LOSSLESS_JPEG for dataset in datasets):
        yield from _by_gdcm(pairs)
        return
    for dataset, file in pairs:
        if not is_compressed(dataset):
            yield from _plain_frames(dataset, file)
        elif syntax_of(dataset) in LOSSLESS_JPEG:
            yield from _by_gdcm([(dataset, file)])
        else:
            yield from _by_pydicom(dataset, file)


def _plain_frames(dataset: Dataset, file: Path) -> Iterator[Shaped[np.ndarray, "row column"]]:
    dtype = stored_dtype(dataset, file)
    shape = (n_frames_of(dataset, file), *_frame_shape(dataset, file))
    raw = pixel_bytes(dataset, file)
    n_expected = shape[0] * shape[1] * shape[2] * dtype.itemsize
    if len(raw) < n_expected:
        raise FileFormatError(
            f"the header promises {n_expected} bytes of voxels, the file holds {len(raw)}",
            check_id="F04",
            where=str(file),
            fix=FIX_EXPORT,
        )
    stored = dtype.newbyteorder(">") if syntax_of(dataset) == _BIG_ENDIAN else dtype
    for frame in np.frombuffer(raw, stored, n_expected // dtype.itemsize).reshape(shape):
        yield _used_bits(frame, dataset, file)


def _used_bits(
    frame: Shaped[np.ndarray, "row column"], dataset: Dataset, file: Path
) -> Shaped[np.ndarray, "row column"]:
    """Voxels without the bits that do not belong to them (PS3.5 8.1.1).

    Above the used bits a file may hold anything: zeros below a negative number, an old overlay.
    """
    dtype = stored_dtype(dataset, file)
    n_unused = 8 * dtype.itemsize - count(dataset, "BitsStored", file, default=8 * dtype.itemsize)
    if n_unused == 0:
        return frame
    # Up and down again: the highest used bit becomes the sign of a signed type.
    return np.right_shift(np.left_shift(frame.astype(dtype, copy=False), n_unused), n_unused)


def pixel_bytes(dataset: Dataset, file: Path) -> bytes:
    """Bytes of the PixelData element.

    Raises:
        FileFormatError: F05 if there is none.
    """
    element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    value = None if element is None else element.value
    if not isinstance(value, bytes):
        raise bad_element("PixelData", "is missing", file)
    return value


def _frame_shape(dataset: Dataset, file: Path) -> tuple[int, int]:
    return count(dataset, "Rows", file), count(dataset, "Columns", file)


# --- compressed -----------------------------------------------------------------------------------


def _by_pydicom(dataset: Dataset, file: Path) -> Iterator[Shaped[np.ndarray, "row column"]]:
    if not _can_pydicom(dataset):
        raise _undecodable(dataset, file)
    frames = _pydicom_frames(dataset)
    for _ in range(n_frames_of(dataset, file)):
        yield _checked(_next_frame(frames, file), dataset, file)


def _can_pydicom(dataset: Dataset) -> bool:
    from pydicom.pixels.decoders.base import get_decoder

    uid = _syntax_uid(dataset)
    try:
        return bool(uid.is_transfer_syntax and get_decoder(uid).is_available)
    except NotImplementedError:
        return False


def _syntax_uid(dataset: Dataset) -> Any:
    from pydicom.uid import UID

    return UID(syntax_of(dataset), validation_mode=0)


def _pydicom_frames(dataset: Dataset) -> Iterator[NDArray[Any]]:
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(_syntax_uid(dataset))
    for frame, _ in decoder.iter_array(dataset, raw=True):
        yield frame


def _next_frame(frames: Iterator[NDArray[Any]], file: Path) -> NDArray[Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return next(frames, None)
    except read_errors():
        raise _damaged(file) from None


def _by_gdcm(pairs: Sequence[tuple[Dataset, Path]]) -> Iterator[Shaped[np.ndarray, "row column"]]:
    owners = [pair for pair in pairs for _ in range(n_frames_of(*pair))]
    coded = [piece for dataset, file in pairs for piece in _coded_frames(dataset, file)]
    frames = zip(owners, coded, strict=True)
    described = [(dataset, piece) for (dataset, _), piece in frames]
    with contextlib.closing(gdcm_frames(described)) as decoded:  # its files go, whatever happens
        for (dataset, file), frame in zip(owners, decoded, strict=True):
            yield _checked(frame, dataset, file)


def _coded_frames(dataset: Dataset, file: Path) -> list[bytes]:
    from pydicom.encaps import generate_frames

    n_frames = n_frames_of(dataset, file)
    raw = pixel_bytes(dataset, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            coded = list(generate_frames(raw, number_of_frames=n_frames))
    except read_errors():
        raise _damaged(file) from None
    if len(coded) != n_frames:
        raise _damaged(file)
    return coded


def _checked(
    frame: NDArray[Any] | None, dataset: Dataset, file: Path
) -> Shaped[np.ndarray, "row column"]:
    if frame is None or frame.shape != _frame_shape(dataset, file):
        raise _damaged(file)
    return _used_bits(frame.astype(stored_dtype(dataset, file), copy=False), dataset, file)


def _damaged(file: Path) -> FileFormatError:
    return FileFormatError(
        "the compressed voxels are damaged, or not what the header says",
        check_id="F03",
        where=str(file),
        fix=FIX_EXPORT,
    )


def _undecodable(dataset: Dataset, file: Path) -> FileFormatError:
    uid = _syntax_uid(dataset)
    name = uid.name if uid.is_transfer_syntax else "unknown transfer syntax"
    return _unusable(f"the compression of the voxels cannot be decoded ({name})", file)


def _unusable(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="F05", where=str(file), fix=_FIX_UNCOMPRESSED)
