import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from pipeline.core.errors import DataError, GeometryError
from pipeline.metrics import overlap
from pipeline.metrics.overlap import (
    Score,
    confusion_matrix,
    mistaken_classes,
    overlap_scores,
    without_ignored,
)

N_CLASSES = 3
CLASS_NAMES = ("a", "b", "c")


@st.composite
def label_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))
    maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, N_CLASSES))
    return draw(maps), draw(maps)


def scores_of(prediction, reference):
    confusion = confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    return overlap_scores(confusion, CLASS_NAMES, voxel_ml=0.002)


def counted_naively(prediction, reference):
    counts = np.zeros((N_CLASSES + 1, N_CLASSES + 1), dtype=np.int64)
    for r, p in zip(reference.ravel(), prediction.ravel(), strict=True):
        counts[r, p] += 1
    return counts


@pytest.mark.parametrize("k", range(9))
def test_dice_of_a_cube_shifted_by_k_voxels(k):
    n = 8
    reference, prediction = np.zeros((2, 20, 12, 12), dtype=np.uint8)
    reference[2 : 2 + n, 2 : 2 + n, 2 : 2 + n] = 1
    prediction[2 + k : 2 + k + n, 2 : 2 + n, 2 : 2 + n] = 1
    scores = scores_of(prediction, reference)[0]
    assert scores.dice == Score((n - k) / n, "ok")
    assert scores.iou.value == pytest.approx((n - k) / (n + k))
    assert scores.reference_ml == pytest.approx(n**3 * 0.002)
    assert scores.volume_error_ml == 0


@given(label_pairs())
def test_confusion_counts_every_pair(pair):
    prediction, reference = pair
    counted = confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    np.testing.assert_array_equal(counted, counted_naively(prediction, reference))


@given(label_pairs(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_scores_do_not_depend_on_axis_order_or_direction(pair, axes, flips):
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    turned = [array.transpose(axes)[steps] for array in pair]
    assert scores_of(*turned) == scores_of(*pair)


@given(label_pairs())
def test_memory_layout_and_dtype_do_not_matter(pair):
    prediction, reference = pair
    expected = scores_of(prediction, reference)
    for dtype in (np.int16, np.uint32, np.int64, np.uint64):
        assert scores_of(np.asfortranarray(prediction.astype(dtype)), reference) == expected


@given(label_pairs())
def test_dice_is_symmetric_bounded_and_one_only_for_equal_masks(pair):
    prediction, reference = pair
    swapped = scores_of(reference, prediction)
    for index, scores in enumerate(scores_of(prediction, reference), start=1):
        assert scores.dice.value == swapped[index - 1].dice.value
        is_equal = np.array_equal(prediction == index, reference == index)
        if scores.dice.value is None:
            assert scores.status == "absent"
            assert scores.iou.value is None
            continue
        assert 0 <= scores.iou.value <= scores.dice.value <= 1
        assert (scores.dice.value == 1) == is_equal
        # iou = dice / (2 - dice), so that both rank cases alike
        assert scores.iou.value == pytest.approx(scores.dice.value / (2 - scores.dice.value))


@given(label_pairs(), st.integers(0, 7))
def test_parts_add_up_to_the_whole(pair, cut):
    def count(prediction, reference):
        return confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)

    prediction, reference = pair
    parts = count(prediction[:cut], reference[:cut]) + count(prediction[cut:], reference[cut:])
    np.testing.assert_array_equal(parts, count(prediction, reference))


@pytest.mark.parametrize("order", ["C", "F"])
def test_many_chunks_equal_one(monkeypatch, order):
    rng = np.random.default_rng(3)
    prediction = np.asarray(rng.integers(0, 4, (31, 17, 9), dtype=np.uint8), order=order)
    reference = rng.integers(0, 4, (31, 17, 9), dtype=np.int16)
    whole = confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    monkeypatch.setattr(overlap, "CHUNK_VOXELS", 100)
    chunked = confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    np.testing.assert_array_equal(chunked, whole)
    assert chunked.sum() == prediction.size


def test_statuses():
    reference = np.array([[[1, 1, 2, 0]]], dtype=np.uint8)
    prediction = np.array([[[1, 0, 0, 3]]], dtype=np.uint8)
    a, b, c = scores_of(prediction, reference)
    assert (a.status, b.status, c.status) == ("ok", "missed", "hallucinated")
    assert (b.dice, c.iou) == (Score(0.0, "missed"), Score(0.0, "hallucinated"))
    assert (a.n_true_positive, a.n_false_positive, a.n_false_negative) == (1, 0, 1)
    assert c.volume_error_ml == pytest.approx(0.002)


def test_a_class_without_overlap_is_not_missed():
    reference = np.array([[[1, 0]]], dtype=np.uint8)
    prediction = np.array([[[0, 1]]], dtype=np.uint8)
    assert scores_of(prediction, reference)[0].dice == Score(0.0, "ok")


def test_empty_volumes_are_absent_everywhere():
    empty = np.zeros((0, 4, 4), dtype=np.uint8)
    assert {s.status for s in scores_of(empty, empty)} == {"absent"}


# Without the range check 4 would count as a pair of other classes.
@pytest.mark.parametrize("value", [-1, 4, 300])
@pytest.mark.parametrize("role", ["prediction", "reference"])
def test_values_out_of_range_are_refused(value, role):
    maps = {name: np.zeros((2, 2, 2), dtype=np.int16) for name in ("prediction", "reference")}
    maps[role][1, 1, 1] = value
    with pytest.raises(DataError, match=f"the {role} holds the value {value}"):
        confusion_matrix(**maps, n_classes=N_CLASSES)


def test_shapes_must_agree():
    with pytest.raises(GeometryError, match="differ in shape"):
        confusion_matrix(
            prediction=np.zeros((2, 2, 3), np.uint8),
            reference=np.zeros((2, 3, 2), np.uint8),
            n_classes=1,
        )


def test_names_must_fit_the_matrix():
    with pytest.raises(DataError, match="2 classes for 3 names"):
        overlap_scores(np.zeros((3, 3), dtype=np.int64), CLASS_NAMES, voxel_ml=1.0)


def test_precision_recall_and_percent_by_hand():
    reference = np.array([[[1, 1, 1, 1, 2, 0, 0]]], dtype=np.uint8)
    prediction = np.array([[[1, 1, 0, 0, 0, 1, 3]]], dtype=np.uint8)
    a, b, c = scores_of(prediction, reference)
    assert (a.precision.value, a.recall.value) == (pytest.approx(2 / 3), 0.5)
    assert a.volume_error_percent == -25
    assert (b.precision, b.recall) == (Score(None, "missed"), Score(0.0, "missed"))
    assert (c.precision, c.recall) == (Score(0.0, "hallucinated"), Score(None, "hallucinated"))
    assert (b.volume_error_percent, c.volume_error_percent) == (-100, None)


@given(label_pairs())
def test_confused_pairs_and_background_make_up_all_errors(pair):
    prediction, reference = pair
    confusion = confusion_matrix(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    mistaken = mistaken_classes(confusion, CLASS_NAMES)
    for index, scores in enumerate(overlap_scores(confusion, CLASS_NAMES, voxel_ml=1.0), start=1):
        for_others = sum(m.n_voxels for m in mistaken if m.class_name == scores.class_name)
        assert for_others + confusion[index, 0] == scores.n_false_negative
        taken = sum(m.n_voxels for m in mistaken if m.mistaken_for == scores.class_name)
        assert taken + confusion[0, index] == scores.n_false_positive


@given(label_pairs())
def test_ignored_voxels_are_background_in_both_maps_and_cost_nothing_to_leave_in(pair):
    prediction, reference = pair
    is_ignored = np.zeros(reference.shape, dtype=bool)
    is_ignored[::2] = True
    marked = np.where(is_ignored, np.uint8(255), reference)
    one, two = without_ignored(prediction=prediction, reference=marked, ignore_index=255)
    assert scores_of(one, two) == scores_of(prediction[~is_ignored], reference[~is_ignored])
    # What is predicted there does not matter.
    other = np.where(is_ignored, np.uint8(1), prediction)
    again, _ = without_ignored(prediction=other, reference=marked, ignore_index=255)
    assert np.array_equal(one, again)


def test_without_an_ignored_voxel_nothing_is_copied():
    label = np.zeros((2, 2, 2), dtype=np.uint8)
    for index in (None, 255):
        one, two = without_ignored(prediction=label, reference=label, ignore_index=index)
        assert one is label
        assert two is label
    with pytest.raises(GeometryError, match="differ in shape"):
        without_ignored(prediction=label[1:], reference=label, ignore_index=255)


def test_a_prediction_of_the_ignored_value_finds_nothing():
    reference = np.array([[[1, 1, 0]]], dtype=np.uint8)
    prediction = np.array([[[255, 1, 255]]], dtype=np.uint8)
    one, two = without_ignored(prediction=prediction, reference=reference, ignore_index=255)
    assert one.tolist() == [[[0, 1, 0]]]
    assert two is not None
    assert two.tolist() == reference.tolist()
