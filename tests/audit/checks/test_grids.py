import numpy as np
import pytest
from audit_builders import affine, dataset, label_of, record, stored, view
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.checks.grids import (
    axis_skew,
    check_anisotropy,
    check_oblique,
    check_overlap,
    check_right_angles,
    overlap_fraction,
    repair_shift_voxels,
)
from pipeline.audit.config import AuditConfig
from pipeline.core.geometry import Geometry

CONFIG = AuditConfig()
angles = st.floats(-0.7, 0.7)


def turned(degrees, axis=0, spacing_mm=(1.0, 1.0, 1.0)):
    a = np.radians(degrees)
    one, two = [n for n in range(3) if n != axis]
    at = np.eye(4)
    at[one, one] = at[two, two] = np.cos(a)
    at[one, two], at[two, one] = -np.sin(a), np.sin(a)
    return at @ np.diag([*spacing_mm, 1.0])


def sheared(amount):
    at = affine()
    at[0, 1] = amount * at[1, 1]
    return at


def sheared_view(amount):
    return view(label_of(), label_at=sheared(amount))


@given(angles, angles, st.floats(0.1, 9.0))
def test_turned_grids_have_right_angles(first, second, size):
    at = turned(np.degrees(first), 0) @ turned(np.degrees(second), 2, (size, 1.0, 3.0))
    assert axis_skew(at) < 1e-9


@pytest.mark.parametrize(
    ("amount", "wording"), [(1e-5, None), (1e-3, "rounding"), (0.27, "refuse such files")]
)
def test_sheared_axes_are_noise_or_gantry_tilt(amount, wording):
    found = check_right_angles(sheared_view(amount), CONFIG)
    assert [f.severity for f in found] == ([] if wording is None else ["warning"])
    if wording is None:
        return
    assert wording in found[0].message
    assert found[0].value == pytest.approx(amount, rel=0.05)
    assert found[0].evidence["file"] == "label.nii"
    assert ("gantry" in found[0].fix) == (amount > 0.1)
    assert ("nearest affine" in found[0].fix) == (amount < 0.1)


def test_repair_keeps_the_center_and_moves_only_what_is_askew():
    seen = sheared_view(0.01)
    assert repair_shift_voxels(seen.record.image_files[0]) == pytest.approx(0, abs=1e-9)
    # Half of the shear over half of 12 voxels of 2 mm, in voxels of 1 mm, and the like across.
    assert 0.05 < repair_shift_voxels(seen.record.label_file) < 0.15


def test_unusable_affines_are_left_to_others():
    seen = view(label_of(), label_changes={"affine": ((0.0,) * 4,) * 4})
    assert check_right_angles(seen, CONFIG) == []


@pytest.mark.parametrize(
    ("shift_mm", "severity"), [(0.0, None), (0.05, None), (3.0, "warning"), (9.0, "error")]
)
def test_overlap_of_boxes_that_lie_apart(shift_mm, severity):
    at = affine()
    at[0, 3] += shift_mm  # the box is 10 mm long
    found = check_overlap(view(label_of(), label_at=at), CONFIG)
    assert [f.severity for f in found] == ([] if severity is None else [severity])
    if found:
        assert found[0].value == pytest.approx(1 - shift_mm / 10)


def test_label_of_a_region_inside_the_image_is_fine():
    seen = view(label_of())
    inside = affine()
    inside[:3, 3] = 2.0, 4.0, 6.0
    part = stored("label", label_of()[2:6, 2:6, 2:6], inside, "part")
    record_ = seen.record.model_copy(update={"label": part})
    assert check_overlap(type(seen)(record_, seen.task), CONFIG) == []


def test_boxes_far_apart_are_said_so():
    at = affine()
    at[2, 3] += 500
    (found,) = check_overlap(view(label_of(), label_at=at), CONFIG)
    assert found.severity == "error"
    assert "do not overlap" in found.message


@given(st.tuples(*[st.integers(1, 30)] * 3), st.tuples(*[st.floats(-40, 40)] * 3))
def test_overlap_is_symmetric_and_a_fraction(shape, shift):
    one, other = Geometry((10, 12, 14), affine()), Geometry(shape, turned(20.0))
    other.affine[:3, 3] += shift
    share = overlap_fraction(one, other)
    assert 0 <= share <= 1 + 1e-9
    assert share == overlap_fraction(other, one)
    assert overlap_fraction(one, one) == pytest.approx(1)


def cohort(affines):
    label = label_of()
    records = []
    for n, at in enumerate(affines):
        known = record(label, f"case_{n:03d}")
        image = stored("image", np.zeros((1, *label.shape), np.int16), at, str(n))
        records.append(known.model_copy(update={"image": image}))
    return dataset([], records)


def test_oblique_grids_are_information_unless_they_stand_out():
    assert check_oblique(cohort([turned(10)] * 12), CONFIG) == []
    (found,) = check_oblique(cohort([turned(30)] * 12), CONFIG)
    assert (found.severity, found.case_id) == ("info", None)
    assert "12 of 12" in found.message
    (found,) = check_oblique(cohort([turned(0)] * 11 + [turned(30)]), CONFIG)
    assert (found.severity, found.case_id) == ("warning", "case_011")
    (found,) = check_oblique(cohort([turned(0)] * 5 + [turned(30)]), CONFIG)
    assert found.severity == "info"  # six cases show no habit


def test_thick_slices_are_counted():
    assert check_anisotropy(cohort([affine((1.0, 1.0, 3.0))] * 3), CONFIG) == []
    thick = [affine((0.5, 0.5, 3.0))] * 2 + [affine()]
    (found,) = check_anisotropy(cohort(thick), CONFIG)
    assert (found.severity, found.value) == ("info", pytest.approx(2 / 3))
    assert "up to 6.0 times" in found.message
