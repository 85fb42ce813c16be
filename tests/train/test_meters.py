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


def meter_on_a_gpu(monkeypatch, utilization, *, has_driver=True) -> RoundMeter:
    """A meter that believes in a GPU; only what the driver says is made up."""
    monkeypatch.setattr(meters, "GPU_USE_EVERY_S", -1.0)
    monkeypatch.setattr(meters.importlib.util, "find_spec", lambda _: has_driver or None)
    monkeypatch.setattr(meters.torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(meters.torch.cuda, "max_memory_allocated", lambda _: 0)
    monkeypatch.setattr(meters.torch.cuda, "utilization", utilization)
    return RoundMeter(torch.device("cuda"))


def round_of(meter: RoundMeter, n_steps: int) -> dict[str, float]:
    for _ in range(n_steps):
        with meter.waiting():
            pass
        meter.step_done(1)
    return meter.end_round()


def test_gpu_use_is_the_mean_of_what_the_driver_says(monkeypatch):
    said = iter([100, 50])
    meter = meter_on_a_gpu(monkeypatch, lambda _: next(said))
    assert round_of(meter, 2)["train/gpu_use_fraction"] == pytest.approx(0.75)


def test_a_driver_that_does_not_tell_ends_no_training_and_is_not_asked_again(monkeypatch):
    asked = []

    def refuse(_device):
        asked.append(1)
        raise RuntimeError("not supported")

    meter = meter_on_a_gpu(monkeypatch, refuse)
    assert "train/gpu_use_fraction" not in round_of(meter, 3)
    assert asked == [1]


def test_without_the_package_of_the_driver_nothing_is_asked(monkeypatch):
    meter = meter_on_a_gpu(monkeypatch, lambda _: pytest.fail("asked"), has_driver=False)
    assert "train/gpu_use_fraction" not in round_of(meter, 2)


@pytest.mark.gpu
def test_on_a_gpu_memory_is_that_of_the_round():
    device = torch.device("cuda")
    meter = RoundMeter(device)
    block = torch.ones(64 * 2**20, dtype=torch.uint8, device=device)
    assert meter.end_round()["train/peak_memory_mb"] >= 64
    del block
    assert meter.end_round()["train/peak_memory_mb"] >= 64
    assert meter.end_round()["train/peak_memory_mb"] < 64
