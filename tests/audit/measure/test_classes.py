import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import ball, box
from scipy import ndimage

from pipeline.audit.measure.classes import measure_classes

SHAPE = (30, 28, 26)
AFFINE = np.array([[2.0, 0, 0, -10], [0, 1.0, 0, 20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
maps = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(-1, 3)
)


def measured(label, n_classes=3, image=None, **settings):
    options = {"body_threshold": None, "is_ct": False} | settings
    found = measure_classes(label.astype(np.int16), n_classes, AFFINE, image=image, **options)
    return {c.class_index: c for c in found}


@given(maps)
def test_every_class_is_measured_as_if_it_were_alone(label):
    found = measured(label)
    assert sorted(found) == [v for v in (1, 2, 3) if (label == v).any()]
    for value, one in found.items():
        mask = label == value
        places = np.argwhere(mask)
        pieces, n_pieces = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        assert one.n_voxels == mask.sum()
        assert one.start == tuple(places.min(axis=0))
        assert one.stop == tuple(places.max(axis=0) + 1)
        center = places.mean(axis=0)
        assert one.centroid_mm == pytest.approx(AFFINE[:3, :3] @ center + AFFINE[:3, 3])
        assert one.centroid_fraction == pytest.approx((center + 0.5) / label.shape)
        assert one.n_components == n_pieces
        assert one.largest_share == sizes.max() / sizes.sum()
        assert sum(c.n_faces for c in one.contacts) == sum(one.faces)
        padded = np.pad(mask, 1)
        n_faces = sum(int(np.diff(padded, axis=a).sum()) for a in range(3))
        assert one.edge_share == pytest.approx(1 - sum(one.faces) / n_faces)
        if one.second_voxel is not None:
            assert sizes[pieces[one.second_voxel] - 1] == sorted(sizes)[-2]


@given(maps, st.integers(1, 4), st.integers(1, 4))
def test_more_background_around_changes_only_what_the_edge_decides(label, before, after):
    inner = np.pad(label, 1)
    outer = np.pad(label, ((before, after),) * 3)
    moved = np.array((before - 1,) * 3)
    for value, one in measured(inner).items():
        other = measured(outer)[value]
        same = {"faces", "contacts", "border_share", "edge_share", "hole_share", "largest_share"}
        same |= {"n_components", "n_islands", "repeated_share", "n_voxels"}
        assert one.model_dump(include=same) == other.model_dump(include=same)
        assert other.start == tuple(one.start + moved)
        assert [g.n_slices for g in one.gaps] == [g.n_slices for g in other.gaps]


def test_places_are_those_of_the_whole_grid():
    label = ball(SHAPE, (14, 14, 13), 6).astype(int)
    label[14, 14, 13] = 0
    label[25, 25, 23] = 1
    label[12] = 0
    one = measured(label)[1]
    assert one.hole_voxel == (14, 14, 13)
    assert one.hole_share == 1 / one.n_voxels
    # The gap splits the ball; the lone voxel is the island.
    assert (one.n_components, one.n_islands, one.island_voxel) == (3, 1, (25, 25, 23))
    assert one.second_voxel is not None
    assert one.second_voxel[0] < 12
    assert [(g.axis, g.first, g.n_slices) for g in one.gaps] == [(0, 12, 1)]


def test_a_class_that_fills_the_grid():
    one = measured(np.ones((3, 4, 5)))[1]
    assert (one.edge_share, one.border_share, one.repeated_share) == (1.0, 0.0, 1.0)
    assert one.gaps == one.contacts == ()
    assert one.start == (0, 0, 0)
    assert one.stop == (3, 4, 5)


def test_repeats_and_faces_of_a_box():
    label = box(SHAPE, (5, 5, 5), (9, 10, 16)).astype(int)
    one = measured(label)[1]
    assert one.repeated_share == 1.0
    assert one.faces == (2 * 5 * 11, 2 * 4 * 11, 2 * 4 * 5)
    label[5, 5, ::2] = 0
    assert measured(label)[1].repeated_share == 0.0


@pytest.mark.parametrize(("is_ct", "share"), [(True, 0.5), (False, 1.0)])
def test_air_is_below_minus_900_in_ct_and_outside_the_body_elsewhere(is_ct, share):
    label = box(SHAPE, (4, 4, 4), (8, 8, 8)).astype(int)
    image = np.where(np.arange(SHAPE[0]) < 6, -1000.0, -500.0)[:, None, None]
    image = np.broadcast_to(image, SHAPE).astype(np.float32)
    one = measured(label, image=image, body_threshold=-200.0, is_ct=is_ct)[1]
    assert one.air_share == share
    assert one.air_voxel is not None
    assert label[one.air_voxel] == 1
    assert image[one.air_voxel] < -900 or not is_ct


def test_voxels_that_are_not_finite_break_nothing():
    label = box(SHAPE, (4, 4, 4), (8, 8, 8)).astype(int)
    image = np.full(SHAPE, np.nan, np.float32)
    assert measured(label, image=image, body_threshold=0.0)[1].quantiles == ()
    image[5, 5, 5], image[6, 6, 6] = 7.0, -np.inf
    assert set(measured(label, image=image, body_threshold=0.0)[1].quantiles) == {7.0}


def test_no_class_no_measures():
    assert measured(np.zeros(SHAPE)) == {}
    assert measured(np.full(SHAPE, -1)) == {}


def test_memory_stays_below_six_bytes_per_voxel_beside_the_map():
    label = np.zeros((128, 128, 128), np.int16)
    for value, (i, j, k) in enumerate(np.random.default_rng(0).integers(0, 100, (40, 3)), 1):
        label[i : i + 28, j : j + 28, k : k + 28] = value
    image = np.zeros(label.shape, np.int16)
    tracemalloc.start()
    measured(label, 40, image)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # `measured` copies the map first.
    assert peak_bytes - label.nbytes < 6 * label.size
