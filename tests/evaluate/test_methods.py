from dataclasses import replace

import pytest
from evaluate_builders import (
    cases_of,
    classes_of,
    evaluation_of,
    spread,
    with_lesions,
    with_surfaces,
)

from pipeline.evaluate.methods import definitions, methods_text
from pipeline.metrics.regions import region_overlap


def text_of(cases, **more):
    given = evaluation_of(cases, **more)
    return methods_text(given, classes_of(given))


TWO = cases_of(liver=[0.5, 0.6])


def test_what_was_done_is_said():
    text = text_of(cases_of(liver=spread(25)), policy="kits")
    for part in ("liver", "25 cases of held out", "'kits'", "200 resamples", "voxline", "numpy"):
        assert part in text
    assert text.endswith("\n")
    assert text.count("\n") == 1


def test_what_is_left_out_is_counted_and_only_then():
    text = text_of(TWO, failed=("c00", "three", "four"))
    assert "labels of 4 cases" in text
    assert "No prediction was available for 1 case;" in text
    assert "2 cases could not be compared and are in no average" in text
    assert "No prediction" not in text_of(TWO)
    assert "in no average" not in text_of(TWO)


@pytest.mark.parametrize(
    ("cases", "settings"),
    [(cases_of(liver=spread(25)), {"n_bootstrap": 0}), (cases_of(liver=spread(9)), {})],
)
def test_no_interval_is_claimed_that_is_not_shown(cases, settings):
    assert "confidence" not in text_of(cases, **settings)
    assert "Student" not in text_of(cases, **settings)


def test_student_is_named_where_it_stands():
    assert "Student" in text_of(cases_of(liver=spread(15)))
    assert "Student" not in text_of(cases_of(liver=spread(25)))
    patients = {f"c{n:02d}": f"p{n // 2}" for n in range(30)}
    text = text_of(cases_of(liver=spread(30)), patients=patients)
    assert "30 cases (15 patients)" in text
    assert "Below 20 patients, Student" in text


def test_only_what_was_measured_is_described():
    plain = text_of(TWO)
    assert "surface" not in plain
    assert "Lesions" not in plain
    assert "calibration" not in plain
    first, second = TWO
    rich = (
        replace(with_surfaces(first), calibration_error=0.1),
        with_lesions(with_surfaces(second), "liver", n=2, n_found=1, n_false=1),
    )
    text = text_of(rich, multi=("liver",), min_lesion_mm3=50.0, lesion_dilation_voxels=3)
    for part in (
        "tolerance: 2 mm",
        "larger of the two directed percentiles",
        "26-connected",
        "50 mm3 or less are ignored",
        "growing by 3 voxels",
        "Expected calibration error",
        "connected-components-3d",
    ):
        assert part in text


def test_tolerances_that_differ_are_listed():
    (case,) = cases_of(a=[0.5], b=[0.5])
    a = with_surfaces(case, tolerance_mm=1.0).surfaces[0]
    case = replace(case, surfaces=(a, with_surfaces(case).surfaces[1]))
    assert "tolerance: a 1 mm, b 2 mm" in text_of((case,))


def test_regions_are_named_with_their_members():
    (case,) = cases_of(a=[0.5], b=[0.5])
    case = replace(case, classes=(*case.classes, region_overlap(case, "all", ("a", "b"))))
    text = text_of((case,), regions={"all": ("a", "b")})
    assert "Segmentations of a, b were" in text
    assert "all (a, b)" in text


def test_definitions_cover_what_the_report_shows_and_no_more():
    plain = dict(definitions(evaluation_of(TWO)))
    assert {"Dice", "Missed", "95 % interval", "Limits of agreement"} <= set(plain)
    assert "Surface Dice" not in plain
    case = with_lesions(with_surfaces(TWO[0]), "liver", n=1, n_found=1, n_false=0)
    rich = dict(definitions(evaluation_of((case,), tolerances_mm={"liver": 1.5})))
    assert {"Surface Dice", "HD95, mm", "HD95 with penalty, mm", "Lesion F1"} <= set(rich)
    assert "percentile: 95" in rich["Surface conventions"]
    assert "liver 1.5 mm" in rich["Tolerance"]


def test_distances_follow_the_policy():
    cases = (with_surfaces(TWO[0]),)
    assert "undefined and counted." in text_of(cases)
    assert "count what the policy says" in text_of(cases, policy="brats")
