"""The device is the one asked for, or a clear refusal."""

import pytest
import torch

from pipeline.core.errors import UsageError
from pipeline.core.parallel import available_cores
from pipeline.models.device import choose_device, use_all_cores


@pytest.mark.parametrize(
    ("name", "has_gpu", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_auto_takes_a_gpu_when_there_is_one(monkeypatch, name, has_gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device(name).type == expected


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no CUDA GPU"):
        choose_device("cuda")


def test_the_users_thread_count_is_respected(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        use_all_cores()
        assert torch.get_num_threads() == 1
        monkeypatch.delenv("OMP_NUM_THREADS")
        use_all_cores()
        assert torch.get_num_threads() == available_cores()
    finally:
        torch.set_num_threads(before)
