"""Unpack an archive nobody has checked: it may write nothing but files, below one folder."""

import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.core.errors import DataError
from pipeline.core.log import progress_bar

_CHUNK_BYTES = 1 << 20
_MB = 1e6


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to.

    Args:
        n_files: Most files and folders.
        n_bytes: Most bytes of all files together.
        ratio: Most bytes of all files together, in sizes of the archive.
    """

    n_files: int = 100_000
    n_bytes: int = 128 << 30
    # Volumes are compressed already; Decathlon archives grow by 1.0.
    ratio: float = 20.0


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a tar archive that holds one folder, so that the folder is there whole or not at all.

    Hidden files, as macOS adds them, are left out. Times, owners and rights of the archive are not
    taken over.

    Args:
        archive: A .tar file, compressed or not.
        target: The folder to make; its name is that of the folder in the archive.
        limits: What the archive may grow to.

    Returns:
        The folder.

    Raises:
        DataError: If the archive is damaged, holds anything but files and folders, names a place
            outside its folder, names a file twice, or grows beyond the limits.
    """
    limits = limits or Limits()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=f".{target.name}.", suffix=".part"
    ) as name:
        try:
            with _opened(archive) as tar:
                _unpack_all(tar, archive, Path(name), target.name, limits)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, not the archive
            raise _refused(archive, f"it is damaged: {error}") from None
        unpacked = Path(name) / target.name
        if not unpacked.is_dir():
            raise _refused(archive, f"it holds no folder {target.name}")
        _take_place(unpacked, target)
    return target


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    # As a stream: nothing beyond the present file is ever held in memory.
    with tarfile.open(archive, "r|*") as tar:
        yield tar


def _unpack_all(
    tar: tarfile.TarFile, archive: Path, folder: Path, top: str, limits: Limits
) -> None:
    archive_bytes = archive.stat().st_size
    most = min(limits.n_bytes, round(limits.ratio * archive_bytes))
    n_files = n_bytes = end = 0
    with progress_bar(f"unpacking {top}", archive_bytes / _MB) as bar:
        for member in tar:
            n_files += 1
            n_bytes += member.size
            if n_files > limits.n_files:
                raise _refused(archive, f"it holds more than {limits.n_files} files")
            # The size a header claims is what is read at most, so it is enough to add up claims.
            if n_bytes > most:
                raise _refused(archive, f"unpacked it has more than {most / 1e6:.0f} MB")
            path = _checked_name(archive, member, top)
            if path is not None:
                _write(tar, archive, member, folder / path)
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            bar.advance(member.size / _MB)
    # A block of zeros ends an archive. `tarfile` also stops, and says nothing, where bytes end.
    if tar.fileobj.tell() < end + tarfile.BLOCKSIZE:
        raise _refused(archive, "its end is missing")


def _checked_name(archive: Path, member: tarfile.TarInfo, top: str) -> PurePosixPath | None:
    """Where a member goes, relative to the new folder; None for a hidden one."""
    name = member.name
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _refused(archive, f"{name[:80]!r} is neither a plain file nor a folder")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise _refused(archive, f"{name[:80]!r} leads out of the folder")
    if any(part.startswith(".") for part in path.parts) or not path.parts:
        return None
    if path.parts[0] != top:
        raise _refused(archive, f"{name[:80]!r} lies outside the folder {top}")
    return path


def _write(tar: tarfile.TarFile, archive: Path, member: tarfile.TarInfo, file: Path) -> None:
    if member.isdir():
        file.mkdir(parents=True, exist_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is None:
        raise _refused(archive, f"{member.name[:80]!r} cannot be read")
    try:
        # "x": a second file of the same name, also by other letters on some disks, is refused.
        with content, file.open("xb") as stream:
            shutil.copyfileobj(content, stream, _CHUNK_BYTES)
    except FileExistsError:
        raise _refused(archive, f"it holds {member.name[:80]!r} twice") from None
    if file.stat().st_size != member.size:
        raise _refused(archive, f"it ends within {member.name[:80]!r}")


def _take_place(unpacked: Path, target: Path) -> None:
    if target.exists():
        raise DataError(
            "there is something of this name already",
            where=str(target),
            fix="move it away, or name another folder with --to",
        )
    os.replace(unpacked, target)  # noqa: PTH105  # the one call that is atomic by documentation


def _refused(archive: Path, why: str) -> DataError:
    return DataError(
        f"the archive is not unpacked: {why}",
        where=str(archive),
        fix="delete it and fetch it again from its official place",
    )
