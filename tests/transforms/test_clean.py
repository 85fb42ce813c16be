"""Clean-up removes and fills exactly what its rules name, and never touches other classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from phantoms import ball, box
from scipy import ndimage

from pipeline.artifacts import CleanupRule, LabelClass, Task
from pipeline.core.errors import CheckpointError
from pipeline.core.task import Channel
from pipeline.transforms.clean import class_boxes, clean_labels, number_pockets

SPACING = (1.0, 2.0, 2.5)  # a voxel is 0.005 ml
SHAPE = (24, 20, 16)
TASK = Task(
    channels=(Channel(name="CT", modality="ct"),),
    classes=(
        LabelClass(name="liver", index=1, source_values=(1,)),
        LabelClass(name="lesion", index=2, source_values=(2,)),
    ),
)


def rule(kind: str, name: str = "liver", min_ml: float | None = None) -> CleanupRule:
    return CleanupRule(
        class_name=name, kind=kind, min_ml=min_ml, dice_before=0.8, dice_after=0.9, n_cases=5
    )


def clean(label, *rules):
    return clean_labels(label, rules, TASK, SPACING)


def two_pieces() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[ball(SHAPE, (7, 10, 8), 5)] = 1
    label[18:20, 4:6, 3:5] = 1  # 8 voxels, 0.04 ml
    label[18:20, 15:17, 12] = 2
    return label


def test_without_rules_nothing_is_copied():
    label = two_pieces()
    assert clean(label) is label


def test_the_largest_piece_stays_and_other_classes_are_not_touched():
    label = two_pieces()
    before = label.copy()
    cleaned = clean(label, rule("keep_largest"))
    assert np.array_equal(label, before)
    assert not cleaned[18:20, 4:6, 3:5].any()
    assert np.array_equal(cleaned == 2, label == 2)
    assert np.count_nonzero(cleaned == 1) == np.count_nonzero(label == 1) - 8
    assert cleaned.dtype == label.dtype


def test_pieces_that_touch_at_a_corner_are_one():
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:5, 2:5] = 1
    label[5, 5, 5] = 1
    assert np.array_equal(clean(label, rule("keep_largest")), label)


@pytest.mark.parametrize(("min_ml", "stays"), [(0.039, True), (0.04, True), (0.041, False)])
def test_islands_below_the_limit_in_ml_go(min_ml, stays):
    label = two_pieces()
    cleaned = clean(label, rule("remove_islands", min_ml=min_ml))
    assert cleaned[18, 4, 3] == (1 if stays else 0)
    assert cleaned[7, 10, 8] == 1


def test_a_class_of_islands_only_goes_altogether():
    label = np.zeros(SHAPE, np.uint8)
    label[3, 3, 3] = label[9, 9, 9] = 2
    assert not clean(label, rule("remove_islands", "lesion", 1.0)).any()


def test_holes_are_filled_but_neither_other_classes_nor_open_pockets():
    label = np.zeros(SHAPE, np.uint8)
    label[box(SHAPE, (2, 2, 2), (20, 18, 14))] = 1
    hole, lesion, halo = (slice(4, 6),) * 3, (slice(8, 10),) * 3, (slice(12, 17),) * 2
    label[hole] = 0
    label[lesion] = 2
    label[*halo, 4:9] = 0
    label[14, 14, 6] = 2  # a pocket around another class is not enclosed by this one alone
    label[2, 10, 5] = 0  # a dent in the surface
    cleaned = clean(label, rule("fill_holes"))
    assert (cleaned[hole] == 1).all()
    assert (cleaned[lesion] == 2).all()
    assert np.array_equal(cleaned[*halo, 4:9], label[*halo, 4:9])
    assert cleaned[2, 10, 5] == 0


def test_the_edge_of_the_volume_closes_no_hole():
    label = np.ones(SHAPE, np.uint8)
    label[0:3, 5, 5] = 0
    label[10, 10, 10] = 0
    cleaned = clean(label, rule("fill_holes"))
    assert not cleaned[0:3, 5, 5].any()
    assert cleaned[10, 10, 10] == 1


def test_rules_act_in_their_order():
    label = np.zeros(SHAPE, np.uint8)
    label[box(SHAPE, (2, 2, 2), (14, 14, 14))] = 1
    label[6, 6, 6] = 2
    lesion_goes = rule("remove_islands", "lesion", 1.0)
    assert clean(label, lesion_goes, rule("fill_holes"))[6, 6, 6] == 1
    assert clean(label, rule("fill_holes"), lesion_goes)[6, 6, 6] == 0


def test_a_rule_for_a_class_the_model_does_not_have_is_refused():
    with pytest.raises(CheckpointError, match="livr"):
        clean(two_pieces(), rule("keep_largest", "livr"))


def test_an_absent_class_and_ignored_voxels_have_no_box():
    label = two_pieces()
    label[label == 2] = 0
    label[0] = 255
    assert set(class_boxes(label, 2)) == {1}
    assert np.array_equal(clean(label, rule("keep_largest", "lesion")), label)


maps = arrays.arrays(
    np.uint8,
    st.tuples(*[st.integers(1, 7)] * 3),
    elements=st.sampled_from([0, 1, 1, 2]),
)


@given(maps)
def test_keeping_the_largest_agrees_with_scipy(label):
    numbers, n_pieces = ndimage.label(label == 1, structure=np.ones((3, 3, 3)))
    cleaned = clean(label, rule("keep_largest"))
    sizes = np.bincount(numbers.reshape(-1), minlength=n_pieces + 1)[1:]
    kept = np.unique(numbers[cleaned == 1])
    assert len(kept) == min(1, n_pieces)
    assert all(size == sizes.max() for size in sizes[kept - 1])
    assert np.array_equal(cleaned == 2, label == 2)


@given(maps)
def test_filling_agrees_with_scipy_where_only_one_class_is_there(label):
    one = np.where(label == 1, np.uint8(1), np.uint8(0))
    filled = clean(one, rule("fill_holes"))
    assert np.array_equal(filled == 1, ndimage.binary_fill_holes(one == 1))


@given(maps, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_the_axes_do_not_matter(label, axes, flips):
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    view = label.transpose(axes)[steps]
    for one in (rule("remove_islands", min_ml=0.02), rule("fill_holes")):
        moved = clean_labels(view, [one], TASK, tuple(SPACING[a] for a in axes))
        assert np.array_equal(moved, clean(label, one).transpose(axes)[steps])


@given(maps)
def test_every_rule_is_idempotent_and_adds_no_new_class(label):
    for one in (rule("keep_largest"), rule("remove_islands", min_ml=0.02), rule("fill_holes")):
        cleaned = clean(label, one)
        assert np.array_equal(clean(cleaned, one), cleaned)
        assert set(np.unique(cleaned)) <= {0, *np.unique(label)}


def test_pockets_are_numbered_apart():
    label = np.ones((9, 9, 9), np.uint8)
    label[2, 2, 2] = label[6, 6, 6] = 0
    pockets = number_pockets(label, 1)
    assert np.count_nonzero(pockets) == 2
    assert pockets[2, 2, 2] != pockets[6, 6, 6]


@given(maps, st.permutations(["keep_largest", "remove_islands", "fill_holes"]))
def test_several_rules_equal_one_after_the_other(label, order):
    rules = [rule(kind, min_ml=0.02) for kind in order]
    rules += [rule("keep_largest", "lesion"), rule("fill_holes")]
    expected = label
    for one in rules:
        expected = clean(expected, one)
    assert np.array_equal(clean(label, *rules), expected)
