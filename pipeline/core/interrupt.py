"""Ctrl-C and SIGTERM as a question the work asks itself, instead of an exception anywhere."""

import logging
import signal
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _never() -> bool:
    return False


# Signals belong to the process as a whole, and so does the question whether one came.
_PRESENT: ContextVar[Callable[[], bool]] = ContextVar("stop requests", default=_never)


def is_stop_requested() -> bool:
    """Whether a stop was requested of the innermost `stop_requests`; False outside of any.

    For work deep below that waits for something: it must not let the user wait as well.
    """
    return _PRESENT.get()()


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop at the next safe point.

    A second signal acts as if this were not here.

    Yields:
        A function that tells whether a stop was requested.
    """
    requested: list[int] = []
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def remember(number: int, _frame: types.FrameType | None) -> None:
        # Nothing else: a log call could meet itself half-way through a write.
        requested.append(number)
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)

    for number in SIGNALS:
        signal.signal(number, remember)
    is_announced = False

    def is_requested() -> bool:
        nonlocal is_announced
        if requested and not is_announced:
            is_announced = True
            logger.warning("stopping; press Ctrl-C again to stop at once")
        return bool(requested)

    token = _PRESENT.set(is_requested)
    try:
        yield is_requested
    finally:
        _PRESENT.reset(token)
        for number, handler in previous.items():
            signal.signal(number, handler)
