"""The first signal asks, the second one insists."""

import os
import signal

import pytest

from pipeline.core.interrupt import is_stop_requested, stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_to_stop(number):
    with stop_requests() as is_stop_requested:
        assert not is_stop_requested()
        os.kill(os.getpid(), number)
        assert is_stop_requested()


def test_the_second_signal_interrupts():
    def press_twice() -> None:
        with stop_requests():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        press_twice()


def test_work_far_below_can_ask_too():
    assert not is_stop_requested()
    with stop_requests(), stop_requests():
        assert not is_stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_stop_requested()
    assert not is_stop_requested()


def test_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
