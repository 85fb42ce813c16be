"""Labels of any kind are one label map, and a file where a file is needed."""

from dataclasses import replace

import numpy as np
import phantoms
import pytest

from pipeline.core.errors import FileFormatError
from pipeline.io.discover import discover
from pipeline.io.labels import load_label, plain_labels
from pipeline.io.load import load_volume

AFFINE = phantoms.affine_of((16, 16, 16), (1, 1, 2), "LPS", oblique_degrees=10)


@pytest.fixture
def masks(tmp_path):
    """Two cases of which the second has overlapping masks; and the label map of the first."""
    _, label, _ = phantoms.case(0, (16, 16, 16), (1, 1, 2))
    for case_id in ("a", "b"):
        phantoms.write_nifti(tmp_path / case_id / "ct.nii.gz", label, AFFINE)
        for value, name in enumerate(("liver", "kidney"), start=1):
            mask = (label == value) if case_id == "a" else np.ones_like(label, bool)
            file = tmp_path / case_id / "masks" / f"{name}.nii.gz"
            phantoms.write_nifti(file, mask.astype(np.uint8), AFFINE)
    return discover(tmp_path), label


def test_masks_are_written_as_one_file(masks, tmp_path):
    folder, label = masks
    files = plain_labels(folder.cases, root=folder.root, folder=tmp_path / "out")
    assert files == {"a": tmp_path / "out" / "a.nii.gz", "b": tmp_path / "b" / "masks"}
    _, written = load_volume(files["a"], root=tmp_path, role="label")
    assert np.array_equal(written.array, np.array([0, 2, 1])[label])
    assert np.allclose(written.affine, AFFINE)
    _, loaded = load_label(folder.cases[0], root=folder.root)
    assert np.array_equal(loaded.array, written.array)


def test_a_plain_label_stays_where_it_is(tmp_path):
    root = phantoms.write_dataset(tmp_path / "set", 1)
    (case,) = discover(root).cases
    assert plain_labels([case], root=root, folder=tmp_path / "out") == {case.case_id: case.label}
    assert not (tmp_path / "out").exists()
    assert plain_labels([replace(case, label=None)], root=root, folder=tmp_path) == {}
    with pytest.raises(FileFormatError, match="no label"):
        load_label(replace(case, label=None), root=root)
