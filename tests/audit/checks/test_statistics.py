import numpy as np
import pytest
from audit_builders import dataset, measured_dataset, row, task_of
from phantoms import ball, box

from pipeline.audit.checks.statistics import (
    check_air,
    check_cut_off,
    check_imbalance,
    check_small_classes,
)
from pipeline.audit.config import AuditConfig

CONFIG = AuditConfig()
SHAPE = (24, 24, 24)
ONE = task_of("liver")


def organ(radius=6.0):
    return ball(SHAPE, (12, 12, 12), radius).astype(np.uint8)


@pytest.mark.parametrize(
    ("n_tumor", "wording"), [(20, None), (5, "is rare"), (1, "extremely rare")]
)
def test_ratio_is_pooled_over_the_cases(n_tumor, wording):
    rows = [row("a", (5000, n_tumor), 10_000), row("b", (5000, 0), 10_000)]
    found = check_imbalance(dataset(rows, []), AuditConfig(imbalance_strong=9000.0))
    assert [f.class_name for f in found] == ([] if wording is None else ["tumor"])
    assert all(wording in f.message for f in found if wording)
    if n_tumor == 5:
        assert found[0].value == pytest.approx((20_000 - 10_005) / 5)


def test_absent_classes_and_unusable_labels_are_left_to_others():
    assert check_imbalance(dataset([row("a", (1, 0), 0)], []), AuditConfig()) == []


def test_a_speck_is_too_small_and_an_organ_is_not():
    assert check_small_classes(measured_dataset([organ()] * 4, ONE), CONFIG) == []
    speck = box(SHAPE, (5, 6, 7), (7, 9, 10)).astype(np.uint8)
    found = check_small_classes(measured_dataset([organ(), organ(), speck], ONE), CONFIG)
    assert [(f.check_id, f.severity, f.case_id, f.value) for f in found] == [
        ("S01", "warning", "case_002", 18.0)
    ]
    assert found[0].evidence["voxel_ras"] == (6, 7, 8)
    assert found[0].evidence["extent_voxels"] == 2.0


def test_a_sheet_of_two_voxels_is_too_thin():
    sheet = box(SHAPE, (2, 2, 9), (22, 22, 11)).astype(np.uint8)
    assert len(check_small_classes(measured_dataset([sheet], ONE), CONFIG)) == 1


def test_a_class_of_one_voxel_everywhere_cannot_be_learned():
    dot = box(SHAPE, (5, 5, 5), (6, 6, 6)).astype(np.uint8)
    found = check_small_classes(measured_dataset([dot] * 3, ONE), CONFIG)
    assert [(f.check_id, f.severity) for f in found] == [("S01", "error")]


def test_many_small_lesions_are_one_line():
    speck = box(SHAPE, (5, 6, 7), (7, 9, 10)).astype(np.uint8)
    found = check_small_classes(measured_dataset([speck] * 8, ONE), CONFIG)
    assert len(found) == 1
    assert "8 of 8 cases" in found[0].message


def test_what_the_edge_cuts_is_told():
    assert check_cut_off(measured_dataset([organ()], ONE), CONFIG) == []
    cut = organ()
    cut = np.ascontiguousarray(cut[:, :, 12:])
    found = check_cut_off(measured_dataset([organ(), cut], ONE), CONFIG)
    assert [(f.check_id, f.severity, f.case_id) for f in found] == [("S07", "info", "case_001")]


def test_one_line_for_a_scan_that_cuts_everything():
    names = [f"organ {n}" for n in range(8)]
    label = np.zeros(SHAPE, np.uint8)
    for n in range(8):
        label[3 * n : 3 * n + 3, 4:20, :] = n + 1
    found = check_cut_off(measured_dataset([label, label], task_of(*names)), CONFIG)
    assert len(found) == 1
    assert "cuts 8 classes" in found[0].message


def images_with_air(shares):
    """Tissue everywhere but for the first slices of the ball."""
    images = []
    for share in shares:
        mask = organ() > 0
        image = np.where(np.arange(SHAPE[2]) < 6 + 13 * share, -50, 100)
        image = np.broadcast_to(image, SHAPE).astype(np.int16).copy()
        # Half of the image is air in every case, so that the body threshold is the same.
        image[~mask] = np.where(np.arange((~mask).sum()) % 2, -50, 100)
        images.append(image[np.newaxis])
    return images


def test_air_counts_only_against_the_other_cases():
    labels = [organ()] * 12
    usual = [0.0] * 11
    found = check_air(measured_dataset(labels, ONE, images=images_with_air([*usual, 0.5])), CONFIG)
    assert [(f.check_id, f.severity, f.case_id) for f in found] == [("S08", "warning", "case_011")]
    # A hollow organ holds air in every case.
    hollow = images_with_air(list(np.linspace(0.2, 0.7, 12)))
    assert check_air(measured_dataset(labels, ONE, images=hollow), CONFIG) == []
    # Too few cases to know.
    few = measured_dataset(labels[:4], ONE, images=images_with_air([0.0, 0.0, 0.0, 0.5]))
    assert check_air(few, CONFIG) == []
