from dataclasses import replace

import pytest
from evaluate_builders import cases_of, classes_of, evaluation_of, spread, with_surfaces

from pipeline.evaluate.case_tables import (
    MAX_SUBGROUP_CLASSES,
    case_table,
    confusion_table,
    subgroup_tables,
)
from pipeline.metrics.overlap import Mistaken
from pipeline.metrics.regions import region_overlap
from pipeline.metrics.subgroups import summarize_subgroups


def rows_of(table):
    names = [c["name"].replace("\u00a0", " ") for c in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def test_cases_show_what_was_measured():
    first, second = cases_of(a=[0.5, "missed"], b=[0.9, 0.8])
    plain = rows_of(case_table(evaluation_of((first, second))))
    assert [row["Case"] for row in plain] == ["c00", "c01"]
    assert plain[0]["Mean Dice"]["text"] == "0.700"
    assert plain[1]["Missed"] == 1
    assert "Largest HD95, mm" not in plain[0]
    rich = (with_surfaces(first), replace(second, calibration_error=0.25))
    rows = rows_of(case_table(evaluation_of(rich)))
    assert rows[0]["Largest HD95, mm"]["text"] == "3.00 (b)"
    assert rows[1]["Largest HD95, mm"] is None
    assert rows[1]["ECE"]["text"] == "0.250"


def test_regions_are_not_counted_twice():
    (case,) = cases_of(a=["missed"], b=["missed"])
    case = replace(case, classes=(*case.classes, region_overlap(case, "all", ("a", "b"))))
    (row,) = rows_of(case_table(evaluation_of((case,), regions={"all": ("a", "b")})))
    assert row["Missed"] == 2
    assert row["Reference, ml"]["sort"] == pytest.approx(2.0)


def test_confusions_are_shares_of_the_class_over_all_cases():
    first, second = cases_of(a=[0.5, 0.5], b=[0.5, 0.5])
    cases = (
        replace(first, mistaken=(Mistaken("a", "b", 100), Mistaken("b", "a", 10))),
        replace(second, mistaken=(Mistaken("a", "b", 300),)),
    )
    given = evaluation_of(cases)
    worst, other = confusion_table(given, classes_of(given)).rows
    # 400 of 2 x 1000 voxels of 1 mm3.
    assert worst[:2] == ["a", "b"]
    assert worst[2]["sort"] == pytest.approx(20.0)
    assert worst[3]["sort"] == pytest.approx(0.4)
    assert worst[4] == 2
    assert other[:2] == ["b", "a"]


def test_without_confusion_there_are_no_rows():
    given = evaluation_of(cases_of(a=[0.5]))
    assert confusion_table(given, classes_of(given)).rows == ()


def with_subgroups(given, columns):
    found = summarize_subgroups(given.cases, columns, given.class_names, n_bootstrap=50)
    return replace(given, subgroups=found)


def test_subgroups_have_one_table_per_attribute():
    given = evaluation_of(cases_of(a=[0.5, 0.7, "missed"]))
    sexes = {"c00": {"sex": "F"}, "c01": {"sex": "F"}, "c02": {"sex": "M"}}
    ((name, table),) = subgroup_tables(with_subgroups(given, sexes))
    assert name == "sex"
    rows = rows_of(table)
    assert [(r["Group"], r["Cases"], r["Missed"]) for r in rows] == [("F", 2, 0), ("M", 1, 1)]
    assert rows[0]["a, Dice [95 %]"]["text"] == "0.600"
    assert subgroup_tables(given) == []


def test_many_classes_show_their_lowest():
    columns = {f"k{n}": spread(2, 0.1 * (n % 5) + 0.1) for n in range(MAX_SUBGROUP_CLASSES + 1)}
    given = evaluation_of(cases_of(**columns))
    ((_, table),) = subgroup_tables(with_subgroups(given, {"c00": {"sex": "F"}}))
    assert rows_of(table)[0]["Lowest class (Dice)"]["text"].startswith("k0 ")
