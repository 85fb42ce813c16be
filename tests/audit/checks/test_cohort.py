import numpy as np
import pytest
from audit_builders import dataset, usable_row

from pipeline.audit.checks.cohort import CASE_CHECKS, DATASET_CHECKS, check_grid_outliers
from pipeline.audit.config import AuditConfig

CONFIG = AuditConfig()


def cohort(spacings_mm, shapes=None):
    shapes = shapes or [(100, 100, 100)] * len(spacings_mm)
    rows = [
        usable_row(f"case_{n:03d}", spacing_mm=spacing, shape=shape)
        for n, (spacing, shape) in enumerate(zip(spacings_mm, shapes, strict=True))
    ]
    return dataset(rows, [])


def found(view):
    return [(f.severity, f.case_id) for f in check_grid_outliers(view, CONFIG)]


def test_one_case_of_another_voxel_size_is_named():
    # The same field of view: only the voxels differ.
    spacings = [(1.0, 1.0, 1.0)] * 19 + [(1.0, 1.0, 5.0)]
    shapes = [(100, 100, 100)] * 19 + [(100, 100, 20)]
    (finding,) = check_grid_outliers(cohort(spacings, shapes), CONFIG)
    assert (finding.check_id, finding.severity, finding.case_id) == ("G11", "warning", "case_019")
    assert (finding.value, finding.threshold) == (5.0, 1.0)
    assert "voxel size along S is 5 mm" in finding.message


def test_one_case_of_another_field_of_view_is_named():
    shapes = [(100, 100, 100 + n) for n in range(19)] + [(100, 300, 100)]
    (finding,) = check_grid_outliers(cohort([(1.0, 1.0, 1.0)] * 20, shapes), CONFIG)
    assert finding.case_id == "case_019"
    assert "field of view along A is 300 mm" in finding.message


def test_a_second_scanner_is_information_not_an_outlier():
    spacings = [(1.0, 1.0, 1.0)] * 30 + [(1.0, 1.0, 1.25)] * 4
    shapes = [(100, 100, 100)] * 30 + [(100, 100, 80)] * 4
    assert found(cohort(spacings, shapes)) == [("info", None)]


@pytest.mark.parametrize("seed", range(5))
def test_pixel_sizes_of_ct_are_no_outliers(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.55, 0.98, 200)
    spacings = [(float(s), float(s), 2.5) for s in sizes]
    shapes = [(512, 512, int(rng.integers(60, 300))) for _ in sizes]
    assert [f for f in found(cohort(spacings, shapes)) if f[0] != "info"] == []


def test_rounded_voxel_sizes_are_equal():
    rng = np.random.default_rng(0)
    spacings = [(1.0, 1.0, 1.0 + float(e)) for e in rng.normal(0.0, 1e-6, 30)]
    spacings[3] = (1.0, 1.0, 1.03)
    assert found(cohort(spacings)) == []


def test_a_few_cases_are_silent():
    assert found(cohort([(1.0, 1.0, 1.0)] * 8 + [(1.0, 1.0, 9.0)])) == []
    assert found(cohort([])) == []


def test_every_check_of_the_family_is_there():
    names = {check.__name__ for check in (*CASE_CHECKS, *DATASET_CHECKS)}
    assert names == {
        "check_label_is_image",
        "check_ct_units",
        "check_grid_outliers",
        "check_near_duplicates",
        "check_patients",
        "check_fold_classes",
        "check_drift",
        "check_channel_order",
        "check_sites",
    }


@pytest.mark.parametrize("check", DATASET_CHECKS)
def test_an_empty_dataset_is_silent(check):
    assert check(dataset([], []), CONFIG) == []
