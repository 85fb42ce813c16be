"""Sweeping a network over a volume."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import CheckpointError, ConfigError
from pipeline.models.window import (
    WindowSettings,
    gaussian_importance,
    iterate_planes,
    n_windows,
    window_starts,
)

overlaps = st.floats(0, 0.99)
windows = st.tuples(*[st.integers(1, 7)] * 3)
shapes = st.tuples(*[st.integers(1, 15)] * 3)


def random_image(shape, n_channels=1):
    return torch.randn((n_channels, *shape), generator=torch.Generator().manual_seed(0))


def swept(network, image, settings):
    """All planes of a sweep; they must come in order and without gaps."""
    volume = []
    for first, planes in iterate_planes(network, image, settings):
        assert first == sum(part.shape[1] for part in volume)
        assert planes.shape[1] <= settings.window[0]
        volume.append(planes.clone())
    return torch.cat(volume, dim=1)


class Recorder:
    """A voxelwise linear network that remembers the batches it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append(tuple(batch.shape))
        return torch.cat([2 * batch + 1, -batch], dim=1)


@given(st.integers(1, 500), st.integers(1, 200), overlaps)
def test_windows_cover_the_axis_with_the_overlap_asked_for(n, window, overlap):
    starts = window_starts(n, window, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, n - window)
    steps = np.diff(starts)
    assert (steps >= 1).all()
    # Positions are whole voxels, so a step may be rounded up by one.
    assert (steps <= max(1, int(np.ceil(window * (1 - overlap) - 1e-6)))).all()


@given(st.integers(2, 500), st.integers(1, 200), overlaps)
def test_there_is_no_window_too_many(n, window, overlap):
    n_windows = len(window_starts(n, window, overlap))
    largest_step = max(1.0, window * (1 - overlap))
    if n > window:
        assert (n_windows - 2) * largest_step < n - window


@pytest.mark.parametrize(
    ("n", "window", "overlap", "starts"),
    [
        (40, 40, 0.5, (0,)),
        (20, 40, 0.5, (0,)),
        (100, 40, 0.5, (0, 20, 40, 60)),
        (101, 40, 0.5, (0, 15, 30, 46, 61)),
        (120, 40, 0.0, (0, 40, 80)),
        (19, 10, 0.9, tuple(range(10))),
    ],
)
def test_known_grids(n, window, overlap, starts):
    assert window_starts(n, window, overlap) == starts


@given(windows, st.floats(0.01, 2))
def test_every_voxel_of_a_window_counts(window, sigma_fraction):
    importance = gaussian_importance(window, sigma_fraction)
    assert importance.shape == window
    assert importance.min() >= 1e-3
    assert importance.max() <= 1
    torch.testing.assert_close(importance, importance.flip(0, 1, 2))


@given(shapes, windows, st.floats(0, 0.9), st.integers(1, 4))
def test_a_voxelwise_network_commutes_with_windowing(shape, window, overlap, batch_size):
    image = random_image(shape)
    settings = WindowSettings(window, n_outputs=2, overlap=overlap, batch_size=batch_size)
    logits = swept(Recorder(), image, settings)
    torch.testing.assert_close(logits, torch.cat([2 * image + 1, -image]), atol=1e-5, rtol=1e-5)


@given(shapes, windows, st.floats(0, 0.9), st.integers(1, 5))
def test_every_window_is_visited_once_in_batches(shape, window, overlap, batch_size):
    network = Recorder()
    settings = WindowSettings(window, n_outputs=2, overlap=overlap, batch_size=batch_size)
    swept(network, random_image(shape), settings)
    per_axis = [len(window_starts(n, w, overlap)) for n, w in zip(shape, window, strict=True)]
    assert {batch[2:] for batch in network.batches} == {window}
    assert {batch[0] for batch in network.batches[:-1]} <= {batch_size}
    assert sum(batch[0] for batch in network.batches) == n_windows(shape, settings)
    assert n_windows(shape, settings) == np.prod(per_axis)


def test_planes_are_handed_over_before_later_windows_are_asked_for():
    network = Recorder()
    settings = WindowSettings((4, 4, 4), n_outputs=2, batch_size=1)
    planes = iterate_planes(network, random_image((40, 4, 4)), settings)
    first, part = next(planes)
    assert (first, part.shape[1]) == (0, 2)
    assert len(network.batches) == 2


def test_a_small_volume_lies_in_the_middle_of_its_window():
    seen = []

    def network(batch):
        seen.append(batch.clone())
        return batch

    image = torch.ones((1, 2, 3, 4))
    logits = swept(network, image, WindowSettings((5, 5, 4), n_outputs=1))
    assert logits.shape == (1, 2, 3, 4)
    expected = torch.zeros((5, 5, 4))
    expected[1:3, 1:4] = 1
    torch.testing.assert_close(seen[0][0, 0], expected)


def test_the_middle_of_a_window_counts_more_than_its_faces():
    # The network answers 1 at the faces of a window, where it lacks context, and 0 elsewhere.
    def network(batch):
        answer = torch.ones_like(batch)
        answer[:, :, 1:-1] = 0
        return answer

    settings = WindowSettings((8, 1, 1), n_outputs=1)
    logits = swept(network, torch.zeros((1, 32, 1, 1)), settings)
    assert logits[0, 4:-4].max() < 0.05  # a plain mean would give 0.5


def test_half_precision_answers_are_summed_in_full_precision():
    logits = swept(
        lambda batch: batch.half(), random_image((9, 9, 9)), WindowSettings((4, 4, 4), n_outputs=1)
    )
    assert logits.dtype == torch.float32


def test_no_gradients_are_recorded():
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    logits = swept(network, random_image((9, 9, 9)), WindowSettings((4, 4, 4), n_outputs=2))
    assert not logits.requires_grad


@pytest.mark.parametrize(
    "network",
    [
        lambda batch: torch.cat([batch] * 3, dim=1),
        lambda batch: batch[..., ::2].repeat(1, 2, 1, 1, 1),
    ],
)
def test_a_network_of_another_plan_is_refused(network):
    with pytest.raises(CheckpointError, match="the network gives"):
        swept(network, random_image((9, 9, 9)), WindowSettings((4, 4, 4), n_outputs=2))


@pytest.mark.parametrize(
    "knobs", [{"overlap": 1.0}, {"overlap": -0.1}, {"batch_size": 0}, {"n_outputs": 0}]
)
def test_settings_out_of_range_are_refused(knobs):
    with pytest.raises(ConfigError):
        WindowSettings(**{"window": (4, 4, 4), "n_outputs": 2, **knobs})
    with pytest.raises(ConfigError):
        WindowSettings(window=(4, 0, 4), n_outputs=2)


def test_the_limits_of_the_settings_are_accepted():
    assert WindowSettings((1, 1, 1), n_outputs=1, overlap=0.0, batch_size=1).overlap == 0
