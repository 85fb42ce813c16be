"""`voxline audit` with a corrected copy, and on label files alone, as a person meets them."""

import json

import nibabel as nib
import numpy as np
import pytest
from phantoms import write_dataset

OFF = ("--set", "tracking.enabled=false", "--set", "audit.max_pictures=0")


@pytest.fixture
def faulty(tmp_path):
    """A dataset whose second label is a tenth of a millimetre off its image."""
    data = write_dataset(tmp_path / "Set", 6, 0)
    file = data / "labelsTr" / "case_001.nii.gz"
    image = nib.load(file)
    affine = image.affine.copy()
    affine[0, 3] += 0.1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), file)
    return data


def test_the_copy_is_mended_audited_and_told_about(voxline, faulty, tmp_path):
    assert voxline("audit", "--data", faulty, *OFF)[0] == 1
    status, out, err = voxline("audit", "--data", faulty, "--fix", tmp_path / "mended", *OFF)
    assert status == 0, out + err
    assert "1 files mended, 0 findings left" in out
    assert (tmp_path / "mended" / "fixes.json").is_file()
    assert (tmp_path / "runs" / "Set-fixed" / "audit" / "report.html").is_file()
    status, _, err = voxline("audit", "--data", faulty, "--fix", tmp_path / "mended", *OFF)
    assert status == 3
    assert "not empty" in err


def test_an_unsafe_repair_that_does_not_exist(voxline, faulty, tmp_path):
    status, _, err = voxline(
        *("audit", "--data", faulty, "--fix", tmp_path / "copy", "--fix-unsafe", "G99"), *OFF
    )
    assert status == 3
    assert "there is no unsafe repair for 'G99'" in err
    assert "both affines are right" in err


def test_label_files_alone(voxline, tmp_path):
    data = write_dataset(tmp_path / "Set", 4, 0)
    labels = data / "labelsTr"
    status, out, err = voxline("audit", labels, *OFF)
    assert status == 0, out + err
    status, out, _ = voxline("audit", labels, "--ref", labels, *OFF)
    assert status == 2
    assert "D06" in out
    file = tmp_path / "runs" / "labels-labelsTr" / "audit" / "findings.json"
    assert json.loads(file.read_text())["verdict"] == "errors"
    status, _, err = voxline("audit", tmp_path / "nowhere", *OFF)
    assert status == 3
    assert "fix:" in err


def test_scoring_foreign_predictions_says_what_is_wrong_with_them(voxline, tmp_path):
    labels = write_dataset(tmp_path / "Set", 4, 0) / "labelsTr"
    status, _, err = voxline("evaluate", "--pred", labels, "--ref", labels, *OFF)
    assert status == 0
    assert "D06" in err
    assert "equal their reference voxel for voxel" in err
