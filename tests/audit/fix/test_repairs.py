from dataclasses import replace

import numpy as np
import pytest
from audit_builders import affine, facts, task_of

from pipeline.artifacts import Finding
from pipeline.audit.fix.repairs import (
    ASSUMPTIONS,
    ORDER,
    SAFE,
    UNSAFE,
    LabelFile,
    copy_placement,
    drop_undeclared,
    find_repair,
    regrid,
    remap_binary,
    remove_islands,
    round_values,
    unscale,
)

SHAPE = (8, 9, 10)


def label_of(array, task=None, image_shape=SHAPE):
    return LabelFile(
        array,
        affine(),
        facts("label.nii", array.shape),
        facts("image.nii", image_shape),
        task or task_of("organ"),
    )


def finding(check_id="E02", severity="error", **more):
    return Finding(check_id=check_id, severity=severity, message="", fix="", **more)


def mask():
    array = np.zeros(SHAPE, np.uint8)
    array[2:5, 2:5, 2:5] = 1
    return array


def test_masks_are_remapped_only_if_the_class_is_certain():
    done = remap_binary(label_of(mask() * 255), finding())
    assert np.array_equal(done.label.array, mask())
    assert remap_binary(label_of(mask() * 255, task_of("a", "b")), finding()).label is None
    assert remap_binary(label_of(mask() * 0), finding()).label is None


@pytest.mark.parametrize(("factor", "is_mended"), [(1.001, True), (1.2, False), (3.0, False)])
def test_rounding_needs_values_close_to_declared_ones(factor, is_mended):
    done = round_values(label_of(mask() * factor), finding("E03"))
    assert (done.label is not None) == is_mended
    assert (unscale(label_of(mask() * factor), finding("F07")).label is not None) == (factor < 1.25)


def test_undeclared_values_become_background_and_are_counted():
    array = mask()
    array[0, 0, :3] = 7
    done = drop_undeclared(label_of(array), finding("E01"))
    assert np.array_equal(done.label.array, mask())
    assert "3 voxels" in done.text


def test_islands_go_and_large_pieces_stay():
    array = np.zeros((20, 20, 20), np.uint8)
    array[2:12, 2:12, 2:12] = 1
    array[15:18, 15:18, 15:18] = 1  # 27 voxels: 2.7 % of the largest piece
    array[0, 0, 0] = 1
    done = remove_islands(label_of(array), finding("S05", class_name="organ"))
    assert done.label.array[0, 0, 0] == 0
    assert done.label.array.sum() == array.sum() - 1


def test_a_label_outside_its_image_is_not_regridded_into_nothing():
    label = label_of(mask())
    away = affine()
    away[0, 3] = 500.0
    assert (
        regrid(LabelFile(label.array, away, label.like, label.image, label.task), finding()).label
        is None
    )


def test_placement_is_copied_only_between_equal_shapes():
    assert copy_placement(label_of(mask()), finding("G02")).label is not None
    assert copy_placement(label_of(mask(), image_shape=(9, 9, 9)), finding("G02")).label is None


def test_unsafe_repairs_run_only_when_named_and_say_what_they_assume():
    assert find_repair(finding("E01"), frozenset()) is None
    assert find_repair(finding("E01"), frozenset({"E01"})) is drop_undeclared
    assert find_repair(finding("G02", "warning"), frozenset()) is copy_placement
    assert find_repair(finding("G02", "error"), frozenset()) is None
    assert find_repair(finding("G02", "error"), frozenset({"G02"})) is regrid
    assert set(ASSUMPTIONS) == set(UNSAFE)


def test_a_placement_is_not_copied_if_that_mirrors_the_label():
    label = label_of(mask())
    flipped = affine() @ np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = (SHAPE[0] - 1) * affine()[0, 0] + 0.3
    mirrored = replace(label, affine=flipped)
    assert copy_placement(mirrored, finding("G02", "warning")).label is None
    assert copy_placement(mirrored, finding("G05")).label is not None


def test_no_placement_is_copied_from_an_image_that_has_none():
    label = label_of(mask())
    lost = facts("image.nii", SHAPE, sform_code=0, qform_code=0)
    assert copy_placement(replace(label, image=lost), finding("G05")).label is None
    assert copy_placement(label, finding("G05")).label is not None


def test_every_repair_has_its_turn_and_places_come_last():
    assert set(ORDER) == set(SAFE) | set(UNSAFE)
    assert ORDER[-3:] == ("G05", "G02", "G01")


def test_a_label_that_would_lose_most_of_its_volume_is_not_resampled():
    away = affine()
    away[0, 3] = 3.0
    done = regrid(replace(label_of(mask()), affine=away), finding("G02"))
    assert done.label is not None
    away[0, 3] = -4.0
    done = regrid(replace(label_of(mask()), affine=away), finding("G02"))
    assert done.label is None
    assert "67% of it lies outside" in done.text
