import numpy as np
import pytest
from audit_builders import label_of, measured_dataset, task_of

from pipeline.artifacts import Finding
from pipeline.audit.checks.habits import (
    MAX_SINGLE,
    classes_seen,
    grouped,
    is_habit,
    middle_of,
    outlier_z,
    values_of,
    voxel_evidence,
)


def finding(case_id):
    return Finding(
        check_id="S06", severity="info", case_id=case_id, message="has holes", fix="look"
    )


def test_classes_come_with_the_cases_that_show_them():
    label = label_of()
    without_tumor = np.where(label == 2, 0, label).astype(np.uint8)
    found = dict(classes_seen(measured_dataset([label, without_tumor], spacing_mm=(1.0, 2.0, 3.0))))
    assert [one.case_id for one in found["liver"]] == ["case_000", "case_001"]
    assert [one.case_id for one in found["tumor"]] == ["case_000"]
    assert values_of(found["liver"], lambda one: one.volume_mm3).tolist() == [360.0, 360.0]
    assert middle_of(found["liver"][0].measures) == (3, 4, 5)


def test_a_class_nowhere_is_left_out():
    assert dict(classes_seen(measured_dataset([label_of()], task_of("a", "b", "c")))).keys() == {
        "a",
        "b",
    }


@pytest.mark.parametrize(
    ("n_so", "n_cases", "expected"), [(3, 5, True), (2, 5, False), (4, 4, False)]
)
def test_a_habit_needs_most_of_enough_cases(n_so, n_cases, expected):
    labels = [
        label_of() if n < n_so else (label_of() == 1).astype(np.uint8) for n in range(n_cases)
    ]
    seen = next(iter(classes_seen(measured_dataset(labels))))[1]
    assert is_habit(seen, lambda one: one.row.n_class_voxels[1] > 0, 5) is expected


def test_equal_values_have_no_outlier_but_a_far_one_stands_out():
    assert not outlier_z(np.zeros(10), 0.01).any()
    values = np.array([1.0] * 11 + [3.0])
    assert outlier_z(values, 0.0).argmax() == 11
    # Two per cent of the median is no deviation to speak of.
    assert outlier_z(values, 0.0)[-1] == pytest.approx(0.6745 * 2 / 0.02)


def test_many_cases_become_one_line():
    few = [finding(f"case_{n}") for n in range(MAX_SINGLE)]
    assert grouped("liver", few, 20) == few
    many = grouped("liver", [*few, finding("case_9")], 20)
    assert [f.case_id for f in many] == ["case_0"]
    assert "6 of 20 cases" in many[0].message
    assert many[0].evidence["n_cases"] == 6


def test_a_voxel_that_is_not_known_is_no_evidence():
    assert voxel_evidence(None) == {}
    assert voxel_evidence((1, 2, 3)) == {"voxel_ras": (1, 2, 3)}
