"""Speed and memory of a round."""

import time

import pytest
import torch

from pipeline.train import meters
from pipeline.train.meters import MEASURED, RoundMeter


def test_samples_per_second_and_the_share_of_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    meter = RoundMeter()
    for _ in range(4):
        with meter.waiting():
            now[0] += 1.0
        now[0] += 3.0
        meter.step_done(2)
        now[0] += 50.0  # validation and checkpoints are no part of a step
    row = meter.end_round()
    assert row["train/samples_per_s"] == pytest.approx(8 / 16)
    assert row["train/data_wait_fraction"] == pytest.approx(0.25)


def test_a_round_begins_at_zero_and_names_nothing_it_did_not_measure():
    meter = RoundMeter()
    with meter.waiting():
        time.sleep(0.001)
    meter.step_done(1)
    assert meter.end_round().keys() <= MEASURED
    assert meter.end_round().keys() == {"train/peak_memory_mb"}


def test_a_batch_whose_step_failed_is_not_counted():
    meter = RoundMeter()
    with meter.waiting():
        time.sleep(0.05)
    with meter.waiting():
        pass
    meter.step_done(1)
    assert meter.end_round()["train/samples_per_s"] > 25


def test_memory_is_that_of_the_process():
    block = torch.ones(50_000_000, dtype=torch.uint8)
    peak_mb = RoundMeter().end_round()["train/peak_memory_mb"]
    assert 50 < peak_mb < 100_000
    assert block.numel() == 50_000_000


@pytest.mark.gpu
def test_on_a_gpu_memory_is_that_of_the_round():
    device = torch.device("cuda")
    meter = RoundMeter(device)
    block = torch.ones(64 * 2**20, dtype=torch.uint8, device=device)
    assert meter.end_round()["train/peak_memory_mb"] >= 64
    del block
    assert meter.end_round()["train/peak_memory_mb"] >= 64
    assert meter.end_round()["train/peak_memory_mb"] < 64
