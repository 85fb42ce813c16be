"""Writing during a training: a full disk costs a warning, never the hour that was trained."""

import errno
import logging
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.core.errors import CheckpointError, InterruptedByUserError, TrainingError
from pipeline.core.interrupt import is_stop_requested

logger = logging.getLogger(__name__)

RETRY_S = 30.0
_LISTEN_EVERY_S = 0.5
PATIENCE_S = 600.0
# What a disk says that is full, over quota, or away for a moment; anything else is a fault of ours.
_TROUBLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
)


def try_to_write(write: Callable[[], None], file: Path) -> bool:
    """Write a file, or warn that the disk does not take it.

    Args:
        write: Writes it, atomically: what was there before survives.
        file: What is written, for the message.

    Returns:
        Whether it was written.
    """
    try:
        write()
    except (OSError, CheckpointError) as error:
        logger.warning(
            "cannot write %s: %s; training goes on and tries again at the next checkpoint. "
            "Free disk space: until then nothing new is kept",
            file,
            _reason(error),
        )
        return False
    return True


def write_patiently(
    write: Callable[[], None], file: Path, wait: Callable[[float], None] | None = None
) -> None:
    """Write a file that a training cannot end without; wait while the disk is full.

    Args:
        write: Writes it, atomically.
        file: What is written, for the messages.
        wait: Called with the seconds between two tries; None: sleeps, and listens to Ctrl-C.

    Raises:
        InterruptedByUserError: If the user does not want to wait.
        TrainingError: If the disk does not take it for `PATIENCE_S`.
    """
    waited_s = 0.0
    while True:
        try:
            write()
        except (OSError, CheckpointError) as error:
            reason = _reason(error)
        else:
            return
        if waited_s >= PATIENCE_S:
            raise TrainingError(
                f"the disk does not take the result: {reason}; the last checkpoint is intact",
                where=str(file),
                fix="free disk space and run the same command again; it goes on from there",
            )
        logger.warning(
            "cannot write %s: %s; free disk space: trying again every %.0f s, for %.0f min more",
            file,
            reason,
            RETRY_S,
            (PATIENCE_S - waited_s) / 60,
        )
        (wait or _sleep)(RETRY_S)
        waited_s += RETRY_S
        if is_stop_requested():
            raise InterruptedByUserError(
                "stopped while the disk was full; the last checkpoint is intact",
                where=str(file),
                fix="free disk space and run the same command again; it goes on from there",
            )


def _sleep(seconds: float) -> None:
    """Sleep, but not after somebody has asked to stop."""
    end_s = time.monotonic() + seconds
    while not is_stop_requested() and (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _LISTEN_EVERY_S))


class Outbox:
    """Files on their way to the disk, in order; what a full disk refuses waits for the next try.

    A checkpoint is written after all of them only: it never speaks of a model that is not there.
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, Callable[[], None]] = {}

    def put(self, file: Path, write: Callable[[], None]) -> None:
        """Add a file; it takes the place of an earlier version that still waits.

        Args:
            file: The file.
            write: Writes it from values that do not change any more.
        """
        self._waiting.pop(file, None)
        self._waiting[file] = write

    def send(self, *, is_final: bool = False) -> bool:
        """Write what waits.

        Args:
            is_final: Nothing comes after: wait for space instead of giving up.

        Returns:
            Whether nothing waits any more.

        Raises:
            TrainingError: If it is final and the disk stays full.
        """
        for file, write in tuple(self._waiting.items()):
            if is_final:
                write_patiently(write, file)
            elif not try_to_write(write, file):
                return False
            del self._waiting[file]
        return True


def _reason(error: OSError | CheckpointError) -> str:
    """Why the disk refused; a fault that is not the disk's goes on as it came."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(cause, OSError) or cause.errno not in _TROUBLE:
        raise error
    return cause.strerror or str(cause)
