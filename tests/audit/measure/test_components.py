import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import ball, box
from scipy import ndimage

from pipeline.audit.measure.components import find_holes, find_islands, find_pieces

SHAPE = (20, 20, 20)
maps = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(-1, 2)
)


@given(maps)
def test_pieces_agree_with_scipy(label):
    pieces = find_pieces(label)
    for value in (-1, 1, 2):
        numbers, n_pieces = ndimage.label(label == value, np.ones((3, 3, 3)))
        own = np.flatnonzero(pieces.class_index == value)
        assert sorted(pieces.n_voxels[own]) == sorted(np.bincount(numbers.ravel())[1:])
        assert len(own) == n_pieces
        for piece in own:
            voxel = pieces.voxel_of(int(piece))
            assert label[voxel] == value
            same = np.argwhere(numbers == numbers[voxel])
            assert pieces.start[piece].tolist() == same.min(axis=0).tolist()
            assert pieces.stop[piece].tolist() == (same.max(axis=0) + 1).tolist()
            assert np.allclose(pieces.centroid[piece], same.mean(axis=0))


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_holes_of_one_class_agree_with_scipy(mask):
    filled = ndimage.binary_fill_holes(mask)
    holes = find_holes(mask.astype(np.int16))
    assert holes.n_voxels.get(1, 0) == int(filled.sum() - mask.sum())
    if 1 in holes.voxel:
        assert filled[holes.voxel[1]]
        assert not mask[holes.voxel[1]]


def test_a_tumor_in_its_organ_is_no_hole_but_a_hole_in_the_tumor_is():
    label = ball(SHAPE, (10, 10, 10), 8).astype(np.int16)
    label[ball(SHAPE, (10, 10, 10), 4)] = 2
    assert find_holes(label).n_voxels == {}
    label[10, 10, 10] = 0
    holes = find_holes(label)
    assert holes.n_voxels == {2: 1}
    assert holes.voxel == {2: (10, 10, 10)}


def test_what_two_classes_or_an_undeclared_value_enclose_is_no_hole():
    label = box(SHAPE, (5, 5, 5), (10, 10, 10)).astype(np.int16)
    label[7, 7, 7] = 0
    assert find_holes(label).n_voxels == {1: 1}
    label[7, 7, 8] = 2
    assert find_holes(label).n_voxels == {}
    label[7, 7, 8] = -1
    assert find_holes(label).n_voxels == {}


def test_a_cavity_that_the_edge_of_the_grid_cuts_is_open():
    label = np.ones((6, 6, 6), np.int16)
    label[3:, 2:4, 2:4] = 0
    assert find_holes(label).n_voxels == {}


def test_islands_are_small_beside_the_largest_piece():
    assert find_islands(np.array([1000, 3, 4, 2, 500])).tolist() == [2, 1, 3]
    # Lesions of a few voxels are no islands of each other.
    assert find_islands(np.array([30, 3, 2, 1])).tolist() == [3]
    assert find_islands(np.array([1])).tolist() == []


def test_thin_grids_and_views_are_counted():
    thin = np.zeros((9, 1, 1), np.int16)
    thin[[1, 2, 5], 0, 0] = 1
    assert sorted(find_pieces(thin).n_voxels[1:].tolist()) == [1, 2]
    assert find_holes(thin).n_voxels == {}
    wide = np.zeros((9, 4, 4), np.int16)
    wide[[1, 2, 5], 1, 1] = 1
    assert sorted(find_pieces(wide[:, 1:2, 1:2]).n_voxels[1:].tolist()) == [1, 2]
