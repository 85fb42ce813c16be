"""Batches: the same for the same step, every case equally often, foreground where promised."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from workfolders import audited, quick

from pipeline.artifacts import DatasetManifest, GrowthStage, read_artifact
from pipeline.train import data
from pipeline.train.data import BatchSource
from pipeline.train.learner import Learner
from pipeline.train.prepare import PreparedCase, prepare_cases
from pipeline.train.ranks import Ranks
from pipeline.train.select import select_training
from pipeline.transforms.config import AugmentationConfig
from pipeline.transforms.patch_reader import read_patches

CPU = torch.device("cpu")


def still() -> AugmentationConfig:
    """No random change at all."""
    names = [n for n in AugmentationConfig.model_fields if n.endswith("_probability")]
    return AugmentationConfig(**dict.fromkeys(names, 0.0))


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    workspace = audited(tmp_path_factory.mktemp("data"), n_cases=5)
    return select_training(quick(batch_size=3), workspace), workspace


@pytest.fixture(scope="module")
def cases(training):
    chosen, workspace = training
    plan, task = chosen.plan, chosen.info.task
    return prepare_cases(chosen.train_records, plan.preprocessing, task, workspace)


def test_a_batch_depends_on_seed_and_step_only(training, cases):
    chosen, _ = training
    one = BatchSource(cases, chosen.plan, chosen.config, CPU)
    two = BatchSource(cases, chosen.plan, chosen.config, CPU)
    later = one.batch(7)
    for step in (3, 0, 7):
        two.batch(step)
    again = two.batch(7)
    assert torch.equal(later.image, again.image)
    assert torch.equal(later.label, again.label)
    assert later.case_ids == again.case_ids
    other = BatchSource(cases, chosen.plan, chosen.config.model_copy(update={"seed": 1}), CPU)
    assert not torch.equal(other.batch(7).image, later.image)
    assert not torch.equal(one.batch(8).image, later.image)


@pytest.fixture
def ahead(training, cases) -> BatchSource:
    """A source that draws ahead, as on a GPU."""
    source = BatchSource(cases, training[0].plan, training[0].config, CPU)
    assert not source.draws_ahead
    source.draws_ahead = True
    return source


def test_a_batch_drawn_ahead_is_the_one_asked_for(training, cases, ahead):
    source = BatchSource(cases, training[0].plan, training[0].config, CPU)
    stage = GrowthStage(until=1.0, patch_size=(8, 16, 8))
    # Also where another step or stage comes than was expected.
    for step, of in ((5, None), (4, None), (5, stage), (6, stage), (6, None)):
        asked, drawn = source.batch(step, of), ahead.batch(step, of)
        assert torch.equal(asked.image, drawn.image)
        assert torch.equal(asked.label, drawn.label)
        assert asked.case_ids == drawn.case_ids
        ahead.draw_ahead(step + 1, of)


def test_a_batch_drawn_ahead_is_not_drawn_again_unless_the_size_has_changed(ahead, monkeypatch):
    ahead.draw_ahead(7)
    with monkeypatch.context() as patch:
        patch.setattr(data, "_read", None)
        assert ahead.batch(7).label.shape == (3, 16, 16, 16)
    ahead.draw_ahead(8)
    ahead.resize(2, (16, 16, 8))
    assert ahead.batch(8).label.shape == (2, 16, 16, 8)


def test_what_fails_ahead_of_time_fails_when_the_batch_is_asked_for(ahead, monkeypatch):
    def fail(*_args):
        raise MemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(data, "_read", fail)
        ahead.draw_ahead(3)
        with pytest.raises(MemoryError):
            ahead.batch(3)
        ahead.draw_ahead(3)
    assert ahead.batch(3).image.isfinite().all()


def test_a_training_that_draws_ahead_ends_with_the_same_weights(training, cases, ahead):
    chosen, _ = training
    plain = BatchSource(cases, chosen.plan, chosen.config, CPU)
    ends = []
    for source in (plain, ahead):
        learner = Learner(chosen.plan, chosen.info.task, chosen.config, CPU)
        for step in range(3):
            learner.step(source.batch(step), 1e-2, partial(source.draw_ahead, step + 1))
        ends.append(learner.weights())
    for name, weight in ends[0].items():
        assert torch.equal(weight, ends[1][name])


def test_processes_share_a_batch_out_and_each_knows_where_all_of_it_comes_from(training, cases):
    chosen, _ = training
    whole = BatchSource(cases, chosen.plan, chosen.config, CPU).batch(7)
    for rank in (1, 2):
        source = BatchSource(cases, chosen.plan, chosen.config, CPU)
        source.ranks = Ranks(rank, 3)
        share = source.batch(7)
        assert torch.equal(share.image, whole.image[rank : rank + 1])
        assert share.case_ids == whole.case_ids


ALL_ON = AugmentationConfig(
    affine_probability=1,
    elastic_probability=0.5,
    right_angle_probability=0.5,
    noise_probability=1,
    blur_probability=0.5,
    brightness_probability=1,
    contrast_probability=0.5,
    gamma_probability=0.5,
    low_resolution_probability=0.5,
)


def digest(batch) -> str:
    return hashlib.sha256(batch.image.numpy().tobytes() + batch.label.numpy().tobytes()).hexdigest()


def digest_in_this_process(cases, plan, config, step) -> str:
    torch.set_num_threads(1)
    return digest(BatchSource(cases, plan, config, CPU).batch(step))


def test_another_process_asked_in_another_order_gives_the_same_batches(training, cases):
    chosen, _ = training
    config = chosen.config.model_copy(update={"augmentation": ALL_ON})
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = [digest(BatchSource(cases, chosen.plan, config, CPU).batch(step)) for step in range(3)]
    torch.set_num_threads(n_threads)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [
            pool.submit(digest_in_this_process, cases, chosen.plan, config, step)
            for step in (2, 0, 1)
        ]
        there = [one.result() for one in asked]
    assert there == [here[2], here[0], here[1]]


def test_no_two_samples_of_three_epochs_share_their_augmentation(training, cases, monkeypatch):
    chosen, _ = training
    config = chosen.config.model_copy(update={"augmentation": ALL_ON})
    poses, changes = [], []
    read, change = data.read_patch, data.change_intensities

    def note_pose(image, label, pose, patch_size):
        poses.append(pose.matrix.tobytes())
        return read(image, label, pose, patch_size)

    def note_changes(patches, drawn):
        changes.extend(one.noise for one in drawn)
        return change(patches, drawn)

    monkeypatch.setattr(data, "read_patch", note_pose)
    monkeypatch.setattr(data, "change_intensities", note_changes)
    source = BatchSource(cases, chosen.plan, config, CPU)
    for step in range(4):
        source.batch(step)
    assert len(poses) == len(set(poses)) == 3 * len(cases)
    assert len(changes) == len(set(changes)) == 3 * len(cases)


def test_the_batched_reader_of_gpus_gives_the_batches_of_a_cpu(training, cases, monkeypatch):
    chosen, _ = training
    config = chosen.config.model_copy(update={"augmentation": ALL_ON})
    source = BatchSource(cases, chosen.plan, config, CPU)
    expected = source.batch(1)

    def read_together(sources, poses, patch_size, device):
        volumes = [(one.image, one.label) for one in sources]
        return read_patches(volumes, poses, patch_size, device)

    monkeypatch.setattr(data, "_read", read_together)
    batch = source.batch(1)
    assert torch.allclose(batch.image, expected.image, atol=1e-4)
    assert (batch.label != expected.label).float().mean() < 1e-3


def test_every_case_is_drawn_once_per_epoch(training, cases):
    chosen, _ = training
    source = BatchSource(cases, chosen.plan, chosen.config, CPU)
    drawn = [i for step in range(4) for i in source.batch(step).case_ids]
    assert len(drawn) == 3 * len(cases)
    for epoch in range(3):
        part = drawn[epoch * len(cases) : (epoch + 1) * len(cases)]
        assert sorted(part) == sorted(case.case_id for case in cases)


def test_shapes_types_and_values(training, cases):
    chosen, _ = training
    batch = BatchSource(cases, chosen.plan, chosen.config, CPU).batch(0)
    assert batch.image.shape == (3, 1, *chosen.plan.patch_size)
    assert batch.image.dtype is torch.float32
    assert batch.label.dtype is torch.int64
    assert set(torch.unique(batch.label).tolist()) <= {0, 1, 2}
    assert torch.isfinite(batch.image).all()


def one_voxel_case(shape=(40, 40, 40), voxel=(33, 5, 20)) -> PreparedCase:
    label = np.zeros(shape, dtype=np.uint8)
    label[voxel] = 1
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float16)
    coordinates = (np.array([voxel], dtype=np.int32), np.zeros((0, 3), dtype=np.int32))
    return PreparedCase("tiny", image, label, coordinates, (1.0, 1.0, 1.0))


def test_forced_patches_show_the_foreground_even_at_the_border(training):
    chosen, _ = training
    config = chosen.config.model_copy(update={"foreground_fraction": 1.0, "augmentation": still()})
    for voxel in ((33, 5, 20), (0, 0, 0), (39, 39, 39)):
        source = BatchSource([one_voxel_case(voxel=voxel)], chosen.plan, config, CPU)
        for step in range(5):
            assert source.batch(step).label.flatten(1).sum(1).tolist() == [1, 1, 1]


def test_without_augmentation_patches_are_crops_of_the_case(training, cases):
    chosen, _ = training
    config = chosen.config.model_copy(update={"augmentation": still()})
    case = one_voxel_case()
    source = BatchSource([case], chosen.plan, config, CPU)
    batch = source.batch(0)
    windows = np.lib.stride_tricks.sliding_window_view(case.image[0], chosen.plan.patch_size)
    for patch in batch.image[:, 0].numpy():
        starts = np.argwhere(windows[..., 0, 0, 0] == np.float16(patch[0, 0, 0]))
        assert any(np.array_equal(windows[tuple(s)], patch.astype(np.float16)) for s in starts)


def test_a_case_without_foreground_gives_patches_too(training):
    chosen, _ = training
    empty = PreparedCase(
        "empty",
        np.zeros((1, 20, 20, 20), dtype=np.float16),
        np.zeros((20, 20, 20), dtype=np.uint8),
        (np.zeros((0, 3), dtype=np.int32),) * 2,
        (1.0, 1.0, 1.0),
    )
    assert BatchSource([empty], chosen.plan, chosen.config, CPU).batch(0).label.sum() == 0


def test_prepared_cases_are_made_once_and_hold_the_right_voxels(training, cases):
    chosen, workspace = training
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    record = next(r for r in manifest.cases if r.case_id == cases[0].case_id)
    folder = next(workspace.prepared_dir.glob(f"{record.case_id}-*"))
    before = (folder / "image.npy").stat().st_mtime_ns
    again = prepare_cases(
        chosen.train_records, chosen.plan.preprocessing, chosen.info.task, workspace
    )
    assert (folder / "image.npy").stat().st_mtime_ns == before
    case = again[0]
    assert case.image.dtype == np.float16
    assert float(case.image.mean(dtype=np.float64)) == pytest.approx(0, abs=0.05)
    for index, coordinates in enumerate(case.coordinates, start=1):
        assert len(coordinates) == (case.label == index).sum()
        assert (case.label[tuple(coordinates.T)] == index).all()
    # A half-written or truncated case is prepared again.
    for damaged in ("facts.json", "image.npy", "label.npy", "coordinates.npy"):
        (folder / damaged).write_bytes(b"half")
        prepare_cases(chosen.train_records, chosen.plan.preprocessing, chosen.info.task, workspace)
        assert np.load(folder / "image.npy").shape == case.image.shape
        assert np.array_equal(np.load(folder / "label.npy"), case.label)


def test_patches_of_scribbles_are_centred_on_what_counts(training):
    """Nearly everything is ignored: a patch anywhere would nearly always teach nothing."""
    chosen, _ = training
    config = chosen.config.model_copy(update={"foreground_fraction": 0.0, "augmentation": still()})
    drawn = one_voxel_case((60, 60, 60), voxel=(50, 9, 30))
    label = np.full_like(drawn.label, 255)
    label[50, 9, 30] = 1
    scribble = replace(drawn, label=label, counted=drawn.coordinates[0])
    batch = BatchSource([scribble], chosen.plan, config, CPU).batch(0)
    assert (batch.label != 255).flatten(1).sum(1).tolist() == [1, 1, 1]
    # Without an ignored voxel, places are drawn as ever.
    free = BatchSource([drawn], chosen.plan, config, CPU).batch(0)
    assert (free.label == 1).flatten(1).sum(1).sum() < 3


@given(fraction=st.floats(0, 1), n_samples=st.integers(1, 300))
def test_the_share_of_patches_on_foreground_is_kept_at_any_length(fraction, n_samples):
    chosen = [data._is_on_foreground(sample, fraction) for sample in range(n_samples)]
    assert abs(sum(chosen) - fraction * n_samples) < 1 + 1e-6
    # Evenly: no stretch of a training has more or less than its share.
    half = n_samples // 2
    assert abs(sum(chosen[half:]) - fraction * (n_samples - half)) < 1 + 1e-6


@pytest.mark.parametrize("world", [1, 3])
def test_what_several_processes_read_is_together_the_batch_of_one(
    training, cases, monkeypatch, world
):
    chosen, _ = training
    config = chosen.config.model_copy(update={"augmentation": ALL_ON})
    alone = BatchSource(cases, chosen.plan, config, CPU).batch(4)
    monkeypatch.setattr(Ranks, "tell", lambda *_: None)
    shares = []
    for rank in range(world):
        source = BatchSource(cases, chosen.plan, config, CPU)
        source.ranks = Ranks(rank, world)
        shares.append(source.batch(4))
    assert torch.equal(torch.cat([share.image for share in shares]), alone.image)
    assert torch.equal(torch.cat([share.label for share in shares]), alone.label)


def test_augmentation_does_not_turn_a_single_slice_out_of_sight(training):
    """Turned about an axis within it, all but a line of a slice would lie outside the volume."""
    chosen, _ = training
    shape = (32, 32, 1)
    plan = chosen.plan.model_copy(update={"patch_size": shape, "batch_size": 8})
    moved = still().model_copy(update={"affine_probability": 1.0, "elastic_probability": 1.0})
    config = chosen.config.model_copy(update={"augmentation": moved})
    everywhere = np.argwhere(np.ones(shape)).astype(np.int32)
    case = PreparedCase(
        "slice",
        np.ones((1, *shape), dtype=np.float16),
        np.ones(shape, dtype=np.uint8),
        (everywhere, np.zeros((0, 3), dtype=np.int32)),
        (1.0, 1.0, 8.0),
    )
    batch = BatchSource([case], plan, config, CPU).batch(0)
    assert (batch.label == 1).float().mean() > 0.75
    assert (batch.image > 0.5).float().mean() > 0.75
