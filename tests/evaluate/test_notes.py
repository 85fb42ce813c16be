from dataclasses import replace

import pytest
from evaluate_builders import cases_of, classes_of, evaluation_of, spread, with_surfaces

from pipeline.evaluate.notes import annotation_notes, cards, n_failures, notes, verdict
from pipeline.metrics.regions import region_overlap

GOOD = evaluation_of(cases_of(a=spread(12)))


def notes_of(given, spacings_mm=None):
    return notes(given, classes_of(given), spacings_mm or {})


def test_nothing_to_say_about_a_good_evaluation():
    surfaces = tuple(with_surfaces(case) for case in GOOD.cases)
    assert notes_of(evaluation_of(surfaces), {"c00": (1.0, 1.0, 4.0)}) == []


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (evaluation_of(cases_of(a=spread(9))), "Fewer than 10 patients: points only"),
        (
            evaluation_of(cases_of(a=spread(12)), patients={f"c{n:02d}": "p" for n in range(12)}),
            "Fewer than 10 patients",
        ),
        (evaluation_of(cases_of(a=spread(12), b=["absent"] * 3 + spread(9))), "patients for b"),
        (replace(GOOD, seen_in_training=("c01",)), "trained on 1 of these 12 cases (c01)"),
        (replace(GOOD, extra_predictions=("x.nii.gz",)), "not scored: x.nii.gz"),
        (
            evaluation_of((*GOOD.cases[1:], replace(GOOD.cases[0], grid_offset_voxels=0.2))),
            "In 1 case the grid",
        ),
        (
            evaluation_of((*GOOD.cases[1:], with_surfaces(GOOD.cases[0], n=19))),
            "fewer than 20 voxels: a in 1 case",
        ),
    ],
)
def test_what_limits_the_numbers_is_said(given, part):
    (note,) = notes_of(given)
    assert part in note


def test_a_tolerance_below_half_a_voxel_is_named_with_the_case():
    given = evaluation_of(tuple(with_surfaces(case) for case in GOOD.cases))
    (note,) = notes_of(given, {"c00": (1.0, 1.0, 1.0), "c01": (1.0, 5.0, 1.0)})
    assert "2 mm, is below half a voxel in 1 case" in note
    assert "5 mm, c01" in note
    assert "at least 2.5 mm" in note
    assert notes_of(given, {"c01": (1.0, 4.0, 1.0)}) == []


def test_the_verdict_is_the_worst_that_happened():
    assert verdict(GOOD)["kind"] == "good"
    missed = evaluation_of(cases_of(a=["missed", "missed", 0.5]))
    assert verdict(missed)["text"] == "2 structures missed"
    assert verdict(replace(missed, seen_in_training=("c00",)))["text"] == "1 case seen in training"
    assert verdict(evaluation_of(missed.cases, failed=("x",)))["text"] == "1 case failed"


def test_regions_do_not_add_failures():
    (case,) = cases_of(a=["missed"], b=["hallucinated"])
    case = replace(case, classes=(*case.classes, region_overlap(case, "all", ("b",))))
    assert n_failures(evaluation_of((case,), regions={"all": ("b",)})) == (1, 1)


def test_the_first_card_is_the_headline():
    first, second, *_ = cards(evaluation_of(cases_of(a=[0.5, 0.7]), failed=("gone",)))
    assert first["value"] == "0.600"
    assert second["value"] == "2 of 3"


def test_what_the_references_leave_open_is_said():
    drawn = cases_of(a=spread(12), b=spread(12))
    cases = (*drawn[:-1], replace(GOOD.cases[-1], not_annotated=("b",)))
    given = replace(evaluation_of(cases), ignored_values=(255,))
    one, two = annotation_notes(given)
    assert "b in 1 case" in one
    assert "value 255" in two
    assert {one, two} <= set(notes_of(given))
    assert annotation_notes(GOOD) == []
