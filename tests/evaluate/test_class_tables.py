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

from pipeline.evaluate.class_tables import (
    REGION_COLOR,
    lesion_table,
    overlap_table,
    plain_mean,
    row_color,
    row_title,
    surface_table,
    volume_table,
)
from pipeline.metrics.regions import region_overlap


def rows_of(build, evaluation):
    table = build(evaluation, classes_of(evaluation))
    names = [c["name"].replace("\u00a0", " ") for c in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def text(cell):
    return cell["text"] if isinstance(cell, dict) else cell


MIXED = cases_of(a=[*spread(9), "missed", "hallucinated", "absent"])


def test_failures_stand_beside_every_mean():
    given = evaluation_of(tuple(with_surfaces(c) for c in MIXED))
    for build, n, n_undefined in (
        (overlap_table, 11, 1),
        (surface_table, 9, 3),
        (volume_table, 11, 1),
    ):
        (row,) = rows_of(build, given)
        assert (row["n"], row["Undefined"]) == (n, n_undefined)
        assert (row["Missed"], row["Halluc."]) == (1, 1)


def test_a_mean_over_other_cases_states_its_own_n():
    (row,) = rows_of(overlap_table, evaluation_of(MIXED))
    assert text(row["Precision"]).endswith("(n\u00a010)")
    assert "(n" not in text(row["IoU"])
    assert text(row["Worst case (Dice)"]) in ("c09 (0.000)", "c10 (0.000)")


def test_distances_leave_failures_out_and_the_penalty_does_not():
    (row,) = rows_of(surface_table, evaluation_of(tuple(with_surfaces(c) for c in MIXED)))
    assert text(row["HD95, mm, mean [95 %]"]) == "3.00"
    # Nine cases of 3 mm, two failures of the diagonal.
    assert row["HD95 with penalty, mm"]["sort"] == pytest.approx((9 * 3 + 2 * 100) / 11)
    assert "(n\u00a011)" in row["HD95 with penalty, mm"]["text"]
    assert row["Tolerance, mm"] == "2"
    assert row["Tiny"] == 0


def test_surfaces_of_a_class_that_is_never_in_both_maps():
    (row,) = rows_of(surface_table, evaluation_of((with_surfaces(cases_of(a=["missed"])[0]),)))
    assert row["HD95, mm, mean [95 %]"] is None
    assert (row["n"], row["Undefined"], row["Missed"]) == (0, 1, 1)
    assert text(row["HD95 with penalty, mm"]).startswith("100.00")


def test_small_surfaces_and_changing_tolerances_are_shown():
    first, second = cases_of(a=[0.5, 0.6])
    cases = (with_surfaces(first, n=19), with_surfaces(second, tolerance_mm=5.0))
    (row,) = rows_of(surface_table, evaluation_of(cases))
    assert row["Tiny"] == 1
    assert row["Tolerance, mm"] == "2 to 5"


def test_tables_of_what_was_not_measured_are_left_out():
    given = evaluation_of(MIXED)
    assert surface_table(given, classes_of(given)) is None
    assert lesion_table(given, classes_of(given)) is None


def test_lesions_are_counted_over_all_cases():
    first, second = cases_of(a=[0.5, 0.6], b=[0.5, 0.5])
    cases = (
        with_lesions(first, "b", n=4, n_found=3, n_false=0),
        with_lesions(second, "b", n=2, n_found=1, n_false=5),
    )
    (row,) = rows_of(lesion_table, evaluation_of(cases))
    assert text(row["Class"]) == "b"
    assert text(row["Found"]).replace("\u00a0", " ") == "4 of 6"
    assert (row["False alarms"], row["Ignored"]) == (5, 2)
    assert row["Recall"]["sort"] == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_volumes_have_limits_from_three_cases_on():
    (row,) = rows_of(volume_table, evaluation_of(cases_of(a=[0.5, "missed"])))
    assert row["Limits of agreement, ml"] is None
    (row,) = rows_of(volume_table, evaluation_of(cases_of(a=[0.5, "missed", 0.6])))
    assert " to " in row["Limits of agreement, ml"]
    assert row["Size of the error, ml"]["sort"] == pytest.approx(1 / 3)


def test_regions_are_marked_as_unions():
    cases = tuple(
        replace(c, classes=(*c.classes, region_overlap(c, "all", ("a", "b"))))
        for c in cases_of(a=spread(3), b=spread(3))
    )
    given = evaluation_of(cases, regions={"all": ("a", "b")})
    assert [text(row["Class"]) for row in rows_of(overlap_table, given)] == [
        *("a", "b"),
        "all (union of a, b)",
    ]
    assert row_color(given, "all") == REGION_COLOR != row_color(given, "a")
    assert row_title(given, "a") == "a"


def test_a_plain_mean_counts_what_it_leaves_out():
    found = plain_mean(evaluation_of(MIXED), "a", "recall")
    assert (found.n, found.n_undefined) == (10, 2)
    assert found.ci95 is None
