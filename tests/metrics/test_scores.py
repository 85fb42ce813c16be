import numpy as np
import pytest

from pipeline.metrics.scores import (
    CaseScores,
    score_label_maps,
    score_missing_prediction,
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


def test_confused_classes_are_listed_without_background():
    swapped = np.array([[[2, 1, 2, 1]]], dtype=np.uint8)
    case = score_label_maps(
        "c",
        prediction=swapped,
        reference=REFERENCE,
        class_names=CLASS_NAMES,
        spacing_mm=(1.0, 1.0, 1.0),
    )
    assert [(m.class_name, m.mistaken_for, m.n_voxels) for m in case.mistaken] == [
        ("liver", "kidney", 1)
    ]


def test_voxels_to_be_ignored_are_in_no_number():
    reference = np.array([[[1, 1, 255, 255, 2, 0]]], dtype=np.uint8)
    prediction = np.array([[[1, 2, 1, 2, 2, 255]]], dtype=np.uint8)
    case = score_label_maps(
        "c",
        prediction=prediction,
        reference=reference,
        class_names=CLASS_NAMES,
        spacing_mm=(1.0, 1.0, 1.0),
        ignore_index=255,
    )
    counts = [(s.n_true_positive, s.n_false_positive, s.n_false_negative) for s in case.classes]
    assert counts == [(1, 0, 1), (1, 1, 0), (0, 0, 0)]


def test_a_class_that_nobody_drew_has_no_score_and_is_no_confusion():
    swapped = np.array([[[2, 1, 1, 1]]], dtype=np.uint8)
    case = score_label_maps(
        "c",
        prediction=swapped,
        reference=REFERENCE,
        class_names=CLASS_NAMES,
        spacing_mm=(1.0, 1.0, 1.0),
        not_annotated=("kidney",),
    )
    assert [s.class_name for s in case.classes] == ["liver", "spleen"]
    assert case.not_annotated == ("kidney",)
    # A liver that was predicted as kidney is wrong; a partly drawn kidney proves nothing.
    assert [(m.class_name, m.mistaken_for) for m in case.mistaken] == [("liver", "kidney")]
    assert case.of_class("kidney") is None
