import csv

import pytest
from evaluate_builders import cases_of, evaluation_of, spread, with_lesions, with_surfaces

from pipeline.evaluate.class_csv import COLUMNS, classes_csv
from pipeline.metrics.policy import POLICIES


def rows_of(given):
    return list(csv.DictReader(classes_csv(given).splitlines()))


def test_every_number_of_the_summary_is_there_in_full():
    cases = tuple(with_surfaces(c) for c in cases_of(a=[*spread(12), "missed"], b=spread(13)))
    cases = (with_lesions(cases[0], "b", n=3, n_found=2, n_false=0), *cases[1:])
    given = evaluation_of(cases, multi=("b",))
    rows = {(r["class_name"], r["metric"]): r for r in rows_of(given)}
    dice = given.summary.classes["a"].dice
    row = rows["a", "dice"]
    assert float(row["mean"]) == dice.mean
    assert (float(row["ci95_low"]), float(row["ci95_high"])) == dice.ci95
    assert (row["n"], row["n_missed"], row["kind"], row["policy"]) == ("13", "1", "class", "strict")
    assert float(rows["a", "hd95_penalized_mm"]["mean"]) == pytest.approx((12 * 3 + 100) / 13)
    assert rows["a", "hd95_mm"]["unit"] == "mm"
    assert float(rows["b", "lesion_recall"]["mean"]) == pytest.approx(2 / 3)
    assert ("a", "lesion_recall") not in rows


def test_student_never_leaves_the_range_of_the_metric():
    rows = rows_of(evaluation_of(cases_of(a=[1.0] * 11 + ["missed"])))
    dice = next(r for r in rows if r["metric"] == "dice")
    assert float(dice["t95_high"]) == 1.0


def test_the_foreground_mean_stands_under_every_policy():
    given = evaluation_of(cases_of(a=["absent", 0.5]))
    rows = [r for r in rows_of(given) if r["kind"] == "foreground"]
    assert [r["policy"] for r in rows] == [p.name for p in POLICIES]
    assert rows[0]["mean"] == "0.5"
    assert all(set(r) == set(COLUMNS) for r in rows)
