"""A full disk costs a warning; only the last result is waited for."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest
import torch
from workfolders import audited, quick

from pipeline.core.errors import CheckpointError, InterruptedByUserError, TrainingError
from pipeline.core.interrupt import stop_requests
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import write_text
from pipeline.models.checkpoint import load_model, load_state
from pipeline.train.disk import PATIENCE_S, RETRY_S, Outbox, try_to_write, write_patiently
from pipeline.train.learner import Learner
from pipeline.train.select import select_training
from pipeline.train.stage import train


def full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_checkpoint() -> None:
    try:
        full()
    except OSError as error:
        raise CheckpointError("cannot write") from error


@pytest.mark.parametrize("write", [full, full_checkpoint])
def test_a_full_disk_is_a_warning_with_file_and_advice(tmp_path, caplog, write):
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        assert not try_to_write(write, tmp_path / "last.pt")
    assert "last.pt: No space left on device" in caplog.text
    assert "Free disk space" in caplog.text
    assert try_to_write(lambda: write_text(tmp_path / "a", "b"), tmp_path / "a")


def test_other_faults_are_not_hidden(tmp_path):
    def missing() -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    def wrong() -> None:
        raise CheckpointError("not a checkpoint")

    with pytest.raises(FileNotFoundError):
        try_to_write(missing, tmp_path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        write_patiently(wrong, tmp_path)


def test_the_last_file_is_waited_for(tmp_path, caplog):
    waits, tries = [], iter([full, full, lambda: None])
    write_patiently(lambda: next(tries)(), tmp_path / "best.pt", waits.append)
    assert waits == [RETRY_S, RETRY_S]
    assert "trying again every 30 s, for 10 min more" in caplog.text


def test_waiting_ends_with_an_error(tmp_path):
    waits: list[float] = []
    with pytest.raises(TrainingError, match="No space left") as raised:
        write_patiently(full, tmp_path / "best.pt", waits.append)
    assert sum(waits) == PATIENCE_S
    assert "free disk space" in raised.value.fix
    assert "best.pt" in raised.value.where


def test_nobody_has_to_wait_for_a_full_disk(tmp_path):
    began_s = time.monotonic()
    with stop_requests():
        Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(InterruptedByUserError, match="checkpoint is intact") as raised:
            write_patiently(full, tmp_path / "best.pt")
    assert time.monotonic() - began_s < RETRY_S / 2
    assert "free disk space" in raised.value.fix


def test_what_was_refused_is_written_later_in_order_and_only_its_newest_version(tmp_path):
    outbox, written, is_full = Outbox(), [], True

    def put(name: str, version: int) -> None:
        def write() -> None:
            if is_full:
                full()
            written.append((name, version))

        outbox.put(tmp_path / name, write)

    put("best.pt", 1)
    assert not outbox.send()
    put("best.pt", 2)
    put("other", 1)
    assert not outbox.send()
    is_full = False
    assert outbox.send()
    assert outbox.send()
    assert written == [("best.pt", 2), ("other", 1)]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("disk"), 3)


def weights(workspace) -> dict[str, torch.Tensor]:
    state = load_state(workspace.fold_dir("0") / "last.pt", torch.device("cpu"))
    return state["learner"]["network"]


def test_a_training_survives_a_disk_that_is_full_for_a_while(pristine, monkeypatch, caplog):
    """It is full from the first step on, and has space again at the very end."""
    config = quick(n_validations=3)
    result = train(select_training(config, pristine), pristine, NullTracker())
    expected = weights(pristine)
    best = load_model(result.model_file, torch.device("cpu")).network.state_dict()
    pristine.fold_dir("0").rename(pristine.root / "put_aside")

    fsync, step, n_steps, n_refused = os.fsync, Learner.step, 0, 0

    def count(self, batch, rate, *_):
        nonlocal n_steps
        n_steps += 1
        return step(self, batch, rate)

    def refuse(descriptor: int) -> None:
        nonlocal n_refused
        is_ours = "fold_0" in Path(f"/proc/self/fd/{descriptor}").readlink().parts
        # Space is there again once the training waits for it.
        if is_ours and n_steps and "trying again every" not in caplog.text:
            n_refused += 1
            full()
        fsync(descriptor)

    monkeypatch.setattr(Learner, "step", count)
    monkeypatch.setattr("pipeline.core.workspace.os.fsync", refuse)
    monkeypatch.setattr("pipeline.train.disk.RETRY_S", 0.01)
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        result = train(select_training(config, pristine), pristine, NullTracker())
    assert n_refused > 3
    assert "tries again at the next checkpoint" in caplog.text
    after = weights(pristine)
    assert all(torch.equal(after[name], expected[name]) for name in expected)
    kept = load_model(result.model_file, torch.device("cpu")).network.state_dict()
    assert all(torch.equal(kept[name], best[name]) for name in best)
    rows = (pristine.fold_dir("0") / "history.csv").read_text().splitlines()
    assert len(rows) == 4


def test_a_limit_on_file_size_is_a_full_disk_too(tmp_path):
    script = f"""
import resource, signal
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pipeline.core.workspace import write_text
from pipeline.train.disk import try_to_write
file = Path({str(tmp_path / "history.csv")!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
print(try_to_write(lambda: write_text(file, "x" * 100_000), file), file.exists())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]
    assert "cannot write" in done.stderr
