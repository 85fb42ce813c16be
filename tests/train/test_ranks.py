"""What processes tell each other and add up; two of them in test_teamwork.py."""

import pytest
import torch
import torch.distributed as dist

from pipeline.core.errors import ConfigError, TrainingError, UsageError
from pipeline.train.ranks import Ranks, joined_ranks, present_ranks, refuse_uneven


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
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(dist, "broadcast_object_list", break_off)
    with pytest.raises(TrainingError, match="another process of this training has ended"):
        alone.told()
