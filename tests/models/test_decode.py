"""From planes of outputs to labels on the source grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models_builders import model_info
from torch.nn import functional

from pipeline.artifacts import Region
from pipeline.models import decode
from pipeline.models.decode import (
    Decoding,
    Grid,
    decode_planes,
    decoding_of,
    labels_of,
    probabilities_of,
)
from pipeline.models.head import Head
from pipeline.transforms.body import whole_box

sizes = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))


def random_logits(shape, n_outputs, seed=0):
    return torch.randn((n_outputs, *shape), generator=torch.Generator().manual_seed(seed))


def interpolated(logits, shape):
    return functional.interpolate(
        logits[None].float(), size=shape, mode="trilinear", align_corners=False
    )[0]


def in_slabs(values, depths):
    """A volume in slabs that are overwritten once the next is asked for, as windows give them."""
    first, depths = 0, list(depths)
    while first < values.shape[1]:
        depth = depths.pop(0) if depths else values.shape[1] - first
        slab = values[:, first : first + depth].clone()
        yield first, slab
        slab.fill_(float("nan"))
        first += depth


def decoded(logits, shape, *, depths=(), decoding=None, box=None, sink=None):
    prepared = tuple(logits.shape[1:]) if box is None else box[1]
    grid = Grid(prepared, whole_box(prepared) if box is None else box[0], shape)
    how = decoding or Decoding(logits.shape[0])
    return decode_planes(in_slabs(logits, depths), how, grid, sink)


def gathered(shape, n_outputs):
    volume = np.full((n_outputs, *shape), np.nan, dtype=np.float16)
    seen = []

    def sink(first, planes):
        assert first == len(seen)
        seen.extend(range(first, first + planes.shape[1]))
        volume[:, first : first + planes.shape[1]] = planes

    return volume, sink


@pytest.mark.parametrize("after", [(45, 41, 33), (20, 22, 18), (30, 60, 10), (29, 31, 27)])
def test_labels_agree_with_interpolating_everything(after):
    logits = random_logits((29, 31, 27), 7)
    expected = interpolated(logits, after).argmax(dim=0).numpy()
    assert (decoded(logits, after) == expected).mean() >= 0.9999


@given(sizes, sizes, st.integers(1, 5), st.lists(st.integers(1, 5), max_size=6))
def test_labels_agree_at_any_size_and_in_any_slabs(before, after, n_outputs, depths):
    logits = random_logits(before, n_outputs)
    values = interpolated(logits, after)
    ranked = values.sort(dim=0).values
    is_clear = np.ones(after, bool) if n_outputs == 1 else (ranked[-1] - ranked[-2] > 1e-4).numpy()
    labels = decoded(logits, after, depths=depths)
    assert labels.shape == after
    np.testing.assert_array_equal(labels[is_clear], values.argmax(dim=0).numpy()[is_clear])


@given(sizes, sizes, st.lists(st.integers(1, 5), max_size=6))
def test_structures_in_background_are_found_where_interpolating_everything_finds_them(
    before, after, depths
):
    logits = random_logits(before, 3)
    logits[0] += 2
    values = interpolated(logits, after)
    ranked = values.sort(dim=0).values
    is_clear = (ranked[-1] - ranked[-2] > 1e-4).numpy()
    labels = decoded(logits, after, depths=depths)
    np.testing.assert_array_equal(labels[is_clear], values.argmax(dim=0).numpy()[is_clear])


@pytest.mark.parametrize("max_values", [1, 300, 5_000, 10**9])
@pytest.mark.parametrize("after", [(20, 15, 13), (9, 10, 11), (5, 20, 4)])
def test_the_size_of_a_slab_does_not_matter(monkeypatch, max_values, after):
    logits = random_logits((9, 10, 11), 6)
    expected = decoded(logits, after)
    monkeypatch.setattr(decode, "MAX_SLAB_VALUES", max_values)
    volume, sink = gathered(after, 6)
    np.testing.assert_array_equal(decoded(logits, after, sink=sink), expected)
    assert np.isfinite(volume).all()


def test_on_a_tie_the_lower_class_wins():
    assert not decoded(torch.zeros((4, 3, 3, 3)), (5, 5, 5)).any()


@pytest.mark.parametrize("n_outputs", [256, 257])
def test_the_dtype_fits_the_highest_class(n_outputs):
    logits = torch.zeros((n_outputs, 2, 2, 2))
    logits[-1] = 1
    for shape in ((2, 2, 2), (3, 2, 2)):
        labels = decoded(logits, shape)
        assert labels.dtype == (np.uint8 if n_outputs == 256 else np.uint16)
        assert (labels == n_outputs - 1).all()


@given(sizes, st.lists(st.integers(1, 5), max_size=4))
def test_a_head_is_applied_after_interpolating(after, depths):
    channels = random_logits((6, 7, 5), 3)
    head = Head(torch.randn((3, 8), generator=torch.Generator().manual_seed(1)), torch.arange(8.0))
    logits = torch.einsum("cijk,co->oijk", channels, head.weight) + head.bias[:, None, None, None]
    plain, with_head = (gathered(after, 8) for _ in range(2))
    expected = decoded(logits, after, sink=plain[1])
    found = decoded(
        channels, after, depths=depths, decoding=Decoding(8, head=head), sink=with_head[1]
    )
    assert (found == expected).mean() > 0.999
    np.testing.assert_allclose(with_head[0], plain[0], atol=1e-3)


@given(sizes, sizes)
def test_probabilities_are_those_of_the_interpolated_logits(before, after):
    logits = random_logits(before, 3)
    volume, sink = gathered(after, 3)
    labels = decoded(logits, after, depths=(2, 1, 3), sink=sink)
    expected = interpolated(logits, after).softmax(dim=0).numpy()
    np.testing.assert_allclose(volume, expected, atol=1e-3)
    np.testing.assert_allclose(volume.astype(np.float32).sum(0), 1, atol=2e-3)
    is_clear = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2] > 1e-2
    np.testing.assert_array_equal(volume.argmax(0)[is_clear], labels[is_clear])


def region_task():
    task = model_info(source_values=((1,), (2,), (4,))).task
    regions = (
        Region(name="whole", classes=("class_1", "class_2", "class_3"), paints="class_2"),
        Region(name="core", classes=("class_1", "class_3"), paints="class_1"),
        Region(name="enhancing", classes=("class_3",), paints="class_3"),
    )
    return task.model_copy(update={"regions": regions})


def test_regions_are_painted_in_their_order():
    decoding = decoding_of(region_task())
    assert decoding.n_outputs == 3
    assert decoding.paints == (2, 1, 3)
    logits = torch.tensor([[-1.0, -1, -1], [1, -1, -1], [1, 1, -1], [1, 1, 1], [-1, -1, 1]])
    assert labels_of(logits, decoding).tolist() == [0, 2, 1, 3, 3]
    probabilities = probabilities_of(logits, decoding)
    torch.testing.assert_close(probabilities.float(), torch.sigmoid(logits).T, atol=1e-3, rtol=0)


@given(sizes, sizes)
def test_regions_agree_with_interpolating_everything(before, after):
    logits = random_logits(before, 3) - 1
    decoding = decoding_of(region_task())
    values = interpolated(logits, after)
    expected = np.zeros(after, dtype=np.uint8)
    for output, index in enumerate((2, 1, 3)):
        expected[values[output].numpy() > 0] = index
    is_clear = (values.abs().amin(dim=0) > 1e-4).numpy()
    volume, sink = gathered(after, 3)
    labels = decoded(logits, after, depths=(1, 2), decoding=decoding, sink=sink)
    np.testing.assert_array_equal(labels[is_clear], expected[is_clear])
    np.testing.assert_allclose(volume, torch.sigmoid(values).numpy(), atol=1e-3)


@given(sizes, st.data())
def test_outside_the_box_is_background_inside_nothing_changes(after, data):
    prepared = (8, 7, 9)
    logits = random_logits(prepared, 3)
    logits[0] -= 3  # nearly everything is foreground
    ranges = []
    for n in prepared:
        start = data.draw(st.integers(0, n - 1))
        ranges.append(slice(start, data.draw(st.integers(start + 1, n))))
    everything = decoded(logits, after)
    volume, sink = gathered(after, 3)
    part = logits[(slice(None), *ranges)]
    labels = decoded(part, after, depths=(2, 2), box=(tuple(ranges), prepared), sink=sink)
    is_inside = np.ones(after, dtype=bool)
    for axis, (n_in, n_out) in enumerate(zip(prepared, after, strict=True)):
        place = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        ok = (place >= ranges[axis].start) & (place <= ranges[axis].stop - 1)
        is_inside &= ok.reshape([-1 if a == axis else 1 for a in range(3)])
    np.testing.assert_array_equal(labels[is_inside], everything[is_inside])
    assert not labels[~is_inside].any()
    assert (volume[0][~is_inside] == 1).all()
    assert not volume[1:, ~is_inside].any()
