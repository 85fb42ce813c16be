"""The table of scores gives back what it was given, and says which line it cannot read."""

import csv
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from pipeline.core.errors import DataError, MissingInputError
from pipeline.metrics.measure import Measures, with_measures
from pipeline.metrics.score_table import CSV_COLUMNS, read_scores_csv, write_scores_csv
from pipeline.metrics.scores import (
    CaseScores,
    case_scores_from_json,
    case_scores_to_json,
    score_label_maps,
    without_unannotated,
)

REFERENCE = np.array([[[1, 1, 2, 0]]], dtype=np.uint8)
PREDICTION = np.array([[[1, 0, 0, 0]]], dtype=np.uint8)
CLASS_NAMES = ("liver", "kidney", "spleen")


def scored() -> CaseScores:
    return score_label_maps(
        "case,1",
        prediction=PREDICTION,
        reference=REFERENCE,
        class_names=CLASS_NAMES,
        spacing_mm=(2.0, 5.0, 10.0),
    )


def test_csv_has_a_row_per_case_and_class_and_no_nan(tmp_path):
    file = tmp_path / "out" / "scores.csv"
    write_scores_csv(file, [scored()])
    text = file.read_text()
    assert "nan" not in text.lower()
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(r["case_id"], r["class_name"], r["status"]) for r in rows] == [
        ("case,1", "liver", "ok"),
        ("case,1", "kidney", "missed"),
        ("case,1", "spleen", "absent"),
    ]
    assert (rows[0]["tp"], rows[0]["fp"], rows[0]["fn"]) == ("1", "0", "1")
    assert float(rows[0]["dice"]) == pytest.approx(2 / 3, abs=1e-8)
    assert (rows[1]["dice"], rows[2]["dice"], rows[2]["iou"]) == ("0", "", "")


MAPS = hnp.arrays(np.uint8, (4, 3, 3), elements=st.integers(0, 3))


def measured(prediction, reference, spacing_mm):
    maps = {
        "prediction": prediction,
        "reference": reference,
        "class_names": CLASS_NAMES,
        "spacing_mm": spacing_mm,
    }
    measures = Measures(lesion_classes=("spleen",), regions={"both": ("liver", "kidney")})
    return with_measures(score_label_maps('c,"1"', **maps), **maps, measures=measures)


@given(MAPS, MAPS, st.tuples(*[st.floats(0.1, 9)] * 3), st.none() | st.floats(0, 1))
def test_table_and_json_give_back_equal_scores(tmp_path_factory, first, second, spacing_mm, error):
    case = replace(measured(first, second, spacing_mm), calibration_error=error)
    other = replace(measured(second, first, spacing_mm), case_id="d", grid_offset_voxels=0.1)
    file = tmp_path_factory.mktemp("scores") / "scores.csv"
    nobody = CaseScores("nobody predicted this, and there was nothing", ())
    write_scores_csv(file, [case, other, nobody])
    assert read_scores_csv(file) == (case, other, nobody)
    assert case_scores_from_json(case_scores_to_json(case)) == case


def test_tables_of_earlier_versions_are_read(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text(
        "case_id,class_name,status,dice,iou,tp,fp,fn,reference_ml,prediction_ml,volume_error_ml\n"
        "a,liver,ok,0.5,0.33,1,1,1,0.2,0.2,0\n"
        "a,heart,absent,,,0,0,0,0,0,0\n"
    )
    (case,) = read_scores_csv(file)
    assert case.of_class("liver").voxel_ml == pytest.approx(0.1)
    assert case.of_class("heart").status == "absent"
    assert case.surfaces == ()


def test_rows_say_whether_they_are_a_class_or_a_region(tmp_path):
    file = tmp_path / "scores.csv"
    write_scores_csv(file, [measured(PREDICTION, REFERENCE, (1.0, 1.0, 1.0))])
    kinds = [row["kind"] for row in csv.DictReader(file.read_text().splitlines())]
    assert kinds == ["class", "class", "class", "region"]
    (case,) = read_scores_csv(file)
    assert [s.is_region for s in case.classes] == [False, False, False, True]
    # As a spreadsheet saves it.
    file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    assert read_scores_csv(file) == (case,)


@pytest.mark.parametrize(
    "row",
    [
        *("a,x,ok,1,-1,1,0.001,,", "a,x,ok,1,1,1,nan,,", "a,x,ok,1,1,1,0.001,inf,2"),
        *("a,x,ok,1,1,1,0.001,-3,2", "a,x,ok,1,1,1,-0.001,,"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, row):
    file = tmp_path / "scores.csv"
    columns = "case_id,class_name,status,tp,fp,fn,voxel_ml,hd95_mm,nsd_tolerance_mm"
    file.write_text(f"{columns}\n{row}\n")
    with pytest.raises(DataError, match="line 2 cannot be read"):
        read_scores_csv(file)


def test_a_wrong_table_is_named(tmp_path):
    file = tmp_path / "scores.csv"
    with pytest.raises(MissingInputError, match="no table"):
        read_scores_csv(file)
    file.write_text("case,dice\n1,0.5\n")
    with pytest.raises(DataError, match="columns case_id, class_name"):
        read_scores_csv(file)
    write_scores_csv(file, [scored()])
    file.write_text(file.read_text().replace(",ok,0.6", ",fine,0.6"))
    with pytest.raises(DataError, match="line 2 cannot be read"):
        read_scores_csv(file)
    write_scores_csv(file, [scored()])
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:-40], "x,y"]))
    with pytest.raises(DataError, match="line"):
        read_scores_csv(file)


def test_classes_that_nobody_drew_keep_a_row_of_their_own(tmp_path):
    file = tmp_path / "scores.csv"
    case = without_unannotated(scored(), ("kidney",))
    nothing_drawn = replace(without_unannotated(scored(), CLASS_NAMES), case_id="b")
    write_scores_csv(file, [case, nothing_drawn])
    rows = list(csv.DictReader(file.read_text().splitlines()))
    kidney = next(row for row in rows if row["class_name"] == "kidney")
    assert (kidney["status"], kidney["dice"], kidney["tp"]) == ("not annotated", "", "")
    one, two = read_scores_csv(file)
    assert one.not_annotated == ("kidney",)
    assert [s.class_name for s in one.classes] == ["liver", "spleen"]
    assert (two.classes, two.not_annotated) == ((), CLASS_NAMES)
    assert case_scores_from_json(case_scores_to_json(case)) == case
