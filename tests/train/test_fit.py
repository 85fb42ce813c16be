"""Patch and batch fitted to measured memory: shrunk, grown, remembered."""

from functools import partial

import pytest
import torch
from fingerprints import make_row, make_task

from pipeline.artifacts import Plan
from pipeline.models.memory import FreeMemory
from pipeline.train import fit
from pipeline.train.config import TrainConfig
from pipeline.train.fit import ProbeBook, fit_plan
from pipeline.train.plan import make_plan
from pipeline.train.probe import Measured

TASK = make_task("x")
CPU = torch.device("cpu")


def voxels(plan: Plan) -> int:
    i, j, k = plan.patch_size
    return plan.batch_size * i * j * k


class Device:
    """A device whose steps take so many bytes per voxel; stands for the hardware only."""

    def __init__(self, monkeypatch, *, gib: float, bytes_per_voxel: float) -> None:
        self.n_probes = 0
        self._per_voxel = bytes_per_voxel
        self.gib = gib
        monkeypatch.setattr(fit, "measure_step", self._measure)
        monkeypatch.setattr(fit, "free_memory", self._free)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "some GPU")

    def _measure(self, plan, task, config, device, *, timeout_s) -> Measured:
        self.n_probes += 1
        return Measured(peak_mb=voxels(plan) * self._per_voxel / 2**20)

    def _free(self, device) -> FreeMemory:
        n_bytes = int(self.gib * 2**30)
        return FreeMemory(n_bytes, n_bytes)


def fitted(
    tmp_path, config=None, device="cpu", shape=(200, 200, 200), n=20, begun: Plan | None = None
) -> Plan:
    config = config or TrainConfig()
    make = partial(make_plan, [make_row(shape=shape)] * n, TASK, config, device)
    file = tmp_path / "train" / "probe.json"
    return fit_plan(make, TASK, config, torch.device(device), file, begun=begun)


def compute_in(monkeypatch, dtype: torch.dtype | None) -> None:
    """Let this machine be one that computes in a number format."""
    monkeypatch.setattr("pipeline.models.device.mixed_precision_dtype", lambda _: dtype)


def test_a_step_that_fits_is_kept_and_its_peak_stands_in_the_plan(tmp_path, monkeypatch):
    Device(monkeypatch, gib=8, bytes_per_voxel=5000)
    plan = fitted(tmp_path)
    usual = make_plan([make_row(shape=(200, 200, 200))] * 20, TASK, TrainConfig(), "cpu")
    assert (plan.patch_size, plan.batch_size) == (usual.patch_size, usual.batch_size)
    assert plan.peak_memory_mb == pytest.approx(voxels(plan) * 5000 / 2**20)
    assert "GiB measured" in plan.reasons[-1]


def test_too_large_a_step_on_a_cpu_gets_a_smaller_patch(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=1, bytes_per_voxel=10_000)
    plan = fitted(tmp_path)
    assert plan.batch_size == 2
    assert voxels(plan) * 10_000 <= 0.6 * 2**30
    # Not needlessly small: the measured excess says how much to take away.
    assert voxels(plan) * 10_000 > 0.2 * 2**30
    assert device.n_probes <= 4
    assert "too much was" in plan.reasons[-1]


def test_on_a_gpu_the_batch_is_halved_first(tmp_path, monkeypatch):
    config = TrainConfig(batch_size=None)
    Device(monkeypatch, gib=1, bytes_per_voxel=700)
    plan = fitted(tmp_path, config, "cuda", shape=(64, 64, 64), n=400)
    usual = make_plan([make_row(shape=(64, 64, 64))] * 400, TASK, config, "cuda")
    assert usual.batch_size == 16
    assert plan.batch_size in (2, 4, 8)
    assert plan.patch_size == usual.patch_size
    assert voxels(plan) * 700 <= 0.6 * 2**30 < 2 * voxels(plan) * 700


def test_on_a_gpu_with_room_the_patch_grows_within_the_data(tmp_path, monkeypatch):
    Device(monkeypatch, gib=1000, bytes_per_voxel=1000)
    usual = make_plan([make_row(shape=(400, 400, 400))] * 50, TASK, TrainConfig(), "cuda")
    plan = fitted(tmp_path, device="cuda", shape=(400, 400, 400), n=50)
    assert 3 * voxels(usual) < voxels(plan) < 6 * voxels(usual)
    few = fitted(tmp_path / "few", device="cuda", shape=(200, 200, 200), n=6)
    assert voxels(few) <= max(0.05 * 6 * 200**3, 2 * 128**3)


def test_the_limit_may_be_given(tmp_path, monkeypatch):
    Device(monkeypatch, gib=1000, bytes_per_voxel=10_000)
    plan = fitted(tmp_path, TrainConfig(memory_gb=0.5))
    assert voxels(plan) * 10_000 <= 0.5 * 2**30


def test_what_the_user_fixed_is_kept_and_the_excess_is_named(tmp_path, monkeypatch, caplog):
    Device(monkeypatch, gib=0.01, bytes_per_voxel=10_000)
    plan = fitted(tmp_path, TrainConfig(patch_size=(64, 64, 64), batch_size=4))
    assert (plan.patch_size, plan.batch_size) == ((64, 64, 64), 4)
    assert "memory may run out" in plan.reasons[-1]
    assert "no step fits" in caplog.text


def test_a_second_start_finds_the_same_plan_without_measuring(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=1, bytes_per_voxel=10_000)
    first = fitted(tmp_path)
    n_probes = device.n_probes
    # Other programs have taken the memory meanwhile, or given it back.
    for device.gib in (0.2, 100):
        assert fitted(tmp_path) == first
    assert device.n_probes == n_probes
    # Another wish is another decision; steps measured before are not measured again.
    fitted(tmp_path, TrainConfig(memory_gb=0.6))
    assert device.n_probes > n_probes
    book = ProbeBook.model_validate_json((tmp_path / "train" / "probe.json").read_text())
    assert len(book.decisions) == 2


def test_far_below_memory_nothing_is_measured(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=16, bytes_per_voxel=1)
    plan = fitted(tmp_path, TrainConfig(patch_size=(16, 16, 16)))
    assert device.n_probes == 0
    assert plan.peak_memory_mb is None
    assert "far below" in plan.reasons[-1]
    # Also not when there is little memory at the next start.
    device.gib = 0.001
    assert fitted(tmp_path, TrainConfig(patch_size=(16, 16, 16))) == plan


def test_it_can_be_turned_off(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=0.001, bytes_per_voxel=1000)
    plan = fitted(tmp_path, TrainConfig(probe=False))
    assert device.n_probes == 0
    assert "not measured, as configured" in plan.reasons[-1]
    assert not (tmp_path / "train").exists()


def test_a_probe_that_fails_leaves_the_usual_sizes_and_says_so(tmp_path, monkeypatch, caplog):
    Device(monkeypatch, gib=1, bytes_per_voxel=1000)
    monkeypatch.setattr(fit, "measure_step", lambda *_, **__: Measured(trouble="no such thing"))
    plan = fitted(tmp_path)
    usual = make_plan([make_row(shape=(200, 200, 200))] * 20, TASK, TrainConfig(), "cpu")
    assert plan.patch_size == usual.patch_size
    assert "not measured (no such thing)" in plan.reasons[-1]
    assert "could not be measured" in caplog.text


def test_a_step_that_does_not_fit_at_all_is_halved(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=1, bytes_per_voxel=1000)
    answers = [Measured(is_out_of_memory=True), Measured(peak_mb=100.0)]
    monkeypatch.setattr(fit, "measure_step", lambda *_, **__: answers.pop(0))
    plan = fitted(tmp_path)
    assert plan.peak_memory_mb == 100.0
    assert "memory ran out" in plan.reasons[-1]
    assert device.n_probes == 0


def test_a_probe_of_another_number_format_counts_for_nothing(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=1, bytes_per_voxel=2500)
    compute_in(monkeypatch, torch.bfloat16)
    half = fitted(tmp_path)
    n_probes = device.n_probes
    compute_in(monkeypatch, None)
    device._per_voxel = 10_000
    full = fitted(tmp_path)
    assert device.n_probes > n_probes
    assert voxels(full) < voxels(half)
    # Each format keeps what was found for it.
    compute_in(monkeypatch, torch.bfloat16)
    assert fitted(tmp_path) == half


def test_a_training_that_goes_on_in_another_number_format_keeps_its_sizes(tmp_path, monkeypatch):
    device = Device(monkeypatch, gib=1, bytes_per_voxel=2500)
    compute_in(monkeypatch, torch.bfloat16)
    begun = fitted(tmp_path)
    n_probes = device.n_probes
    compute_in(monkeypatch, None)
    device._per_voxel = 10_000
    assert fitted(tmp_path, begun=begun) == begun
    assert device.n_probes == n_probes
    # Also after something else was decided here for a new training.
    other = fitted(tmp_path)
    assert fitted(tmp_path, begun=begun) == begun
    # A checkpoint of another configuration decides nothing.
    strange = begun.model_copy(update={"patch_size": (8, 8, 8)})
    assert fitted(tmp_path, begun=strange) == other


def test_a_damaged_book_of_probes_is_begun_anew(tmp_path, monkeypatch, caplog):
    Device(monkeypatch, gib=8, bytes_per_voxel=5000)
    first = fitted(tmp_path)
    (tmp_path / "train" / "probe.json").write_text("{", encoding="utf-8")
    assert fitted(tmp_path) == first
    assert "measured anew" in caplog.text
