"""Fetch one large file: resumed after a broken transfer, checked before it gets its name."""

import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.core.errors import DataError, UsageError
from pipeline.core.log import Bar, progress_bar
from pipeline.core.workspace import write_text

if TYPE_CHECKING:
    from requests import Response

logger = logging.getLogger(__name__)

# What is lost when a transfer breaks: less than one of these.
_CHUNK_BYTES = 1 << 16
_MB = 1e6
# Seconds to connect, and seconds without a byte after which a transfer counts as broken.
_TIMEOUT_S = (10.0, 60.0)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_NO_SUCH_RANGE = 416


@dataclass(frozen=True)
class Source:
    """A file to fetch.

    Args:
        url: https, http or file address.
        md5: What its bytes must hash to, hexadecimal.
        max_bytes: A transfer that grows beyond this is given up.
        room_factor: Free disk space that is needed, in sizes of the file.
        n_tries: Transfers without any progress before giving up.
        wait_s: Pause before the second try; it doubles each time.
    """

    url: str
    md5: str
    max_bytes: int = 64 << 30
    room_factor: float = 1.0
    n_tries: int = 5
    wait_s: float = 1.0


def fetch(source: Source, file: Path) -> Path:
    """Fetch a file, going on with what an earlier, broken transfer left.

    Bytes go to `<file>.part`; only what has the right checksum gets the name `file`. What has
    another one is kept beside it as `<file>.wrong`.

    Args:
        source: Where from.
        file: Where to; a file of that name with the right checksum is taken as it is.

    Returns:
        The file; for a file:// address the original, nothing is copied.

    Raises:
        UsageError: If the address is of another kind, or the disk has too little room.
        DataError: If the server does not deliver, or delivers something else.
    """
    parts = urlsplit(source.url)
    if parts.scheme == "file":
        return _local(source, Path(unquote(parts.path)))
    if parts.scheme not in ("http", "https"):
        raise UsageError(
            f"cannot fetch from an address of kind '{parts.scheme}'",
            where=source.url,
            fix="give an https:// or file:// address",
        )
    if file.is_file() and md5_of(file) == source.md5:
        logger.info("%s is there already, its checksum is right", file.name)
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    _transfer(source, part)
    _check(source, part, file)
    part.replace(file)
    _tag_file(part).unlink(missing_ok=True)
    return file


def md5_of(file: Path) -> str:
    """MD5 of a file, hexadecimal; guards against broken transfers, not against attackers."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _local(source: Source, file: Path) -> Path:
    if not file.is_file():
        raise UsageError("there is no such file", where=str(file), fix="check the address")
    if (found := md5_of(file)) != source.md5:
        raise _wrong(source, found, file)
    return file


def _check(source: Source, part: Path, file: Path) -> None:
    logger.info("checking %s", file.name)
    found = md5_of(part)
    if found == source.md5:
        return
    wrong = file.with_name(f"{file.name}.wrong")
    part.replace(wrong)
    _tag_file(part).unlink(missing_ok=True)
    raise _wrong(source, found, wrong)


def _wrong(source: Source, found: str, kept: Path) -> DataError:
    return DataError(
        f"the checksum is wrong: MD5 {found}, not {source.md5}; the file is kept as {kept}",
        where=source.url,
        fix="run again to fetch it anew; if it happens again, the file at that address is another "
        "one: look at what was kept",
    )


def _transfer(source: Source, part: Path) -> None:
    """Fetch until everything is there; a try that brings something does not count as failed."""
    from requests import RequestException

    n_failed, wait_s, most = 0, source.wait_s, _size(part)
    while True:
        try:
            if _go_on(source, part):
                return
            why = "the connection was closed early"
        except RequestException as error:
            why = _reason(error)
        n_failed += 1
        if _size(part) > most:
            n_failed, wait_s, most = 0, source.wait_s, _size(part)
        if n_failed >= source.n_tries:
            raise DataError(
                f"the transfer failed {n_failed} times without progress: {why}",
                where=source.url,
                fix="check the network and run the same command again: it goes on where it "
                f"stopped ({_size(part) / _MB:.0f} MB are there)",
            )
        logger.warning("transfer broken (%s), going on in %.0f s", why, wait_s)
        time.sleep(wait_s)
        wait_s *= 2


def _go_on(source: Source, part: Path) -> bool:
    """One request; True if the file is complete afterwards."""
    import requests

    headers = _request_headers(part)
    with closing(
        requests.get(source.url, headers=headers, stream=True, timeout=_TIMEOUT_S)
    ) as response:
        if response.status_code == _NO_SUCH_RANGE:
            return _is_whole(response, part)
        _refuse_status(response, source)
        start, total = _extent(response, part)
        _check_room(source, part, start, total)
        mode = "ab" if start else "wb"
        with (
            part.open(mode) as stream,
            progress_bar(part.stem, _in_mb(total), _in_mb(start)) as bar,
        ):
            _note_tag(response, part)
            n_bytes = start + _pour(response, stream.write, bar, source.max_bytes - start)
    return total is None or n_bytes == total


def _is_whole(response: "Response", part: Path) -> bool:
    """Nothing is left to send: everything is there, or what is there is no part of the file."""
    if response.headers.get("Content-Range", "") == f"bytes */{_size(part)}":
        return True
    part.unlink(missing_ok=True)
    return False


def _pour(response: "Response", write: Callable[[bytes], object], bar: Bar, limit: int) -> int:
    n_bytes = 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        n_bytes += len(chunk)
        if n_bytes > limit:
            raise DataError(
                "the server sends more than such a file can have",
                where=response.url,
                fix="check the address",
            )
        write(chunk)
        bar.advance(len(chunk) / _MB)
    return n_bytes


def _request_headers(part: Path) -> dict[str, str]:
    # Compression on the way would make positions in the file meaningless.
    headers = {"Accept-Encoding": "identity"}
    tag = _read_tag(part)
    if not tag:
        # Without a tag nobody can say whether the file at the address is still the same one.
        return headers
    return headers | {"Range": f"bytes={_size(part)}-", "If-Range": tag}


def _refuse_status(response: "Response", source: Source) -> None:
    status = response.status_code
    if status < 400:
        return
    if status >= 500 or status in (408, 429):
        response.raise_for_status()
    raise DataError(
        f"the server answers {status} {response.reason}",
        where=source.url,
        fix="check the address; --url names another place that has the same archive",
    )


def _extent(response: "Response", part: Path) -> tuple[int, int | None]:
    """Position of the first byte the server sends, and the size of the whole file if known."""
    length = response.headers.get("Content-Length", "")
    if response.status_code != 206:
        # A server that knows no ranges, or another file than before: from the start.
        return 0, int(length) if length.isdigit() else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != _size(part):
        part.unlink(missing_ok=True)
        raise DataError(
            "the server sends another part of the file than was asked for",
            where=response.url,
            fix="run again: it starts from the beginning",
        )
    return int(match[1]), int(match[2]) if match[2].isdigit() else None


def _check_room(source: Source, part: Path, start: int, total: int | None) -> None:
    if total is None:
        return
    if total > source.max_bytes:
        raise DataError(
            f"the file has {total / 1e9:.1f} GB, more than such an archive can have",
            where=source.url,
            fix="check the address",
        )
    needed = total * source.room_factor - start
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UsageError(
            f"{needed / 1e9:.1f} GB are needed (archive and unpacked data), "
            f"the disk has {free / 1e9:.1f} GB left",
            where=str(part.parent),
            fix="name a folder on another disk with --to",
        )


def _note_tag(response: "Response", part: Path) -> None:
    """Remember which version of the file this is, so that no other one is appended to it."""
    tag = _strong_tag(response.headers)
    if tag:
        write_text(_tag_file(part), json.dumps({"version": tag}) + "\n")
    else:
        _tag_file(part).unlink(missing_ok=True)


def _strong_tag(headers: Mapping[str, str]) -> str:
    """What If-Range accepts (RFC 9110, 13.1.5): a strong entity tag, else the date of change."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _read_tag(part: Path) -> str:
    if not _size(part):
        return ""
    try:
        return str(json.loads(_tag_file(part).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _in_mb(n_bytes: int | None) -> float:
    return 0.0 if n_bytes is None else n_bytes / _MB


def _reason(error: Exception) -> str:
    """The innermost message; the outer ones repeat the address and the classes."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    return f"{type(error).__name__}: {error}"
