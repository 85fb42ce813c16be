"""What processes tell each other and add up; two of them in test_teamwork.py."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pipeline.core.errors import ConfigError, TrainingError, UsageError
from pipeline.train.ranks import (
    Ranks,
    SharedMemoryError,
    joined_ranks,
    present_ranks,
    refuse_uneven,
)

# How long a process may take to notice what became of the other one, imports included.
LONGEST_S = 600


@pytest.fixture
def alone(monkeypatch):
    """A group of one: everything goes through torch's messages all the same."""
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with joined_ranks() as ranks:
        yield ranks


def test_ranks_are_present_while_joined_only(monkeypatch):
    assert present_ranks() is None
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "0")
    with joined_ranks() as ranks:
        assert present_ranks() is ranks
        assert ranks.is_leader
    assert present_ranks() is None
    assert not dist.is_initialized()


def test_sums_means_and_results_of_a_group_of_one(alone):
    value, buffer = torch.tensor([1.0, 2.0]), torch.tensor([4.0])
    alone.add_up([value])
    alone.average([buffer])
    assert value.tolist() == [1.0, 2.0]
    assert buffer.tolist() == [4.0]
    assert alone.collect(["a"]) == [["a"]]
    rows = torch.ones((2, 3), requires_grad=True)
    alone.gather_rows(2 * rows).sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [[2.0] * 3] * 2


def test_a_stop_asked_of_any_process_is_heard_with_the_step(alone):
    alone.add_up([torch.zeros(1)])
    assert not alone.is_stop_asked
    alone.should_stop = lambda: True
    alone.add_up([torch.zeros(1)])
    assert alone.is_stop_asked


def test_nothing_is_told_while_joint_work_is_open(alone):
    alone.tell("step", 0.1)
    assert not alone.can_be_told
    alone.add_up([torch.zeros(1)])
    assert alone.can_be_told


def test_positions_of_a_batch_are_shared_out_once_each():
    shares = [list(Ranks(rank, 3).share_of(6)) for rank in range(3)]
    assert shares == [[0, 1], [2, 3], [4, 5]]


def test_a_batch_that_cannot_be_shared_out_is_refused_with_one_that_can():
    refuse_uneven(4, Ranks(0, 2))
    with pytest.raises(ConfigError) as raised:
        refuse_uneven(2, Ranks(0, 4))
    assert "train.batch_size=4" in raised.value.fix


def test_processes_that_cannot_meet_say_how_to_start_them(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="cannot reach each other") as raised, joined_ranks():
        pass
    assert "torchrun" in raised.value.fix


def test_a_broken_connection_is_named(alone, monkeypatch):
    def break_off(*_args, **_options):
        raise RuntimeError(
            "[/pytorch/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1234: Connection "
            "reset by peer. This is typically caused by a remote worker hanging. GLHF!"
        )

    monkeypatch.setattr(dist, "broadcast_object_list", break_off)
    with pytest.raises(TrainingError, match="another process of this training has ended") as raised:
        alone.told()
    where = "process 0: Read error [127.0.0.1]:1234: Connection reset by peer"
    assert raised.value.where == where
    assert not alone.can_be_told
    # The others are there after all, and the fixture takes leave of them.
    alone._is_broken = False


def test_trouble_of_a_process_is_told_before_joint_work_and_memory_can_be_helped(alone):
    alone.tell("step", 0.1)
    with pytest.raises(SharedMemoryError, match="process 0"), alone.joint_work():
        raise torch.OutOfMemoryError("tried to allocate 9 GB")
    assert alone.can_be_told
    alone.tell("step", 0.1)
    with pytest.raises(ConfigError, match="odd"), alone.joint_work():
        raise ConfigError("odd")
    assert not alone.can_be_told
    with pytest.raises(TrainingError, match="has ended"):
        alone.tell("done")
    alone._is_broken = False


def test_a_fault_outside_of_joint_work_is_told_to_nobody(alone):
    with pytest.raises(ConfigError, match="odd"), alone.joint_work():
        raise ConfigError("odd")
    assert alone.can_be_told


SCRIPT = """
import os, signal, sys, time
from datetime import timedelta
import torch
from pipeline.train import ranks as module
from pipeline.core.errors import DataError, VoxlineError
from pipeline.train.ranks import SharedMemoryError, joined_ranks

def fault():
    kind = sys.argv[1]
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "frozen":
        time.sleep(3600)
    raise {"memory": torch.OutOfMemoryError("9 GB"), "data": DataError("odd", where="case 7")}[kind]

if sys.argv[1] == "frozen":
    module.LONGEST_WORK = timedelta(seconds=3)
try:
    with joined_ranks() as ranks:
        ranks.tell("step", 0.1)
        if not ranks.is_leader:
            ranks.told()
        try:
            with ranks.joint_work():
                if ranks.rank == int(sys.argv[2]):
                    fault()
                rows = torch.ones((2, 1), requires_grad=True)
                ranks.gather_rows(rows)
        except SharedMemoryError as error:
            print("reduced:", error)
        ranks.tell("resize", 2)
        if not ranks.is_leader:
            print("told:", ranks.told()[0])
        ranks.add_up([torch.ones(2)])
except VoxlineError as error:
    print(error)
    sys.exit(error.exit_status)
"""


def two_processes(tmp_path: Path, kind: str, rank: int) -> list[tuple[int, str]]:
    """Status and output of both, the first first; nothing that hangs outlives the test."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), kind, str(rank)],
            env={**os.environ, **common, "RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        if kind == "frozen":
            processes[1 - rank].wait(LONGEST_S)
            processes[rank].kill()
        said = [process.communicate(timeout=LONGEST_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, out + err) for process, (out, err) in zip(processes, said, strict=True)
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_go_on_together_when_memory_ran_out_in_one(tmp_path, rank):
    for status, said in two_processes(tmp_path, "memory", rank):
        assert status == 0, said
        assert f"reduced: process {rank}" in said


@pytest.mark.parametrize("rank", [0, 1])
def test_both_say_what_is_wrong_when_one_fails(tmp_path, rank):
    ends = two_processes(tmp_path, "data", rank)
    assert [status for status, _ in ends] == [2, 2], ends
    assert "DataError: odd\n  where: case 7" in ends[rank][1]
    other = ends[1 - rank][1]
    assert f"process {rank} of this training failed: odd\n  where: case 7" in other
    assert "the same command goes on from the last checkpoint" in other


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_process_that_was_killed(tmp_path, rank):
    ends = two_processes(tmp_path, "killed", rank)
    assert ends[rank][0] == -9
    assert ends[1 - rank][0] == 2, ends
    assert "another process of this training has ended" in ends[1 - rank][1]


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_does_not_answer_is_not_waited_for_for_ever(tmp_path, rank):
    ends = two_processes(tmp_path, "frozen", rank)
    assert ends[1 - rank][0] == 2, ends
    assert "has ended or does not answer" in ends[1 - rank][1]
    assert "Timed out" in ends[1 - rank][1]
