from dataclasses import replace

import pytest
from compare_builders import case, cases_of, run

from pipeline.compare.agreement import agree
from pipeline.core.errors import DataError
from pipeline.metrics.scores import CaseScores

A = run("A", cases_of(x=[0.5, 0.6, 0.7], y=[0.5, 0.6, 0.7]))


def test_the_same_cases_in_any_order_agree():
    b = run("B", cases_of(x=[0.1, 0.2, 0.3], y=[0.4, 0.5, 0.6])[::-1])
    agreed = agree([A, b], is_common_enough=False)
    assert agreed.case_ids == ("c00", "c01", "c02")
    assert [c.case_id for c in agreed.runs[1].cases] == ["c00", "c01", "c02"]
    assert agreed.class_names == ("x", "y")
    assert agreed.left_out == ()


def test_other_cases_are_refused_unless_the_common_ones_will_do():
    b = run("B", (*cases_of(x=[0.1, 0.2], y=[0.4, 0.5]), case("extra", x=0.5, y=0.5)))
    with pytest.raises(DataError, match="not scored on the same cases") as raised:
        agree([A, b], is_common_enough=False)
    assert "A: 3 cases, 1 of them not in every run (c02)" in raised.value.where
    assert "--common" in raised.value.fix
    agreed = agree([A, b], is_common_enough=True)
    assert agreed.case_ids == ("c00", "c01")
    assert [(x.label, x.case_ids) for x in agreed.left_out] == [("A", ("c02",)), ("B", ("extra",))]


def test_other_classes_are_refused_unless_the_common_ones_will_do():
    b = run("B", cases_of(x=[0.5, 0.6, 0.7]))
    with pytest.raises(DataError, match="not scored on the same classes"):
        agree([A, b], is_common_enough=False)
    agreed = agree([A, b], is_common_enough=True)
    assert agreed.class_names == ("x",)
    assert agreed.left_out[0].class_names == ("y",)


@pytest.mark.parametrize("is_common_enough", [True, False])
def test_runs_that_share_nothing_are_refused(is_common_enough):
    with pytest.raises(DataError, match="share no cases"):
        agree([A, run("B", [case("other", x=0.5, y=0.5)])], is_common_enough=is_common_enough)


def test_other_references_are_refused():
    b = run("B", (*cases_of(x=[0.1, 0.2], y=[0.4, 0.5]), case("c02", x="absent", y=0.5)))
    with pytest.raises(DataError, match="not scored against the same references") as raised:
        agree([A, b], is_common_enough=True)
    assert "c02, x: 1000 voxels (1 ml) and 0 voxels (0 ml)" in raised.value.where


def test_the_same_voxels_of_another_size_are_another_reference():
    thin = tuple(
        replace(c, classes=tuple(replace(s, voxel_ml=0.002) for s in c.classes)) for c in A.cases
    )
    with pytest.raises(DataError, match="same references"):
        agree([A, run("B", thin)], is_common_enough=False)


def test_a_case_that_was_not_predicted_has_the_same_reference():
    # Such a case has rows for the classes of its reference only.
    a = run("A", (case("c00", x=0.5, y="absent"), case("c01", x=0.5, y=0.5)))
    b = run("B", (case("c00", x="missed"), case("c01", x=0.5, y=0.5)))
    assert agree([a, b], is_common_enough=False).class_names == ("x", "y")


def test_two_rows_for_one_class_are_refused():
    twice = CaseScores("c00", case("c00", x=0.5).classes * 2)
    with pytest.raises(DataError, match="more than one row for class x"):
        agree([run("A", [twice]), run("B", [twice])], is_common_enough=False)


def test_runs_must_agree_about_what_was_not_annotated():
    open_case = replace(case("c00", y=0.5), not_annotated=("x",))
    others = cases_of(x=[0.5, 0.5], y=[0.5, 0.5])[1:]
    a, b = run("A", (open_case, *others)), run("B", cases_of(x=["absent", 0.5], y=[0.5, 0.5]))
    assert agree([a, a], is_common_enough=False).class_names == ("y", "x")
    with pytest.raises(DataError, match="same references") as raised:
        agree([a, b], is_common_enough=False)
    assert "c00, x: not annotated and 0 voxels" in raised.value.where
