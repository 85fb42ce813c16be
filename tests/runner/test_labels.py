import numpy as np
from phantoms import write_nifti

from pipeline.audit.config import AuditConfig
from pipeline.runner.labels import audit_labels, loud_lines

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def label(shift):
    array = np.zeros((12, 12, 12), np.uint8)
    array[2 + shift : 8 + shift, 3:8, 3:8] = 1
    return array


def test_a_reference_without_a_file_is_named_in_the_log(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / "ref" / f"c{n}.nii.gz", label(n), AFFINE)
        if n < 2:
            write_nifti(tmp_path / "pred" / f"c{n}_pred.nii.gz", label(n + 1), AFFINE)
    findings = audit_labels(tmp_path / "pred", tmp_path / "ref", AuditConfig(), out_root=tmp_path)
    (line,) = loud_lines(findings)
    assert line.startswith("F01 in 1 file, such as c2")
