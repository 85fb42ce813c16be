import numpy as np
import pytest
from audit_builders import measured_dataset, task_of
from phantoms import ball

from pipeline.audit.checks.anatomy import (
    DATASET_CHECKS,
    check_holes,
    check_islands,
    check_pieces,
    check_volume,
)
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.anatomy import AnatomyLimits

CONFIG = AuditConfig()
MULTI = AuditConfig(anatomy=AnatomyLimits(multi=("liver",)))
SHAPE = (36, 32, 32)
ONE = task_of("liver")


def organ(radius=8.0, center=(16, 16, 16)):
    return ball(SHAPE, center, radius).astype(np.uint8)


def brief(findings):
    return [(f.check_id, f.severity, f.case_id) for f in findings]


def usual(n=11):
    return [organ(radius) for radius in np.linspace(7.5, 8.5, n)]


@pytest.mark.parametrize("radius", [4.0, 13.0])
def test_an_unusual_volume_stands_out(radius):
    assert check_volume(measured_dataset(usual(), ONE), CONFIG) == []
    found = check_volume(measured_dataset([*usual(), organ(radius)], ONE), CONFIG)
    assert brief(found) == [("S03", "warning", "case_011")]
    assert check_volume(measured_dataset([*usual(5), organ(radius)], ONE), CONFIG) == []


def test_volumes_of_two_groups_are_no_outliers():
    both = [organ(radius) for radius in (5.0, 5.2, 5.4, 5.6, 5.8, 6.0)] + usual(6)
    assert check_volume(measured_dataset(both, ONE), CONFIG) == []


def test_equal_volumes_make_no_outlier_of_a_small_difference():
    assert check_volume(measured_dataset([organ()] * 11 + [organ(8.6)], ONE), CONFIG) == []


def test_a_small_volume_at_the_edge_is_explained_by_the_crop():
    cut = organ(center=(0, 0, 16))
    assert check_volume(measured_dataset([*usual(), cut], ONE), CONFIG) == []


def in_two():
    label = organ()
    label[15:17] = 0
    return label


def test_a_solid_organ_in_two_pieces_is_named():
    found = check_pieces(measured_dataset([*usual(5), in_two()], ONE), CONFIG)
    assert brief(found) == [("S04", "warning", "case_005")]
    assert found[0].evidence["n_pieces"] == 2
    voxel = found[0].evidence["voxel_ras"]
    assert isinstance(voxel, tuple)
    assert in_two()[voxel] == 1


def test_classes_that_come_in_pieces_are_left_alone():
    assert check_pieces(measured_dataset([in_two()] * 4 + [organ()] * 2, ONE), CONFIG) == []
    assert check_pieces(measured_dataset([*usual(5), in_two()], ONE), MULTI) == []
    assert check_pieces(measured_dataset([organ(), in_two()], ONE), CONFIG) == []


def test_a_class_that_is_in_pieces_in_a_third_of_the_cases_is_so_by_nature():
    tumors = [organ()] * 8 + [in_two()] * 4
    assert check_pieces(measured_dataset(tumors, ONE), CONFIG) == []
    rare = [organ()] * 18 + [in_two()] * 3
    assert len(check_pieces(measured_dataset(rare, ONE), CONFIG)) == 3


def speckled(n=8):
    label = organ()
    label[1 : 1 + 4 * n : 4, 2, 2] = 1
    return label


def test_islands_are_counted():
    found = check_islands(measured_dataset([organ(), speckled()], ONE), CONFIG)
    assert brief(found) == [("S05", "warning", "case_001")]
    assert found[0].value == 8
    assert check_islands(measured_dataset([speckled(5)], ONE), CONFIG) == []
    assert check_islands(measured_dataset([speckled()], ONE), MULTI) == []


def test_islands_of_most_cases_are_one_line_of_information():
    found = check_islands(measured_dataset([speckled()] * 7 + [organ()], ONE), CONFIG)
    assert [(f.check_id, f.severity) for f in found] == [("S05", "info")]


def hollow():
    label = organ()
    label[ball(SHAPE, (16, 16, 16), 3)] = 0
    return label


def test_holes_are_told_unless_the_class_is_hollow():
    found = check_holes(measured_dataset([organ(), hollow()], ONE), CONFIG)
    assert brief(found) == [("S06", "info", "case_001")]
    assert found[0].evidence["voxel_ras"] != (0, 0, 0)
    assert check_holes(measured_dataset([hollow()] * 5, ONE), CONFIG) == []


def test_a_clean_cohort_gets_no_finding_at_all():
    data = measured_dataset(usual(12), ONE)
    assert [f for check in DATASET_CHECKS for f in check(data, CONFIG)] == []


def test_islands_of_a_class_in_pieces_are_no_slips():
    lesions = in_two()
    lesions[1 : 1 + 4 * 8 : 4, 2, 2] = 1
    found = check_islands(measured_dataset([lesions, lesions], ONE), CONFIG)
    assert {f.severity for f in found} == {"info"}
