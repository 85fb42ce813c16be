import numpy as np
import pytest
from audit_builders import task_of
from phantoms import write_nifti

from pipeline.audit.config import AuditConfig
from pipeline.audit.folder import audit_label_folder
from pipeline.io.discover import list_volumes

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def label(seed=0):
    rng = np.random.default_rng(seed)
    array = np.zeros((16, 16, 16), np.uint8)
    i, j, k = rng.integers(2, 6, 3)
    array[i : i + 6, j : j + 6, k : k + 6] = 1
    array[i : i + 3, j : j + 3, k : k + 3] = 2
    return array


@pytest.fixture
def folders(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / "pred" / f"c{n}.nii.gz", label(n), AFFINE)
        write_nifti(tmp_path / "ref" / f"c{n}.nii.gz", label(n + 10), AFFINE)
    return tmp_path


def loud(folders, **more):
    findings = audit_label_folder(
        list_volumes(folders / "pred"), folders / "pred", AuditConfig(), **more
    )
    return {(f.check_id, f.severity, f.case_id) for f in findings.findings if f.severity != "info"}


def references(folders):
    return list_volumes(folders / "ref")


def test_sound_predictions_are_silent(folders):
    assert loud(folders, references=references(folders), task=task_of("a", "b")) == set()


FAULTS = {
    ("E01", "error", "c0"): lambda a: np.where(a == 2, 5, a),
    ("E03", "error", "c0"): lambda a: a * 0.5,
    ("E08", "warning", "c0"): np.zeros_like,
    ("G01", "error", "c0"): lambda a: a[2:],
}


@pytest.mark.parametrize("expected", FAULTS)
def test_faults_are_named(expected, folders):
    write_nifti(folders / "pred" / "c0.nii.gz", FAULTS[expected](label()), AFFINE)
    assert expected in loud(folders, references=references(folders), task=task_of("a", "b"))


def test_a_moved_grid_is_an_error_beyond_half_a_voxel(folders):
    for shift_mm, severity in ((0.1, "warning"), (3.0, "error")):
        moved = AFFINE.copy()
        moved[0, 3] += shift_mm
        write_nifti(folders / "pred" / "c0.nii.gz", label(), moved)
        assert ("G02", severity, "c0") in loud(folders, references=references(folders))


def test_the_references_given_as_predictions_are_found_out(folders):
    assert ("D06", "error", "c0") in loud(folders, references=list_volumes(folders / "pred"))


def test_one_prediction_for_two_cases_and_a_broken_file(folders):
    write_nifti(folders / "pred" / "c1.nii.gz", label(0), AFFINE)
    (folders / "pred" / "c2.nii.gz").write_bytes(b"")
    found = loud(folders)
    assert ("D02", "error", "c0") in found
    assert ("F02", "error", "c2") in found


def test_one_exact_hit_among_many_is_only_a_warning(folders):
    write_nifti(folders / "pred" / "c1.nii.gz", label(11), AFFINE)
    assert ("D06", "warning", "c1") in loud(folders, references=references(folders))


def test_a_reference_without_a_file_is_an_error_and_an_extra_file_is_told(folders):
    (folders / "pred" / "c1.nii.gz").rename(folders / "pred" / "new.nii.gz")
    files = list_volumes(folders / "pred")
    findings = audit_label_folder(
        files, folders / "pred", AuditConfig(), references=references(folders)
    )
    found = {(f.severity, f.case_id) for f in findings.findings if f.check_id == "F01"}
    assert found == {("error", "c1"), ("info", None)}
