"""Ctrl-C and SIGTERM as a question the work asks itself, instead of an exception anywhere."""

import logging
import signal
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        requested.append(number)
        logger.warning("stopping after this step; press Ctrl-C again to stop at once")
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)

    for number in SIGNALS:
        signal.signal(number, remember)
    try:
        yield lambda: bool(requested)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
