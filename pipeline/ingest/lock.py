"""Who may write into a case store: one whole ingest, or any number of different parts of one."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import UsageError
from pipeline.core.parallel_config import Part
from pipeline.core.workspace import Workspace

logger = logging.getLogger(__name__)

_LOCK_NAME = ".lock"
_PARTS_DIR = "parts"


@contextmanager
def whole_store(workspace: Workspace) -> Iterator[None]:
    """Have the store alone while the block runs; waits for another ingest to end.

    A whole ingest deletes files that belong to no case, which must not be those of another one.

    Args:
        workspace: Work folder.

    Raises:
        UsageError: If parts of the dataset are being ingested.
    """
    with ExitStack() as held:
        held.enter_context(_waited_for(workspace))
        for file in _part_locks(workspace):
            held.enter_context(_free(file, f"part {file.parent.name} is being ingested"))
        yield


@contextmanager
def one_part(workspace: Workspace, part: Part) -> Iterator[None]:
    """Share the store with the other parts while the block runs.

    Args:
        workspace: Work folder.
        part: The part that is ingested.

    Raises:
        UsageError: If another process ingests the same part.
    """
    file = workspace.stage_dir("ingest") / _PARTS_DIR / part.name / _LOCK_NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        # Only to begin: a whole ingest that starts later sees the lock of the part.
        with _waited_for(workspace):
            held.enter_context(_free(file, f"part {part.name} is being ingested"))
        yield


def count_parts(workspace: Workspace) -> int:
    """How many different parts have been ingested into a work folder so far."""
    return len(_part_locks(workspace))


def _part_locks(workspace: Workspace) -> list[Path]:
    folder = workspace.stage_dir("ingest") / _PARTS_DIR
    return sorted(folder.glob(f"*/{_LOCK_NAME}"))


@contextmanager
def _waited_for(workspace: Workspace) -> Iterator[None]:
    folder = workspace.stage_dir("ingest")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process ingests into %s; waiting until it is done", workspace.root)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _free(file: Path, what: str) -> Iterator[None]:
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{what} by another process", where=str(file), fix="run again when it is done"
        ) from None
    try:
        yield
    finally:
        lock.release()
