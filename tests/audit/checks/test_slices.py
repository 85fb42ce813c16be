import numpy as np
from audit_builders import measured_dataset, task_of
from phantoms import ball, box

from pipeline.audit.checks.slices import check_gaps, check_jagged, check_repeats
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.anatomy import AnatomyLimits

CONFIG = AuditConfig()
SHAPE = (32, 32, 32)
ONE = task_of("liver")


def organ(shift=0.0):
    return ball(SHAPE, (15.5 + shift, 16, 16), (9, 10, 11)).astype(np.uint8)


def with_gap(first=16, n=2, axis=2):
    label = organ()
    index = [slice(None)] * 3
    index[axis] = slice(first, first + n)
    label[tuple(index)] = 0
    return label


def brief(findings):
    return [(f.check_id, f.severity, f.case_id) for f in findings]


def test_missing_slices_are_named():
    found = check_gaps(measured_dataset([organ(), with_gap()], ONE), CONFIG)
    assert brief(found) == [("S11", "warning", "case_001")]
    assert found[0].value == 2
    assert "slices 16 to 17 along head-foot" in found[0].message
    assert found[0].evidence["voxel_ras"] == (16, 16, 16)


def test_every_axis_is_looked_at():
    found = check_gaps(measured_dataset([with_gap(14, 1, axis=0)], ONE), CONFIG)
    assert "slice 14 along right-left" in found[0].message


def test_gaps_of_most_cases_are_anatomy_and_so_are_long_ones_and_pieces_by_nature():
    habit = [with_gap()] * 4 + [organ()]
    assert check_gaps(measured_dataset(habit, ONE), CONFIG) == []
    assert check_gaps(measured_dataset([with_gap(12, 8)], ONE), CONFIG) == []
    multi = AuditConfig(anatomy=AnatomyLimits(multi=("liver",)))
    assert check_gaps(measured_dataset([with_gap()], ONE), multi) == []


def copied():
    """Every second slice repeats the one before, as drawn at half the resolution."""
    label = organ()
    label[:, :, 1::2] = label[:, :, ::2]
    return label


def test_copied_slices_stand_out():
    assert check_repeats(measured_dataset([organ()] * 6, ONE), CONFIG) == []
    found = check_repeats(measured_dataset([organ()] * 6 + [copied()], ONE), CONFIG)
    assert brief(found) == [("S12", "warning", "case_006")]
    assert brief(check_repeats(measured_dataset([copied()], ONE), CONFIG)) == [
        ("S12", "warning", "case_000")
    ]


def test_thick_slices_and_tiny_structures_repeat_by_nature():
    thick = measured_dataset([copied()], ONE, spacing_mm=(1.0, 1.0, 5.0))
    assert check_repeats(thick, CONFIG) == []
    rod = box(SHAPE, (5, 5, 5), (9, 9, 25)).astype(np.uint8)
    assert check_repeats(measured_dataset([rod], ONE), CONFIG) == []
    slab = np.ones(SHAPE, np.uint8)
    assert check_repeats(measured_dataset([slab], ONE), CONFIG) == []


def test_a_cylinder_in_every_case_is_one_line_of_information():
    rod = box(SHAPE, (5, 5, 5), (15, 15, 25)).astype(np.uint8)
    found = check_repeats(measured_dataset([rod] * 8, ONE), CONFIG)
    assert brief(found) == [("S12", "info", "case_000")]


def test_contours_that_jump_between_slices_are_told():
    smooth = [organ(shift) for shift in np.linspace(-1, 1, 11)]
    assert check_jagged(measured_dataset(smooth, ONE), CONFIG) == []
    jumping = organ()
    for k in range(0, SHAPE[2], 2):
        jumping[:, :, k] = np.roll(jumping[:, :, k], 3, axis=0)
    found = check_jagged(measured_dataset([*smooth, jumping], ONE), CONFIG)
    assert brief(found) == [("S14", "info", "case_011")]
    assert check_jagged(measured_dataset([*smooth[:5], jumping], ONE), CONFIG) == []
