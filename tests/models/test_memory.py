"""What a case needs, and where it therefore goes."""

import pytest
import torch
from models_builders import model_info
from network_builders import small_network

from pipeline.core.errors import DataError
from pipeline.models.memory import (
    Decision,
    FreeMemory,
    MemoryEstimate,
    choose_path,
    estimate_memory,
    free_memory,
    memory_left_to_job,
)
from pipeline.models.networks import build_network
from pipeline.models.predictor import make_predictor

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GB = 10**9
NEEDS = MemoryEstimate(image=2 * GB, prepared=GB, network=3 * GB, sums=4 * GB, labels=GB)


def predictor_with(n_classes, patch_size=(16, 16, 16)):
    info = model_info(
        source_values=tuple((value,) for value in range(1, n_classes)), patch_size=patch_size
    )
    return make_predictor([build_network(info.plan.network).eval()], info.plan, info.task)


@pytest.mark.parametrize(
    ("ram_gb", "vram_gb", "path"),
    [(100, 100, "cuda"), (9, 5, "cuda+cpu"), (100, 2, "cpu"), (4, 100, "cuda")],
)
def test_the_fastest_path_that_fits_is_taken(ram_gb, vram_gb, path):
    decision = choose_path(NEEDS, FreeMemory(ram_gb * GB, vram_gb * GB), GPU)
    assert decision.path == path
    assert bool(decision.reason) == (path != "cuda")


def test_a_case_that_fits_nowhere_is_refused_with_numbers():
    with pytest.raises(DataError, match=r"cuda needs 8.0 GB GPU memory, 1.0 GB are free") as raised:
        choose_path(NEEDS, FreeMemory(5 * GB, GB), GPU)
    assert "cpu needs 10.0 GB RAM, 5.0 GB are free" in str(raised.value)
    with pytest.raises(DataError, match=r"cpu needs 10.0 GB RAM"):
        choose_path(NEEDS, FreeMemory(10 * GB), CPU)


def test_what_is_held_already_is_not_counted_twice():
    free = FreeMemory(10 * GB)
    assert choose_path(NEEDS, free, CPU, n_held_bytes=2 * GB).path == "cpu"


def test_after_running_out_the_next_path_is_taken_until_there_is_none():
    decision = Decision("cuda").after_out_of_memory()
    assert decision.path == "cuda+cpu"
    assert "memory ran out on cuda" in decision.reason
    decision = decision.after_out_of_memory()
    assert decision.path == "cpu"
    with pytest.raises(DataError, match="ran out"):
        decision.after_out_of_memory()


def test_a_network_of_unknown_width_is_taken_to_be_wide():
    info = model_info(patch_size=(32, 32, 32))
    plans = [
        info.plan.model_copy(update={"network": network})
        for network in (small_network(), small_network("monai", features=()))
    ]
    known, unknown = (
        estimate_memory(
            make_predictor([build_network(plan.network).eval()], plan, info.task),
            (64, 64, 64),
            (64, 64, 64),
        )
        for plan in plans
    )
    assert unknown.network > 4 * known.network


def test_sums_grow_with_the_plane_and_not_with_the_depth_of_a_volume():
    predictor = predictor_with(3)
    flat = estimate_memory(predictor, (100, 200, 200), (100, 200, 200))
    deep = estimate_memory(predictor, (400, 200, 200), (400, 200, 200))
    wide = estimate_memory(predictor, (100, 800, 200), (100, 800, 200))
    assert flat.sums == deep.sums
    assert flat.network == deep.network == wide.network
    assert wide.sums > 1.4 * flat.sums
    assert deep.image == 4 * flat.image


def test_sums_do_not_grow_with_classes_beyond_the_channels_of_the_network():
    shape = (300, 300, 300)
    few, many = (estimate_memory(predictor_with(n), shape, shape) for n in (30, 105))
    assert many.sums == few.sums
    assert many.ram_bytes("cpu") < 1.01 * few.ram_bytes("cpu")


def test_a_smaller_box_needs_less():
    predictor, shape = predictor_with(3), (200, 400, 400)
    whole = estimate_memory(predictor, shape, shape)
    part = estimate_memory(predictor, shape, shape, visited=(200, 100, 400))
    assert part.sums < whole.sums


def test_there_is_free_memory_here():
    free = free_memory(CPU)
    assert free.ram > 10**8
    assert free.vram is None


def group(folder, limit, *, used=300, cached=100, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


def test_the_limit_of_a_container_holds(tmp_path):
    group(tmp_path / "groups", 1000)
    (tmp_path / "own").write_text("0::/\n")
    assert memory_left_to_job(tmp_path / "groups", tmp_path / "own") == 800


@pytest.mark.parametrize(("job", "step", "left"), [(1000, "max", 800), (5000, 900, 700)])
def test_the_tightest_group_around_a_cluster_job_counts(tmp_path, job, step, left):
    group(tmp_path / "groups/slurm/job_7", job)
    group(tmp_path / "groups/slurm/job_7/step_0", step)
    (tmp_path / "own").write_text("0::/slurm/job_7/step_0\n")
    assert memory_left_to_job(tmp_path / "groups", tmp_path / "own") == left


def test_control_groups_of_version_1_are_read(tmp_path):
    group(tmp_path / "groups/memory/slurm/job_7", 1000, version=1)
    group(tmp_path / "groups/memory", 9223372036854771712, version=1)
    (tmp_path / "own").write_text("9:name=systemd:/x\n4:cpu,memory:/slurm/job_7\n0::/\n")
    assert memory_left_to_job(tmp_path / "groups", tmp_path / "own") == 800


def test_without_a_limit_or_without_groups_all_memory_counts(tmp_path):
    group(tmp_path / "groups", "max")
    (tmp_path / "own").write_text("0::/\n")
    assert memory_left_to_job(tmp_path / "groups", tmp_path / "own") > 10**18
    assert memory_left_to_job(tmp_path / "groups", tmp_path / "none") > 10**18
