"""Bytes of files: content hashes, and gzip that is decoded once, completely and checked."""

import stat
import zlib
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from pathlib import Path

import deflate
import psutil
import xxhash

from pipeline.core.errors import FileFormatError

GZIP_MAGIC = b"\x1f\x8b"
# DEFLATE cannot shrink data by more than this (zlib's technical notes: 1032 to 1).
MAX_GZIP_RATIO = 1032
# Bytes after the last voxel are read up to this much, to be counted; more is refused.
MAX_TRAILING_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
# Asking the system how much memory is free takes longer than decoding a small volume.
_FITS_BYTES = 16 << 20
_INPUT_BYTES = 1 << 16

_FIX_COPY = "copy or export the file again; its content is damaged"


def hash_bytes(*parts: bytes | bytearray | memoryview) -> str:
    """Hash content, not names or dates.

    Args:
        parts: Contiguous buffers, hashed as if joined.

    Returns:
        xxh3-128 as 32 hexadecimal digits. It finds accidents, it does not resist attackers.
    """
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def hash_file(file: Path) -> str:
    """Hash the content of a file; see `hash_bytes`."""
    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read_bytes(file: Path, n_max: int = -1) -> bytes:
    """Read a file.

    Args:
        file: The file.
        n_max: How many bytes of its beginning; -1 for all of it.

    Raises:
        FileFormatError: F01 if there is no such file, or it is none (a folder, a device: reading
            some of those never ends); F03 if it cannot be read, F06 if it is larger than the free
            memory.
    """
    n_bytes = file_size(file)
    if n_max < 0:
        check_memory(n_bytes, file)
    try:
        with file.open("rb") as stream:
            return stream.read(n_max)
    except OSError as error:
        raise _unreadable(error, file) from None


def file_size(file: Path) -> int:
    """Size of a file in bytes.

    Raises:
        FileFormatError: F01 if there is no such file, or it is none; F03 if it cannot be seen.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        raise FileFormatError(
            "there is no such file", check_id="F01", where=str(file), fix="check the path"
        ) from None
    except OSError as error:
        raise _unreadable(error, file) from None
    if not stat.S_ISREG(status.st_mode):
        raise FileFormatError(
            "this is not a file", check_id="F01", where=str(file), fix="check the path"
        )
    return status.st_size


def check_memory(n_bytes: int, file: Path) -> None:
    """Refuse, before anything is allocated, what cannot fit into memory.

    Raises:
        FileFormatError: F06 if the bytes exceed the free memory.
    """
    if n_bytes <= _FITS_BYTES:
        return
    n_free_bytes = int(psutil.virtual_memory().available)
    if n_bytes > n_free_bytes:
        raise FileFormatError(
            f"the volume takes {n_bytes / 2**30:.1f} GiB, {n_free_bytes / 2**30:.1f} GiB are free",
            check_id="F06",
            where=str(file),
            fix="use a machine with more memory, or check the dimensions in the header",
        )


def gunzip_head(raw: bytes, n_bytes: int, file: Path) -> bytes:
    """Decode only the first bytes of gzip data.

    Args:
        raw: Compressed bytes.
        n_bytes: How many decoded bytes are wanted; fewer come back if there are fewer.
        file: For the error message.

    Returns:
        The decoded beginning.

    Raises:
        FileFormatError: F03 if the data is damaged there.
    """
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, n_bytes)
    except zlib.error as error:
        raise _damaged(f"the gzip data is damaged ({error})", file) from None


def gunzip(raw: bytes | memoryview, n_expected: int, file: Path) -> bytes | bytearray:
    """Decode gzip data to its end and verify every checksum.

    The usual file has one member whose recorded length is the expected one: it is decoded in one
    call into a buffer of that size; what follows such a member is not looked at. Everything else
    (several members as bgzip writes them, bytes after the voxels, damage) is decoded in pieces, so
    that nothing is allocated on the word of a header alone.

    Args:
        raw: Compressed bytes.
        n_expected: Decoded size according to the volume's header.
        file: For the error message.

    Returns:
        The decoded bytes; more or fewer than expected are possible and for the caller to judge.

    Raises:
        FileFormatError: F03 if the data ends early or a checksum is wrong; F04 if it is far longer
            than the header says; F06 if it does not fit into memory.
    """
    recorded = int.from_bytes(raw[-4:], "little")
    is_plausible = 0 < n_expected <= MAX_GZIP_RATIO * len(raw) and recorded == n_expected % 2**32
    if is_plausible:
        content = _decode_at_once(deflate.gzip_decompress, raw, n_expected, file)
        if content is not None:
            return content
    return _decode_in_pieces(BytesIO(raw), n_expected + MAX_TRAILING_BYTES, file, _GZIP_BITS)


def gunzip_file(file: Path, n_expected: int) -> bytearray:
    """Decode a gzip file of any size without holding its compressed bytes; see `gunzip`.

    Half as fast as `gunzip`, which needs the whole file in memory.

    Args:
        file: The file.
        n_expected: Decoded size according to the volume's header.

    Returns:
        As `gunzip`.

    Raises:
        FileFormatError: As `gunzip`.
    """
    check_memory(min(n_expected, MAX_GZIP_RATIO * file_size(file)), file)
    with file.open("rb") as source:
        return _decode_in_pieces(source, n_expected + MAX_TRAILING_BYTES, file, _GZIP_BITS)


def inflate(raw: bytes | memoryview, n_expected: int, file: Path) -> bytes | bytearray:
    """Decode a zlib or gzip stream to its end and verify its checksum; see `gunzip`.

    Args:
        raw: Compressed bytes; which of the two they are shows at their beginning.
        n_expected: Decoded size according to the volume's header.
        file: For the error message.

    Returns:
        The decoded bytes; more or fewer than expected are possible and for the caller to judge.

    Raises:
        FileFormatError: As `gunzip`.
    """
    if raw[:2] == GZIP_MAGIC:
        return gunzip(raw, n_expected, file)
    if 0 < n_expected <= MAX_GZIP_RATIO * len(raw):
        content = _decode_at_once(deflate.zlib_decompress, raw, n_expected, file)
        if content is not None:
            return content
    return _decode_in_pieces(BytesIO(raw), n_expected + MAX_TRAILING_BYTES, file, _ZLIB_BITS)


def _decode_at_once(
    decode: Callable[[bytes | memoryview, int], bytearray],
    raw: bytes | memoryview,
    n_expected: int,
    file: Path,
) -> bytearray | None:
    """The content if it is as long as expected; None if pieces must tell what is wrong."""
    check_memory(n_expected, file)
    try:
        content = decode(raw, n_expected)
    except deflate.DeflateError:
        return None
    return content if len(content) == n_expected else None


def beside(file: Path, name: str) -> Path:
    """The data file that a header names, which must lie in the header's own folder.

    Args:
        file: The header.
        name: What the header calls its data file.

    Returns:
        Path of the data file; whether it is there shows when it is read.

    Raises:
        FileFormatError: F05 if the name leads to another folder, or the data file is a link but
            the header is none.
    """
    is_plain = bool(name) and name.isprintable() and Path(name).name == name and "\\" not in name
    data_file = file.parent / name
    if is_plain and name != ".." and (file.is_symlink() or not data_file.is_symlink()):
        return data_file
    # The name is not repeated: paths in headers tell who made them.
    raise FileFormatError(
        "the header says that its voxels lie in another folder",
        check_id="F05",
        where=str(file),
        fix="put the data file beside its header and write its bare name there",
    )


# zlib's codes for what surrounds the compressed data.
_GZIP_BITS = 31
_ZLIB_BITS = 15


def _decode_in_pieces(
    source: BufferedIOBase, n_max: int, file: Path, window_bits: int
) -> bytearray:
    content = bytearray()
    pending = source.read(_INPUT_BYTES)
    while pending:
        pending = _decode_member(pending, source, content, n_max, file, window_bits)
        # Zeros after the last member are padding that the format allows.
        while not pending.strip(b"\0") and (more := source.read(_INPUT_BYTES)):
            pending = more
        pending = pending.lstrip(b"\0")
    return content


def _decode_member(
    pending: bytes,
    source: BufferedIOBase,
    content: bytearray,
    n_max: int,
    file: Path,
    window_bits: int,
) -> bytes:
    """Decode one compressed stream, append it to the content, return the input that is left.

    The input is given in small pieces: zlib copies what it could not take yet, every time.
    """
    member = zlib.decompressobj(wbits=window_bits)
    while not member.eof:
        pending = pending or source.read(_INPUT_BYTES)
        is_last = not pending
        try:
            piece = member.decompress(pending, _CHUNK_BYTES)
        except zlib.error as error:
            raise _damaged(f"the compressed data is damaged ({error})", file) from None
        pending = member.unconsumed_tail
        content += piece
        if len(content) > n_max:
            raise FileFormatError(
                f"the file holds far more data than its header says ({n_max} bytes and more)",
                check_id="F04",
                where=str(file),
                fix=_FIX_COPY,
            )
        if is_last and not piece and not member.eof:
            raise _damaged("the file is truncated: its compressed data ends early", file)
    return member.unused_data


def _unreadable(error: OSError, file: Path) -> FileFormatError:
    return FileFormatError(
        f"the file cannot be read: {error.strerror}",
        check_id="F03",
        where=str(file),
        fix="check permissions and the disk",
    )


def _damaged(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="F03", where=str(file), fix=_FIX_COPY)
