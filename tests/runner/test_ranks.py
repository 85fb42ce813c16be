"""A command in many processes: alone it just runs; together, tests/train/test_teamwork.py."""

import pytest

from pipeline.core.errors import UsageError
from pipeline.runner.ranks import WORLD_SIZE, run_in_ranks


@pytest.mark.parametrize("size", [None, "1"])
def test_one_process_just_runs_the_command(monkeypatch, size):
    monkeypatch.delenv(WORLD_SIZE, raising=False)
    if size is not None:
        monkeypatch.setenv(WORLD_SIZE, size)
    assert run_in_ranks(lambda: 7) == 7


def test_processes_that_were_not_started_together_are_refused(monkeypatch):
    monkeypatch.setenv(WORLD_SIZE, "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="cannot reach each other"):
        run_in_ranks(lambda: 0)
