import numpy as np
import pytest
from audit_builders import measured_dataset, task_of
from phantoms import ball

from pipeline.audit.checks.sides import SidePair, check_sides, find_side_pairs, side_of
from pipeline.audit.config import AuditConfig

SHAPE = (40, 12, 12)
KIDNEYS = task_of("kidney_left", "kidney_right")


def kidneys(left=10, right=30):
    """Voxel axes run to R, A, S: the right kidney has the larger i."""
    label = ball(SHAPE, (left, 6, 6), 4).astype(np.uint8)
    label[ball(SHAPE, (right, 6, 6), 4)] = 2
    return label


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),
        ("LeftParotid", "RightParotid"),
        ("Parotid_L", "Parotid_R"),
        ("l_lung", "r_lung"),
        ("left kidney", "right kidney"),
        ("Hippocampus-L", "Hippocampus-R"),
        ("nerve_left_L4", "nerve_right_L4"),
        ("LLung", "RLung"),
        ("rib_left_7", "rib_right_7"),
        ("Femur.Lt", "Femur.Rt"),
    ],
)
def test_names_that_differ_in_the_side_are_a_pair(left, right):
    assert find_side_pairs(task_of("liver", right, left)) == (SidePair(left, right),)


@pytest.mark.parametrize(
    "names",
    [
        ("rib_left_7", "rib_right_8"),
        ("liver", "spleen"),
        ("left", "lower"),
        ("vertebrae_L1", "vertebrae_R2"),
        ("left_to_right", "right"),
        ("lung", "right_lung"),
    ],
)
def test_other_names_are_no_pair(names):
    assert find_side_pairs(task_of(*names)) == ()


def test_a_letter_inside_a_word_is_no_side():
    assert side_of("Liver") == (None, ("liver",))
    assert side_of("rectum") == (None, ("rectum",))


def test_swapped_kidneys_are_an_error():
    data = measured_dataset([kidneys(), kidneys(left=30, right=10)], KIDNEYS)
    found = check_sides(data, AuditConfig())
    assert [(f.check_id, f.severity, f.case_id, f.value) for f in found] == [
        ("S10", "error", "case_001", 20.0)
    ]
    assert found[0].evidence["voxel_ras"] == (30, 6, 6)


def test_structures_that_lie_over_each_other_are_not_judged():
    crossing = measured_dataset([kidneys(left=24, right=16)], KIDNEYS)
    assert check_sides(crossing, AuditConfig()) == []


def test_a_dataset_with_swapped_names_gets_one_finding():
    data = measured_dataset([kidneys(left=30, right=10)] * 8, KIDNEYS)
    found = check_sides(data, AuditConfig())
    assert len(found) == 1
    assert "8 of 8 cases" in found[0].message
    assert "task.classes" in found[0].fix


def test_one_side_alone_is_not_judged():
    label = np.where(kidneys() == 1, 1, 0).astype(np.uint8)
    assert check_sides(measured_dataset([label], KIDNEYS), AuditConfig()) == []
