import numpy as np
import phantoms

from pipeline.evaluate.spacings import read_spacings_mm


def test_spacings_come_from_the_affine_and_damaged_files_are_left_out(tmp_path):
    turned = np.array([[0, 0, 5.0, 1], [0.8, 0, 0, 2], [0, -0.9, 0, 3], [0, 0, 0, 1]])
    good = phantoms.write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.uint8), turned)
    bad = tmp_path / "b.nii.gz"
    bad.write_bytes(b"not a volume at all, but a text")
    found = read_spacings_mm({"a": good, "b": bad, "c": tmp_path / "gone.nii.gz"})
    assert list(found) == ["a"]
    assert np.allclose(found["a"], (0.8, 0.9, 5.0))
