"""Measuring a step: in a process of its own on a CPU, by torch's count on a GPU."""

import json
import signal
import subprocess

import pytest
import torch
from fingerprints import make_row, make_task

from pipeline.artifacts import Plan
from pipeline.train import probe
from pipeline.train.config import NetworkConfig, TrainConfig
from pipeline.train.probe import Measured, ProbeRequest, measure_step, probe_process

TASK = make_task("x")
CPU = torch.device("cpu")


def small(**changes) -> tuple[Plan, TrainConfig]:
    from pipeline.train.plan import make_plan

    config = TrainConfig(
        patch_size=changes.get("patch_size", (16, 16, 16)),
        network=NetworkConfig(base_features=4, max_features=8),
    )
    return make_plan([make_row()] * 3, TASK, config, "cpu"), config


def answer(returncode: int, stdout: str = "", stderr: str = "") -> Measured:
    return probe._answer(subprocess.CompletedProcess([], returncode, stdout, stderr))


@pytest.mark.slow
def test_a_larger_patch_takes_more_memory():
    peaks = []
    for side in (32, 64):
        plan, config = small(patch_size=(side,) * 3)
        found = measure_step(plan, TASK, config, CPU, timeout_s=100.0)
        assert found.trouble == ""
        assert found.peak_mb is not None
        peaks.append(found.peak_mb)
    # At least: a batch of 64^3 voxels with 4 channels, as input and output of one convolution.
    assert peaks[1] > 2 * 64**3 * 4 * 4 * 2 / 2**20
    assert peaks[1] > 2 * peaks[0]


def test_the_probing_process_answers_in_json():
    plan, config = small()
    request = ProbeRequest(plan=plan, task=TASK, config=config)
    found = Measured(**json.loads(probe_process(request.model_dump_json())))
    assert found.trouble == ""
    assert found.peak_mb is not None
    assert found.peak_mb >= 0


def test_a_step_without_enough_memory_is_an_answer(monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 PB")

    plan, config = small()
    monkeypatch.setattr(probe, "Learner", full)
    text = ProbeRequest(plan=plan, task=TASK, config=config).model_dump_json()
    assert json.loads(probe_process(text))["is_out_of_memory"] is True


def test_a_step_that_fails_otherwise_says_why(monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel for this")

    plan, config = small()
    monkeypatch.setattr(probe, "Learner", broken)
    text = ProbeRequest(plan=plan, task=TASK, config=config).model_dump_json()
    assert json.loads(probe_process(text))["trouble"] == "RuntimeError: no kernel for this"


def test_a_process_that_the_system_ended_ran_out_of_memory():
    assert answer(-signal.SIGKILL).is_out_of_memory


def test_a_process_that_crashed_gives_its_last_words():
    assert answer(1, stderr="Traceback\nImportError: no torch\n").trouble == "ImportError: no torch"
    assert answer(3).trouble == "exit status 3"
    spoken = 'a library says hello\n{"peak_mb": 3.5, "is_out_of_memory": false, "trouble": ""}\n'
    assert answer(0, stdout=spoken) == Measured(peak_mb=3.5)


def test_a_slow_probe_is_given_up():
    plan, config = small()
    found = measure_step(plan, TASK, config, CPU, timeout_s=0.05)
    assert found.trouble == "a step took more than 0.05 s"


@pytest.mark.gpu
def test_on_a_gpu_torch_counts():
    device = torch.device("cuda")
    plan, config = small(patch_size=(32, 32, 32))
    found = measure_step(plan, TASK, config, device, timeout_s=100.0)
    assert found.peak_mb is not None
    assert 1 < found.peak_mb < 1000
    assert torch.cuda.memory_allocated(device) < 100 * 2**20
