import json

import nibabel as nib
import numpy as np
import pytest
from audit_builders import measured_dataset, task_of
from phantoms import box, case

from pipeline.audit.checks.placement import check_placement
from pipeline.audit.config import AuditConfig

SHAPE = (40, 36, 32)
N_CASES = 12
TASK = task_of("liver", "kidney", "lesion")
CONFIG = AuditConfig()


def phantoms(n_cases, n_classes=3):
    cases = [case(seed, SHAPE, (1.0, 1.0, 1.0), n_classes=n_classes) for seed in range(n_cases)]
    return [c[0][None] for c in cases], [c[1] for c in cases]


def findings(images, labels, task=TASK):
    return check_placement(measured_dataset(labels, task, images=images), CONFIG)


def summary(found):
    return {(f.check_id, f.severity, f.case_id) for f in found}


@pytest.mark.parametrize("n_cases", [1, 5, N_CASES])
@pytest.mark.parametrize("n_classes", [1, 3])
def test_labels_that_fit_are_silent(n_cases, n_classes):
    assert findings(*phantoms(n_cases, n_classes)) == []


@pytest.mark.parametrize("n_cases", [2, N_CASES])
@pytest.mark.parametrize(("axis", "towards"), [(0, "left"), (1, "posterior"), (2, "inferior")])
def test_shifted_label_is_named_with_the_way_back(n_cases, axis, towards):
    images, labels = phantoms(n_cases)
    labels[1] = np.roll(labels[1], 5, axis)
    (found,) = findings(images, labels)
    assert (found.check_id, found.severity, found.case_id) == ("G13", "warning", "case_001")
    back = found.evidence["shift_voxels"]
    assert abs(back[axis] + 5) <= 1
    assert f"voxels further {towards}" in found.message
    assert labels[1][found.evidence["voxel_ras"]] >= 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_label_is_an_error_in_a_cohort(axis):
    images, labels = phantoms(N_CASES)
    labels[4] = np.ascontiguousarray(np.flip(labels[4], axis))
    found = findings(images, labels)
    # Along front-back these phantoms are symmetric: no witness can tell.
    expected = set() if axis == 1 else {("G14", "error", "case_004")}
    assert summary(found) == expected
    assert all(f.evidence["axes"] == (axis,) for f in found)


def test_mirrored_label_alone_is_told_by_its_edges():
    images, labels = phantoms(1)
    (found,) = findings(images, [np.ascontiguousarray(labels[0][:, :, ::-1])])
    assert (found.check_id, found.severity) == ("G14", "error")
    assert "mirrored along head-foot" in found.message


def test_one_structure_alone_is_too_little_for_an_error():
    i, _, k = np.indices(SHAPE)
    wedge = (box(SHAPE, (6, 8, 4), (34, 28, 30)) & (k < 0.7 * i)).astype(np.uint8)
    image = 100.0 * wedge + np.random.default_rng(0).normal(0, 5, SHAPE)
    mirrored = np.ascontiguousarray(wedge[::-1])
    (found,) = findings([image[None]], [mirrored], task_of("liver"))
    assert (found.check_id, found.severity, found.evidence["axes"]) == ("G14", "warning", (0,))


def test_swapped_classes_are_not_called_mirrored():
    images, labels = phantoms(24)
    swap = np.array([0, 2, 1, 3], np.uint8)
    labels[7] = swap[labels[7]]
    found = findings(images, labels)
    assert all(f.severity == "warning" and "may be swapped" in f.message for f in found)


@pytest.mark.parametrize("n_cases", [4, N_CASES])
def test_a_shift_of_all_labels_is_one_finding(n_cases):
    images, labels = phantoms(n_cases)
    (found,) = findings(images, [np.roll(label, -4, 2) for label in labels])
    assert (found.check_id, found.case_id) == ("G13", None)
    assert found.evidence["shift_voxels"] == (0, 0, 4)


def test_a_site_that_mirrored_its_labels_is_found_by_both_witnesses():
    images, labels = phantoms(16)
    turned = range(0, 16, 4)
    for n in turned:
        labels[n] = np.ascontiguousarray(labels[n][:, :, ::-1])
    assert summary(findings(images, labels)) == {("G14", "error", f"case_{n:03d}") for n in turned}


def test_mirrored_bodies_with_right_labels_are_no_error():
    """Left and right knees: the order is reversed, but image and label agree."""
    images, labels = phantoms(16)
    for n in range(0, 16, 4):
        images[n], labels[n] = images[n][:, ::-1].copy(), labels[n][::-1].copy()
    assert findings(images, labels) == []


def test_unassessable_cases_pass():
    images, labels = phantoms(3)
    images[0][:] = 7
    labels[1][:] = 0
    images[2][:] = np.random.default_rng(0).normal(0, 1, images[2].shape)
    assert findings(images, labels) == []


@pytest.fixture(scope="module")
def hippocampus(shared_data):
    folder = shared_data / "Task04_Hippocampus"
    pairs = json.loads((folder / "dataset.json").read_text())["training"][:24]
    read = [[nib.load(folder / pair[role]) for role in ("image", "label")] for pair in pairs]
    images = [np.asanyarray(image.dataobj)[None].astype(np.float32) for image, _ in read]
    return images, [np.asanyarray(label.dataobj).astype(np.uint8) for _, label in read]


def test_real_soft_tissue_is_silent(hippocampus):
    assert findings(*hippocampus, task_of("Anterior", "Posterior")) == []


@pytest.mark.parametrize("axis", [1, 2])
def test_real_mirrored_label_is_found_by_the_order_of_its_parts(hippocampus, axis):
    images, labels = hippocampus
    turned = [np.ascontiguousarray(np.flip(labels[0], axis)), *labels[1:]]
    found = findings(images, turned, task_of("Anterior", "Posterior"))
    assert {(f.check_id, f.case_id) for f in found} == {("G14", "case_000")}


def test_real_shifted_label_is_found(hippocampus):
    images, labels = hippocampus
    moved = [np.roll(labels[0], 4, 2), *labels[1:]]
    (found,) = findings(images, moved, task_of("Anterior", "Posterior"))
    assert (found.check_id, found.case_id) == ("G13", "case_000")
