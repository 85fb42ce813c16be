import csv

import numpy as np
import pytest

from pipeline.metrics.scores import (
    CSV_COLUMNS,
    CaseScores,
    score_label_maps,
    score_missing_prediction,
    write_scores_csv,
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


def test_volumes_come_from_the_spacing():
    liver = scored().of_class("liver")
    assert liver is not None
    assert (liver.reference_ml, liver.prediction_ml) == pytest.approx((0.2, 0.1))
    assert liver.volume_error_ml == pytest.approx(-0.1)
    assert scored().of_class("heart") is None


def test_a_missing_prediction_is_missed_where_the_reference_has_something():
    case = score_missing_prediction("c", reference=REFERENCE, class_names=CLASS_NAMES, voxel_ml=0.1)
    assert [(s.class_name, s.status) for s in case.classes] == [
        ("liver", "missed"),
        ("kidney", "missed"),
    ]


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
