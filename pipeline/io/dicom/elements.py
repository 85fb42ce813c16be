"""Single elements of a DICOM data set, read so that nothing but the asked value ever comes out.

pydicom's own conversion warns about odd values and repeats them in its messages. Values here are
decoded from the stored bytes instead, and no message quotes one: free text may identify a patient.
"""

import functools
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import FileFormatError, UsageError
from pipeline.io.files import MAX_GZIP_RATIO, check_memory

# pydicom's classes carry no annotations that could be checked here.
Dataset = Any

_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 1024
# Asking for the free memory takes longer than reading a slice.
_UNCHECKED_BYTES = 16 << 20
_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
# Files of the years before part 10 begin with group 0002 or 0008 at once, in little endian.
_BARE_STARTS = (b"\x02\x00\x00\x00", b"\x08\x00")
_NAMED_SUFFIXES = (".dcm", ".dicom", ".ima")
FIX_EXPORT = "export the series again from the archive (PACS) it came from"


def is_dicom_file(file: Path) -> bool:
    """Whether the first bytes of a file say DICOM, whatever its name; never for hidden files."""
    if file.name.startswith(".") or file.name.upper() == "DICOMDIR":
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(_PREAMBLE_BYTES + len(_MAGIC))
    except OSError:
        return False
    if head[_PREAMBLE_BYTES:] == _MAGIC:
        return True
    return has_dicom_name(file) and head.startswith(_BARE_STARTS)


def has_dicom_name(file: Path) -> bool:
    """Whether a file name promises DICOM (.dcm, .dicom, .ima)."""
    return file.suffix.lower() in _NAMED_SUFFIXES


def read_dataset(file: Path, *, with_pixels: bool, only: Sequence[str] | None = None) -> Dataset:
    """Parse a DICOM file.

    Args:
        file: The file.
        with_pixels: Read the voxels too.
        only: Keywords of the elements to read; None reads all.

    Returns:
        The data set; its values are taken with the functions of this module.

    Raises:
        FileFormatError: F01 no such file; F02 not DICOM; F03 truncated; F05 not understood; F06
            more data than memory.
        UsageError: If pydicom is not installed.
    """
    pydicom = import_pydicom()
    if not file.is_file():
        raise FileFormatError(
            "there is no such file", check_id="F01", where=str(file), fix="check the path"
        )
    if not is_dicom_file(file):
        raise FileFormatError(
            "the file is not DICOM", check_id="F02", where=str(file), fix=FIX_EXPORT
        )
    n_bytes = file.stat().st_size
    if n_bytes > _UNCHECKED_BYTES:
        check_memory(n_bytes, file)
    try:
        with warnings.catch_warnings():
            # pydicom warns of small breaches of the standard and may quote values.
            warnings.simplefilter("ignore")
            if _may_be_deflated(file):
                check_memory(n_bytes * MAX_GZIP_RATIO, file)
            return pydicom.dcmread(
                file,
                stop_before_pixels=not with_pixels,
                force=True,
                specific_tags=_tags(tuple(only)) if only is not None else None,
            )
    except read_errors():
        raise FileFormatError(
            "the DICOM file is damaged or truncated",
            check_id="F03",
            where=str(file),
            fix=FIX_EXPORT,
        ) from None


@functools.cache
def _tags(keywords: tuple[str, ...]) -> list[Any]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in keywords]


def import_pydicom() -> Any:
    """pydicom, which is an optional extra.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UsageError(
            "reading DICOM needs the packages of the extra 'dicom'",
            fix="pip install 'voxline[dicom]'",
        ) from None
    return pydicom


def read_errors() -> tuple[type[Exception], ...]:
    """What pydicom and the decoders below it are seen to raise for damaged bytes."""
    from pydicom.errors import BytesLengthException

    return (
        *(ValueError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError),
        *(LookupError, EOFError, OSError, OverflowError, RuntimeError, struct.error, zlib.error),
        BytesLengthException,
    )


def _may_be_deflated(file: Path) -> bool:
    """Whether the header, which is never deflated itself, names the deflated transfer syntax."""
    with file.open("rb") as stream:
        return _DEFLATED_SYNTAX in stream.read(_META_BYTES)


# --- values ---------------------------------------------------------------------------------------


def _raw(dataset: Dataset, keyword: str) -> Any:
    """The stored value of an element, or its converted form; None if the element is missing."""
    try:
        element = dataset.get_item(keyword)
    except read_errors():
        return None
    return None if element is None else element.value


def text(dataset: Dataset, keyword: str) -> str:
    """A code or UID in plain ASCII; empty if missing."""
    value = _raw(dataset, keyword)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return "" if value is None else str(value).strip(" \0")


def words(dataset: Dataset, keyword: str) -> str:
    """A short text in the character set of its data set; empty if missing."""
    value = _raw(dataset, keyword)
    if not isinstance(value, bytes):
        return "" if value is None else str(value).strip(" \0")
    from pydicom.charset import decode_bytes

    encodings = dataset.original_character_set
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = [encodings] if isinstance(encodings, str) else list(encodings)
            return str(decode_bytes(value, names, set())).strip(" \0")
    except read_errors():
        return value.decode("latin-1").strip(" \0")


def numbers(dataset: Dataset, keyword: str, where: Path) -> tuple[float, ...]:
    """Decimal numbers (value representations DS and IS); empty if missing.

    Raises:
        FileFormatError: F05 if the value is not made of finite numbers.
    """
    value = _raw(dataset, keyword)
    if value is None:
        return ()
    if isinstance(value, bytes):
        value = value.strip(b" \0\\")
        value = value.split(b"\\") if value else []
    elif isinstance(value, int | float):
        value = [value]
    try:
        found = tuple(float(n) for n in value)
    except (ValueError, TypeError):
        found = (math.nan,)
    if not all(math.isfinite(n) for n in found):
        raise bad_element(keyword, "does not hold finite numbers", where)
    return found


def vector(dataset: Dataset, keyword: str, n: int, where: Path) -> tuple[float, ...]:
    """Exactly so many decimal numbers.

    Raises:
        FileFormatError: F05 if there are more or fewer of them.
    """
    found = numbers(dataset, keyword, where)
    if len(found) != n:
        problem = f"has {len(found)} numbers instead of {n}" if found else "is missing"
        raise bad_element(keyword, problem, where)
    return found


def count(dataset: Dataset, keyword: str, where: Path, default: int | None = None) -> int:
    """A whole number that is not negative (value representations US, UL and IS).

    Args:
        dataset: Data set.
        keyword: Element, such as "Rows".
        where: File, for messages.
        default: Taken if the element is missing; None refuses.

    Raises:
        FileFormatError: F05 if it is missing or no such number.
    """
    value = _raw(dataset, keyword)
    if value is None or value == b"":
        if default is None:
            raise bad_element(keyword, "is missing", where)
        return default
    try:
        found = _whole(dataset, keyword) if isinstance(value, bytes) else int(value)
    except (ValueError, TypeError):
        found = -1
    if found < 0:
        raise bad_element(keyword, "is no whole number", where)
    return found


def _whole(dataset: Dataset, keyword: str) -> int:
    from pydicom.datadict import dictionary_VR

    element = dataset.get_item(keyword)
    if str(dictionary_VR(keyword)) == "IS":
        return int(element.value.strip(b" \0"))
    # Several values stand for the element only if there is one of them.
    order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
    return int.from_bytes(element.value, order) if len(element.value) in (2, 4) else -1


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; empty if it is missing or damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = dataset.get(keyword)
            return list(found) if found else []
    except read_errors():
        return []


def bad_element(keyword: str, problem: str, where: Path) -> FileFormatError:
    """The error for an element that is missing or cannot be used; it never quotes the value."""
    return FileFormatError(
        f"the DICOM element {keyword} {problem}", check_id="F05", where=str(where), fix=FIX_EXPORT
    )
