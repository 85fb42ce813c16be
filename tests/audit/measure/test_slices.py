import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp
from phantoms import ball, box

from pipeline.audit.measure.slices import find_gaps, share_of_repeats

SHAPE = (20, 20, 20)


def gaps_of(mask):
    present = tuple(mask.any(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3))
    return [(gap.axis, gap.first, gap.n_slices) for gap in find_gaps(mask, present)]


def test_a_skipped_slice_is_a_gap():
    mask = ball(SHAPE, (10, 10, 10), 6)
    assert gaps_of(mask) == []
    mask[:, :, 9:11] = False
    assert gaps_of(mask) == [(2, 9, 2)]
    mask[12] = False
    assert gaps_of(mask) == [(0, 12, 1), (2, 9, 2)]


def test_every_second_slice_makes_many_gaps():
    mask = ball(SHAPE, (10, 10, 10), 6)
    mask[:, :, 1::2] = False
    assert [gap[1] for gap in gaps_of(mask)] == [7, 9, 11, 13]


def test_two_structures_beside_each_other_leave_no_gap():
    mask = ball(SHAPE, (5, 5, 5), 3) | ball(SHAPE, (14, 14, 14), 3)
    assert gaps_of(mask) == []


def test_a_pair_of_organs_leaves_no_gap():
    mask = ball(SHAPE, (5, 10, 10), 4) | ball(SHAPE, (15, 10, 10), 4)
    assert not mask[10].any()
    assert gaps_of(mask) == []


def test_a_lone_slice_is_an_island_and_no_gap():
    mask = box(SHAPE, (5, 5, 5), (10, 10, 10))
    mask[5:10, 5:10, 12] = True
    assert gaps_of(mask) == []


def test_a_thin_structure_that_moves_on_is_still_one():
    mask = np.zeros(SHAPE, np.bool_)
    for k in range(20):
        mask[k // 2 + 3 : k // 2 + 6, 8:11, k] = True
    assert gaps_of(mask) == []
    mask[:, :, 9:12] = False
    assert gaps_of(mask) == [(2, 9, 3)]


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)))
def test_repeats_are_equal_neighbors(mask):
    present = mask.any(axis=(0, 1))
    changes = np.append((mask[:, :, :-1] != mask[:, :, 1:]).any(axis=(0, 1)), False)
    pairs = [k for k in range(mask.shape[2] - 1) if present[k] and present[k + 1]]
    n_equal = sum(np.array_equal(mask[:, :, k], mask[:, :, k + 1]) for k in pairs)
    expected = n_equal / len(pairs) if pairs else 0.0
    assert share_of_repeats(present, changes) == expected
