"""The device is the one asked for, or a clear refusal."""

import os

import pytest
import torch

from pipeline.core.errors import UsageError
from pipeline.core.parallel import available_cores
from pipeline.models.device import (
    choose_device,
    is_out_of_memory,
    number_format,
    set_arithmetic,
    use_all_cores,
)


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


@pytest.mark.parametrize(
    ("n_processes", "chosen", "expected"),
    [("2", "1", 3), ("2", "4", 4), ("1", "1", 1), ("8", "1", 1), ("4", None, 1)],
)
def test_processes_of_torchrun_share_the_cores(monkeypatch, n_processes, chosen, expected):
    before = torch.get_num_threads()
    monkeypatch.setattr("pipeline.models.device.available_cores", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", n_processes)
    if chosen is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    try:
        torch.set_num_threads(int(chosen or 1))
        use_all_cores()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "is_asked", "expected"),
    [("cpu", False, True), ("cpu", True, True), ("cuda", False, False), ("cuda", True, True)],
)
def test_a_cpu_is_always_deterministic_a_gpu_when_asked(monkeypatch, device, is_asked, expected):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    was = torch.are_deterministic_algorithms_enabled()
    try:
        set_arithmetic(torch.device(device), is_deterministic=is_asked, is_mixed=True)
        assert torch.are_deterministic_algorithms_enabled() is expected
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        needs_workspace = device == "cuda" and expected
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is needs_workspace
        # The fastest algorithm may be another one the next time.
        assert torch.backends.cudnn.benchmark is not expected
    finally:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        torch.use_deterministic_algorithms(was)


def test_float32_on_a_gpu_keeps_all_its_bits(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    set_arithmetic(torch.device("cpu"), is_deterministic=False, is_mixed=False)
    assert not torch.backends.cudnn.allow_tf32
    set_arithmetic(torch.device("cpu"), is_deterministic=False, is_mixed=True)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.gpu
def test_a_gpu_asked_to_be_deterministic_gives_the_same_bits_twice(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was = torch.are_deterministic_algorithms_enabled()
    set_arithmetic(torch.device("cuda"), is_deterministic=True, is_mixed=True)
    try:
        torch.manual_seed(0)
        layer = torch.nn.Conv3d(4, 8, 3).cuda()
        image = torch.randn(2, 4, 24, 24, 24, device="cuda")
        gradients = []
        for _ in range(2):
            layer.zero_grad()
            layer(image).square().mean().backward()
            gradients.append(layer.weight.grad.clone())
        assert torch.equal(*gradients)
    finally:
        torch.use_deterministic_algorithms(was)


@pytest.mark.parametrize(
    ("able", "is_mixed", "expected"),
    [
        ({"avx512_bf16": True}, True, "bfloat16"),
        ({"amx_bf16": True}, True, "bfloat16"),
        ({"avx512_bf16": True}, False, "float32"),
        ({"avx2": True}, True, "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_if_it_can(monkeypatch, able, is_mixed, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert number_format(torch.device("cpu"), is_mixed=is_mixed) == expected


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_without_bfloat16_computes_in_float16(monkeypatch, has_bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bfloat16)
    assert number_format(torch.device("cuda"), is_mixed=True) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_a_full_memory_is_told_from_other_faults(error, expected):
    assert is_out_of_memory(error) is expected
