"""Who may write into the store, tried between processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.core.errors import UsageError
from pipeline.core.parallel_config import Part
from pipeline.core.workspace import Workspace
from pipeline.ingest.lock import count_parts, one_part, whole_store

ROOT = Path(__file__).parents[2]

# Takes a lock, says so, and keeps it for a while.
HOLD = """
import sys, time
from pathlib import Path
from pipeline.core.parallel_config import Part
from pipeline.core.workspace import Workspace
from pipeline.ingest.lock import one_part, whole_store
workspace = Workspace(Path(sys.argv[1]))
with one_part(workspace, Part(1, 2)) if sys.argv[2] == "part" else whole_store(workspace):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "work")


@pytest.fixture
def holder(workspace):
    started = []

    def hold(what, seconds):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(workspace.root), what, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_ingest_waits_and_says_so(workspace, holder, caplog):
    holder("whole", 0.6)
    started_at_s = time.monotonic()
    with caplog.at_level("INFO", logger="pipeline"), whole_store(workspace):
        assert time.monotonic() - started_at_s > 0.3
    assert "another process ingests" in caplog.text


def test_a_killed_ingest_blocks_nobody(workspace, holder):
    process = holder("whole", 600)
    process.kill()
    process.wait()
    with whole_store(workspace):
        pass


def test_parts_run_at_once_but_none_twice_and_no_whole_ingest_beside_them(workspace, holder):
    holder("part", 600)
    with one_part(workspace, Part(2, 2)):
        assert count_parts(workspace) == 2
    with pytest.raises(UsageError, match="part 1-of-2 is being ingested"), whole_store(workspace):
        pass
    with (
        pytest.raises(UsageError, match="part 1-of-2 is being ingested"),
        one_part(workspace, Part(1, 2)),
    ):
        pass


def test_locks_are_free_again_after_an_error(workspace):
    for _ in range(2):
        with pytest.raises(KeyError), whole_store(workspace):
            raise KeyError
        with pytest.raises(KeyError), one_part(workspace, Part(1, 1)):
            raise KeyError
