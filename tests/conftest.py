"""Shared test settings: one thread, no network, hypothesis profiles, where the real data is."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# A job in the background ignores Ctrl-C, and what it starts inherits that; tests need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch or BLAS start: two test workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _plain_logging() -> Iterator[None]:
    """Undo what a command line run in a test did to logging: its stderr is gone afterwards."""
    yield
    log = logging.getLogger("pipeline")
    log.handlers.clear()
    log.propagate = True


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real volumes; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real volumes are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture
def voxline(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a folder of its own; returns exit status, stdout and stderr."""
    from pipeline.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["voxline", *map(str, args)])
        with pytest.raises(SystemExit) as raised:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(raised.value.code or 0), out, err

    return run
