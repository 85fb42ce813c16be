"""Bytes of files: content hashes, and gzip that is decoded once, completely and checked."""

import zlib
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


def read_bytes(file: Path) -> bytes:
    """Read a whole file.

    Raises:
        FileFormatError: F01 if there is no such file, F03 if it cannot be read, F06 if it is larger
            than the free memory.
    """
    try:
        check_memory(file.stat().st_size, file)
        return file.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(
            "there is no such file", check_id="F01", where=str(file), fix="check the path"
        ) from None
    except OSError as error:
        raise FileFormatError(
            f"the file cannot be read: {error.strerror}",
            check_id="F03",
            where=str(file),
            fix="check permissions and the disk",
        ) from None


def check_memory(n_bytes: int, file: Path) -> None:
    """Refuse, before anything is allocated, what cannot fit into memory.

    Raises:
        FileFormatError: F06 if the bytes exceed the free memory.
    """
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


def gunzip(raw: bytes, n_expected: int, file: Path) -> bytes | bytearray:
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
        check_memory(n_expected, file)
        try:
            content: bytearray = deflate.gzip_decompress(raw, n_expected)
        except deflate.DeflateError:
            pass  # decoded again below, to say what is wrong
        else:
            if len(content) == n_expected:
                return content
    return _gunzip_in_pieces(raw, n_expected + MAX_TRAILING_BYTES, file)


def _gunzip_in_pieces(raw: bytes, n_max: int, file: Path) -> bytearray:
    content = bytearray()
    rest = raw
    while rest:
        member = zlib.decompressobj(wbits=31)
        pending = rest
        while not member.eof:
            try:
                piece = member.decompress(pending, _CHUNK_BYTES)
            except zlib.error as error:
                raise _damaged(f"the gzip data is damaged ({error})", file) from None
            pending = member.unconsumed_tail
            content += piece
            if len(content) > n_max:
                raise FileFormatError(
                    f"the file holds far more data than its header says ({n_max} bytes and more)",
                    check_id="F04",
                    where=str(file),
                    fix=_FIX_COPY,
                )
            if not piece and not pending and not member.eof:
                raise _damaged("the file is truncated: its gzip data ends early", file)
        # Zeros after the last member are padding that the format allows.
        rest = member.unused_data.lstrip(b"\0")
    return content


def _damaged(what: str, file: Path) -> FileFormatError:
    return FileFormatError(what, check_id="F03", where=str(file), fix=_FIX_COPY)
