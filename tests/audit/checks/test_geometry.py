import numpy as np
import pytest
from audit_builders import affine, image_of, label_of, matrix, view
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.checks import geometry
from pipeline.audit.config import AuditConfig

CONFIG = AuditConfig()
FLIP_I = np.diag([-1.0, 1.0, 1.0, 1.0])


def moved(x=0.0, y=0.0, z=0.0):
    at = affine()
    at[:3, 3] += (x, y, z)
    return at


def found(check, case):
    return [(f.check_id, f.severity) for f in check(case, CONFIG)]


def test_the_same_grid_is_silent():
    case = view(label_of())
    for check in (
        geometry.check_shape,
        geometry.check_alignment,
        geometry.check_spacing,
        geometry.check_forms,
        geometry.check_form_codes,
        geometry.check_affines,
        geometry.check_pair_orientation,
    ):
        assert check(case, CONFIG) == []


def test_shape():
    case = view(label_of(), image_of((10, 12, 13)))
    (finding,) = geometry.check_shape(case, CONFIG)
    assert (finding.value, finding.threshold) == ("10 x 12 x 14", "10 x 12 x 13")
    assert "transposed" not in finding.message


def test_transposed_label_is_recognized():
    case = view(label_of(), image_of((12, 10, 14)))
    (finding,) = geometry.check_shape(case, CONFIG)
    assert "transposed" in finding.message


@given(st.floats(0, 0.0099))
def test_rounding_is_not_a_shift(voxels):
    assert geometry.check_alignment(view(label_of(), label_at=moved(x=voxels)), CONFIG) == []


@given(st.floats(0.011, 0.49))
def test_a_small_shift_is_a_warning(voxels):
    case = view(label_of(), label_at=moved(x=voxels))
    assert found(geometry.check_alignment, case) == [("G02", "warning")]


@given(st.floats(0.51, 500), st.sampled_from([-1, 1]))
def test_a_large_shift_is_an_error(voxels, sign):
    case = view(label_of(), label_at=moved(x=sign * voxels))
    (finding,) = geometry.check_alignment(case, CONFIG)
    assert finding.severity == "error"
    assert finding.value == pytest.approx(voxels)


def test_shift_is_measured_in_voxels_of_the_finest_axis_at_the_corners():
    at = affine()
    at[2, 2] = 3.3  # 0.3 mm per slice, 13 slices: 3.9 mm at the far corner, 1 mm voxels
    (finding,) = geometry.check_alignment(view(label_of(), label_at=at), CONFIG)
    assert finding.value == pytest.approx(3.9)


def test_another_storage_order_is_not_a_shift():
    label = label_of()
    at = affine() @ FLIP_I
    at[0, 3] = label.shape[0] - 1.0
    assert geometry.check_alignment(view(label, label_at=at), CONFIG) == []


@pytest.mark.parametrize(("pixdim", "fires"), [(1.0005, False), (1.002, True), (3.0, True)])
def test_two_voxel_sizes(pixdim, fires):
    case = view(label_of(), image_changes={"pixdim_mm": (pixdim, 2.0, 3.0)})
    assert bool(geometry.check_spacing(case, CONFIG)) is fires


@pytest.mark.parametrize(
    ("shift", "qform_code", "fires"), [(0.4, 1, False), (0.6, 1, True), (60.0, 0, False)]
)
def test_two_positions(shift, qform_code, fires):
    changes = {"qform": matrix(moved(x=shift)), "qform_code": qform_code}
    case = view(label_of(), image_changes=changes)
    assert found(geometry.check_forms, case) == ([("G04", "warning")] if fires else [])


def test_position_missing_in_one_or_both():
    none = {"sform_code": 0, "qform_code": 0}
    one = view(label_of(), label_changes=none)
    assert found(geometry.check_form_codes, one) == [("G05", "error")]
    both = view(label_of(), label_changes=none, image_changes=none)
    assert found(geometry.check_form_codes, both) == [("G05", "warning")]
    other_format = view(label_of(), label_changes=none | {"format": "nrrd"})
    assert geometry.check_form_codes(other_format, CONFIG) == []


def test_unusable_affine_is_reported_once_and_stops_the_other_checks():
    zeros = matrix(np.zeros((4, 4)))
    case = view(label_of(), label_changes={"affine": zeros})
    assert found(geometry.check_affines, case) == [("G07", "error")]
    assert geometry.check_alignment(case, CONFIG) == []
    assert geometry.check_spacing(case, CONFIG) == []
    negative = view(label_of(), label_changes={"pixdim_mm": (-1.0, 2.0, 3.0)})
    (finding,) = geometry.check_affines(negative, CONFIG)
    assert "not positive" in finding.message


def test_mirrored_header_is_an_error_and_a_true_one_a_warning():
    raw = np.zeros((20, 12, 14), np.uint8)
    raw[2:7, 3:9, 4:10] = 1
    image = (100.0 * raw + image_of(raw.shape) / 10)[None, 0].astype(np.float32)
    at = affine() @ FLIP_I
    at[0, 3] = raw.shape[0] - 1.0
    # The view holds the label as turned to RAS by its header.
    lying = view(raw[::-1], image, label_at=at)
    assert found(geometry.check_pair_orientation, lying) == [("G08", "error")]
    true = view(raw, image, label_at=at)
    assert found(geometry.check_pair_orientation, true) == [("G08", "warning")]


def test_an_oblique_grid_between_two_names_is_one_grid():
    angle = np.radians(45.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nearly = turn + 1e-9
    case = view(label_of(), label_at=nearly, image_changes={"affine": matrix(turn)})
    assert geometry.check_pair_orientation(case, CONFIG) == []
