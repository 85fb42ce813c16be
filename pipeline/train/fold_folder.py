"""The folder of a fold: one training at a time, and nothing of an earlier one is overwritten."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import UsageError
from pipeline.core.workspace import Workspace, put_aside
from pipeline.train.select import TRAINING_FILES

logger = logging.getLogger(__name__)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Refuse a second training of the same fold: the two would overwrite each other."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            "another process is training this fold",
            where=str(folder),
            fix="wait for it or stop it, or give another --work folder",
        ) from None
    try:
        yield
    finally:
        lock.release()


def archive(workspace: Workspace, folder: Path) -> None:
    """Put an earlier training of another configuration aside; nothing is ever overwritten."""
    if not any((folder / name).exists() for name in TRAINING_FILES):
        return
    target = put_aside(folder, workspace.stage_dir("train") / "archive")
    logger.info("configuration or data changed: the earlier training is kept in %s", target)
