"""Clean-up rules: counted as they would act, taken only where they help, never where they harm."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from phantoms import ball, box

from pipeline.artifacts import CaseRecord, CleanupRule, LabelClass, Task
from pipeline.core.errors import DataError
from pipeline.core.task import Channel
from pipeline.train.cleanup import (
    CleanupEvidence,
    Reference,
    choose_cleanup,
    evenly_spaced,
    read_reference,
)
from pipeline.transforms.clean import clean_labels

SPACING = (1.0, 1.0, 2.0)  # a voxel is 0.002 ml
SHAPE = (28, 20, 16)
TASK = Task(
    channels=(Channel(name="CT", modality="ct"),),
    classes=(
        LabelClass(name="liver", index=1, source_values=(1,)),
        LabelClass(name="lesion", index=2, source_values=(2,)),
    ),
    ignore_values=(9,),
)
IGNORE = 255


def rule(kind: str, min_ml: float | None = None, name: str = "liver") -> CleanupRule:
    return CleanupRule(
        class_name=name, kind=kind, min_ml=min_ml, dice_before=0.0, dice_after=0.0, n_cases=0
    )


def dice(prediction, reference, index: int = 1) -> float | None:
    is_scored = reference != IGNORE
    p, r = (prediction == index) & is_scored, reference == index
    return 2 * np.count_nonzero(p & r) / n if (n := p.sum() + r.sum()) else None


def liver(number: int = 0) -> np.ndarray:
    reference = np.zeros(SHAPE, np.uint8)
    reference[ball(SHAPE, (9 + number % 3, 10, 8), 5)] = 1
    return reference


def with_island(reference: np.ndarray) -> np.ndarray:
    prediction = reference.copy()
    prediction[22:25, 3:6, 3:6] = 1
    return prediction


class Case(NamedTuple):
    prediction: np.ndarray
    reference: np.ndarray
    unannotated: tuple[str, ...] = ()


def gathered(cases) -> CleanupEvidence:
    evidence = CleanupEvidence(TASK)
    for case in cases:
        reference = Reference(case.reference, SPACING, case.unannotated)
        evidence.add_prediction(case.prediction, reference)
    return evidence


def chosen(cases) -> tuple[CleanupRule, ...]:
    return choose_cleanup(gathered(cases))


def pairs(make, n_cases: int = 6, change=liver) -> list[Case]:
    return [Case(make(change(n)), change(n)) for n in range(n_cases)]


def test_a_stray_piece_of_a_single_organ_is_removed_and_the_gain_is_the_true_one():
    cases = pairs(with_island)
    (found,) = chosen(cases)
    assert (found.class_name, found.kind, found.n_cases) == ("liver", "keep_largest", 6)
    before = [dice(c.prediction, c.reference) for c in cases]
    cleaned = [clean_labels(c.prediction, [found], TASK, SPACING) for c in cases]
    after = [dice(p, c.reference) for p, c in zip(cleaned, cases, strict=True)]
    assert found.dice_before == pytest.approx(np.mean(before))
    assert found.dice_after == pytest.approx(np.mean(after)) == 1.0


def test_perfect_predictions_need_no_rule():
    assert chosen(pairs(lambda reference: reference)) == ()


def test_four_cases_with_the_class_are_too_few():
    assert chosen(pairs(with_island, 4)) == ()
    assert chosen(pairs(with_island, 5)) != ()


def test_a_tiny_gain_is_not_worth_a_rule():
    def with_a_voxel(reference):
        prediction = reference.copy()
        prediction[25, 3, 3] = 1
        return prediction

    assert np.count_nonzero(liver()) > 500
    assert chosen(pairs(with_a_voxel)) == ()


def test_a_class_in_several_pieces_never_loses_one():
    def two_livers(number):
        reference = liver(number)
        reference[23:25, 12:16, 8:12] = 1
        return reference

    # Every case gains by keeping the largest piece only: the second one is never hit.
    def misplaced(reference):
        prediction = with_island(reference)
        prediction[23:25, 12:16, 8:12] = 0
        return prediction

    kinds = [r.kind for r in chosen(pairs(misplaced, change=two_livers))]
    assert kinds == ["remove_islands"]


def test_one_other_reference_in_pieces_is_enough_to_forbid_the_largest_piece():
    evidence = gathered(pairs(with_island))
    torn = liver()
    torn[24:27, 12:16, 8:12] = 1
    evidence.add_reference(Reference(torn, SPACING))
    assert [r.kind for r in choose_cleanup(evidence)] == ["remove_islands"]


def test_no_island_as_large_as_the_smallest_true_piece_is_removed():
    def lesions(number):
        reference = np.zeros(SHAPE, np.uint8)
        reference[2:8, 2:8, 2:8] = 2
        reference[20:23, 14:16, 8 + number % 2] = 2  # 6 voxels, the smallest
        return reference

    def false_alarms(reference):
        prediction = reference.copy()
        prediction[15, 3:8, 3] = 2  # 5 voxels
        prediction[18, 3:9, 12] = 2  # 6 voxels
        return prediction

    (found,) = chosen(pairs(false_alarms, change=lesions))
    assert (found.class_name, found.kind) == ("lesion", "remove_islands")
    assert found.min_ml == pytest.approx(6 * 0.002)
    cleaned = clean_labels(false_alarms(lesions(0)), [found], TASK, SPACING)
    assert not cleaned[15].any()
    assert cleaned[18, 3:9, 12].all()


def test_a_rule_that_harms_more_cases_than_it_helps_is_not_taken():
    cases = []
    for number in range(7):
        reference = liver(number)
        prediction = reference.copy()
        if number < 3:
            prediction[17:27, 3:17, 3:13] = 1  # a large false piece beside a small true one
            prediction[15:17] = 0
        else:
            prediction[9:11] = 0  # the organ is found in two halves, and one would go
        cases.append(Case(prediction, reference))
    assert "keep_largest" not in [r.kind for r in chosen(cases)]


def test_holes_are_filled_last():
    def holed(reference):
        prediction = with_island(reference)
        prediction[8:12, 9:12, 7:10] = 0
        return prediction

    assert [r.kind for r in chosen(pairs(holed))] == ["keep_largest", "fill_holes"]
    (case, *_) = cases = pairs(holed)
    cleaned = clean_labels(case.prediction, chosen(cases), TASK, SPACING)
    assert np.array_equal(cleaned, case.reference)


def test_a_false_alarm_taken_away_helps():
    def lesion_or_none(number):
        reference = np.zeros(SHAPE, np.uint8)
        if number < 5:
            reference[4:8, 4:8, 4:8] = 2
        return reference

    def speck(reference):
        prediction = reference.copy()
        if not reference.any():
            prediction[20, 10, 4:7] = 2
        return prediction

    (found,) = chosen(pairs(speck, 8, change=lesion_or_none))
    # Undefined afterwards, so the mean is over the five cases that have it.
    assert (found.dice_before, found.dice_after) == (pytest.approx(5 / 8), 1.0)
    assert found.n_cases == 8


def test_unannotated_classes_and_ignored_voxels_say_nothing():
    def case(number, unannotated=()):
        return Case(with_island(liver(number)), liver(number), unannotated)

    assert chosen([case(n, ("liver",)) for n in range(9)]) == ()
    assert chosen([case(n, ("liver",) if n > 3 else ()) for n in range(9)]) == ()
    ignored = []
    for number in range(6):
        reference = liver(number)
        reference[20:] = IGNORE
        ignored.append(Case(with_island(liver(number)), reference))
    assert chosen(ignored) == ()


small_maps = arrays.arrays(np.uint8, (7, 6, 5), elements=st.sampled_from([0, 1, 1, 2]))


@given(
    small_maps,
    small_maps,
    st.sampled_from(
        [
            [rule("keep_largest")],
            [rule("remove_islands", 0.005)],
            [rule("keep_largest"), rule("remove_islands", 0.05)],
            [rule("fill_holes")],
        ]
    ),
    st.booleans(),
)
def test_counted_dice_is_that_of_the_cleaned_map(prediction, reference, rules, has_ignored):
    if has_ignored:
        reference = reference.copy()
        reference[:2] = IGNORE
    evidence = gathered([Case(prediction, reference)])
    cleaned = clean_labels(prediction, rules, TASK, SPACING)
    tallies = evidence.tallies.get(1, [])
    expected = dice(cleaned, reference)
    counted = tallies[0].dice(rules) if tallies else None
    assert counted == (None if expected is None else pytest.approx(expected))


def test_a_pocket_belongs_to_the_piece_around_it():
    reference = np.zeros(SHAPE, np.uint8)
    reference[box(SHAPE, (1, 1, 1), (15, 15, 15))] = 1
    prediction = reference.copy()
    prediction[5:8, 5:8, 5:8] = 0
    prediction[6, 6, 6] = 1  # an island inside the hole
    prediction[20:25, 3:8, 3:8] = 1
    prediction[22, 5, 5] = 0  # a hole of the piece that goes
    evidence = gathered([Case(prediction, reference)])
    rules = [rule("keep_largest"), rule("fill_holes")]
    cleaned = clean_labels(prediction, rules, TASK, SPACING)
    assert dice(cleaned, reference) == 1.0
    # The island that goes and comes back with its hole is counted as gone: one voxel.
    n = np.count_nonzero(reference)
    assert evidence.tallies[1][0].dice(rules) == pytest.approx(2 * (n - 1) / (2 * n - 1))


def test_training_references_are_taken_from_all_over_the_list():
    records = [CaseRecord(case_id=str(n), status="ready") for n in range(100)]
    taken = [int(record.case_id) for record in evenly_spaced(records, 30)]
    assert len(taken) <= 30
    assert (taken[0], taken[-1]) == (0, 96)
    assert list(evenly_spaced(records[:7], 30)) == records[:7]
    assert list(evenly_spaced([], 30)) == []


def test_a_case_without_a_label_is_named(tmp_path):
    with pytest.raises(DataError) as raised:
        read_reference(CaseRecord(case_id="c7", status="ready"), TASK, tmp_path)
    assert "c7" in raised.value.where
