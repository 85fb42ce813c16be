from dataclasses import replace

import numpy as np
import pytest
from audit_builders import TASK, affine, record, view
from phantoms import ball

from pipeline.audit.checks.containment import check_containment
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.anatomy import AnatomyLimits, ContainmentRule
from pipeline.audit.measure.case import measure_case

SHAPE = (40, 40, 40)


def liver_with_tumor(center, radius=6.0):
    label = ball(SHAPE, (20, 20, 20), 12).astype(np.uint8)
    label[ball(SHAPE, center, radius)] = 2
    return label


def found_in(label, **rule):
    limits = AnatomyLimits(
        containment=(ContainmentRule(inside="tumor", parents=("liver",), **rule),)
    )
    config = AuditConfig(anatomy=limits)
    plain = view(label, label_at=affine((1.0, 1.0, 1.0)))
    seen = replace(plain, measures=measure_case(plain, config))
    return check_containment(seen, config)


def test_a_large_tumor_inside_is_fine_though_its_middle_is_far_from_the_organ():
    assert found_in(liver_with_tumor((20, 20, 20), 9.0)) == []


def test_a_tumor_elsewhere_is_named_with_its_farthest_voxel():
    found = found_in(liver_with_tumor((34, 34, 34), 3.0))
    assert [(f.check_id, f.severity, f.class_name, f.value) for f in found] == [
        ("S13", "warning", "tumor", 0.0)
    ]
    voxel = found[0].evidence["voxel_ras"]
    assert isinstance(voxel, tuple)
    assert min(voxel) >= 34


@pytest.mark.parametrize(("min_share", "n_findings"), [(0.95, 1), (0.3, 0)])
def test_a_tumor_that_grows_out_is_a_matter_of_the_rule(min_share, n_findings):
    label = liver_with_tumor((32, 20, 20))
    assert len(found_in(label, min_share=min_share)) == n_findings


def test_the_margin_is_in_mm():
    label = liver_with_tumor((20, 20, 20), 3.0)
    label[label == 2] = 0
    label[ball(SHAPE, (36, 20, 20), 2)] = 2  # a gap of two voxels to the organ
    assert len(found_in(label, margin_mm=1.0)) == 1
    assert found_in(label, margin_mm=8.0) == []


def test_without_the_organ_the_tumor_lies_outside():
    label = np.where(liver_with_tumor((20, 20, 20)) == 2, 2, 0).astype(np.uint8)
    assert [f.value for f in found_in(label)] == [0.0]


def test_what_the_edge_of_the_volume_cuts_is_no_surface():
    label = np.ascontiguousarray(liver_with_tumor((20, 20, 20), 9.0)[20:])
    assert found_in(label) == []


def test_no_rule_no_tumor_no_label_no_finding():
    label = liver_with_tumor((34, 34, 34), 3.0)
    assert check_containment(view(label), AuditConfig()) == []
    assert found_in(np.where(label == 1, 1, 0).astype(np.uint8)) == []
    empty = replace(view(label), label=None, record=record(label), task=TASK)
    assert check_containment(empty, AuditConfig()) == []
