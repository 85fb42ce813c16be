import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from pipeline.core.errors import DataError, GeometryError
from pipeline.metrics.lesion import BRATS_GLIOMA, LesionRule, lesion_scores

SHAPE = (24, 16, 16)


def scored(prediction, reference, rule=None, voxel_mm3=1.0):
    rule = rule or LesionRule()
    return lesion_scores(
        prediction=prediction,
        reference=reference,
        class_name="lesion",
        voxel_mm3=voxel_mm3,
        rule=rule,
    )


def mask(*boxes):
    found = np.zeros(SHAPE, dtype=bool)
    for box in boxes:
        found[tuple(slice(*ends) for ends in box)] = True
    return found


FIRST = ((2, 6), (2, 6), (2, 6))
FIRST_HALF = ((2, 4), (2, 6), (2, 6))
SECOND = ((12, 14), (2, 4), (2, 4))
FAR = ((20, 22), (10, 12), (10, 12))


@st.composite
def mask_pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))
    masks = hnp.arrays(np.bool_, shape)
    return draw(masks), draw(masks)


def test_found_missed_and_false():
    found = scored(mask(FIRST_HALF, FAR), mask(FIRST, SECOND))
    assert (found.n_reference, found.n_prediction) == (2, 2)
    assert (found.n_detected, found.n_false_alarms) == (1, 1)
    assert (found.recall.value, found.precision.value, found.f1.value) == (0.5, 0.5, 0.5)
    # Dice 2 * 32 / (64 + 32) of the first, 0 of the missed one and of the false alarm.
    assert found.dice.value == pytest.approx(2 / 3 / 3)


def test_pieces_that_touch_at_a_corner_are_one_lesion():
    diagonal = np.zeros((4, 4, 4), dtype=bool)
    diagonal[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = True
    assert scored(diagonal, diagonal).n_reference == 1


def test_one_piece_over_two_lesions_finds_both_and_is_no_false_alarm():
    bridge = ((2, 14), (2, 4), (2, 4))
    found = scored(mask(bridge), mask(FIRST_HALF, SECOND))
    assert (found.n_detected, found.n_prediction, found.n_false_alarms) == (2, 1, 0)
    assert found.f1.value == 1


def test_all_pieces_on_a_lesion_share_its_dice():
    pieces = mask(((2, 3), (2, 6), (2, 6)), ((5, 6), (2, 6), (2, 6)))
    found = scored(pieces, mask(FIRST))
    assert (found.n_detected, found.n_prediction) == (1, 2)
    assert found.dice.value == pytest.approx(2 * 32 / (64 + 32))


def test_small_reference_lesions_count_neither_way():
    rule = LesionRule(min_lesion_mm3=8.0)
    found = scored(mask(FIRST, SECOND), mask(FIRST, SECOND), rule)
    assert (found.n_reference, found.n_prediction, found.n_ignored) == (1, 1, 1)
    assert (found.n_false_alarms, found.dice.value) == (0, 1.0)
    assert scored(mask(FIRST), mask(FIRST, SECOND), rule, voxel_mm3=1.01).n_reference == 2


def test_growing_joins_neighbors_and_forgives_a_small_gap():
    near = ((7, 9), (2, 6), (2, 6))  # one voxel off FIRST
    assert scored(mask(), mask(FIRST, near)).n_reference == 2
    assert scored(mask(), mask(FIRST, near), LesionRule(dilation_voxels=1)).n_reference == 1
    beside = mask(near)
    assert scored(beside, mask(FIRST)).n_false_alarms == 1
    grown = scored(beside, mask(FIRST), BRATS_GLIOMA)
    assert (grown.n_detected, grown.n_false_alarms, grown.dice.value) == (1, 0, 0.0)


def test_statuses():
    nothing = mask()
    missed, false = scored(nothing, mask(FIRST)), scored(mask(FIRST), nothing)
    absent = scored(nothing, nothing)
    assert (missed.status, missed.dice.value, missed.f1.value) == ("missed", 0, 0)
    assert (missed.precision.value, missed.recall.value) == (None, 0)
    assert (false.status, false.dice.value, false.recall.value) == ("hallucinated", 0, None)
    assert (absent.status, absent.dice.value, absent.f1.value) == ("absent", None, None)


def test_a_single_row_of_voxels():
    # cc3d 4.1.1 fails for such a mask if it gets it as bool.
    row = np.array([[[True, False, True]]])
    assert scored(row, row).n_detected == 2


def test_a_single_voxel_beside_a_single_voxel():
    # cc3d 4.1.1 overlooks the predicted one if it gets a view into the volume.
    prediction, reference = mask(((11, 12), (5, 6), (5, 6))), mask(((10, 11), (5, 6), (5, 6)))
    found = scored(prediction, reference)
    assert (found.n_detected, found.n_false_alarms) == (0, 1)


@given(mask_pairs(), st.tuples(*[st.integers(0, 3)] * 6))
def test_background_around_the_image_changes_nothing(pair, margins):
    widths = list(zip(margins[:3], margins[3:], strict=True))
    assert scored(*(np.pad(m, widths) for m in pair)) == scored(*pair)


@given(mask_pairs())
def test_lesions_are_counted_as_scipy_counts_them(pair):
    prediction, reference = pair
    pieces, n_pieces = label(prediction, np.ones((3, 3, 3)))
    lesions, n_lesions = label(reference, np.ones((3, 3, 3)))
    found = scored(prediction, reference)
    assert found.n_prediction == n_pieces
    assert found.n_reference == n_lesions
    assert found.n_detected == np.unique(lesions[prediction & reference]).size
    assert found.n_false_alarms == n_pieces - np.unique(pieces[prediction & reference]).size


@given(mask_pairs(), st.integers(0, 2), st.floats(0, 5))
def test_counts_add_up_and_nothing_leaves_its_range(pair, dilation, min_mm3):
    prediction, reference = pair
    rule = LesionRule(dilation_voxels=dilation, min_lesion_mm3=min_mm3)
    found = scored(prediction, reference, rule)
    everything = scored(prediction, reference, LesionRule(dilation_voxels=dilation))
    assert found.n_reference + found.n_ignored == everything.n_reference
    assert found.n_detected <= found.n_reference
    assert found.n_false_alarms <= found.n_prediction
    assert found.n_false_alarms == everything.n_false_alarms
    for score in (found.dice, found.recall, found.precision, found.f1):
        assert score.value is None or 0 <= score.value <= 1


@given(mask_pairs(), st.permutations(range(3)))
def test_turning_both_masks_changes_nothing(pair, axes):
    prediction, reference = pair
    turned = scored(prediction.transpose(axes), reference.transpose(axes))
    expected = scored(prediction, reference)
    assert turned.sum_of_dice == pytest.approx(expected.sum_of_dice)
    assert (turned.n_detected, turned.n_false_alarms) == (
        expected.n_detected,
        expected.n_false_alarms,
    )


@given(mask_pairs())
def test_a_mask_finds_itself(pair):
    found = scored(pair[0], pair[0])
    assert found.n_detected == found.n_reference == found.n_prediction
    assert found.dice.value in (None, pytest.approx(1))


def test_bad_input_is_refused():
    with pytest.raises(GeometryError):
        scored(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool))
    with pytest.raises(DataError, match="volume"):
        scored(mask(), mask(), voxel_mm3=0.0)
