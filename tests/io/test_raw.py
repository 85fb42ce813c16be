"""What all formats share: voxels seen in bytes, and facts about their place."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import FileFormatError
from pipeline.io.raw import NO_MATRIX, Voxels, angles_of, direction_facts, facts_name, voxels_of

FILE = Path("/data/a.mha")


def test_voxels_are_a_read_only_view_with_the_first_axis_running_fastest():
    content = bytearray(range(30))
    array, n_trailing = voxels_of(content, np.dtype("u1"), (2, 3, 4), 4, FILE)
    assert (array[0, 0, 0], array[1, 0, 0], array[0, 1, 0], n_trailing) == (4, 5, 6, 2)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1
    with pytest.raises(FileFormatError, match="promises 34 bytes, the file holds 30") as caught:
        voxels_of(content, np.dtype("u1"), (2, 3, 5), 4, FILE)
    assert caught.value.check_id == "F04"


def test_facts_of_an_affine_that_is_not_finite_place_nothing():
    affine = np.diag([1.0, np.nan, 1.0, 1.0])
    voxels = Voxels(np.zeros((2, 3, 4), np.uint8), 24, 0)
    facts = direction_facts(FILE, voxels, affine, root=FILE.parent, file_format="nrrd")
    assert facts.affine == NO_MATRIX
    assert facts.pixdim_mm == (0.0, 0.0, 0.0)
    assert angles_of(np.diag([0.0, 1.0, 1.0, 1.0])) == (0.0, 0.0)


def test_facts_name_a_file_within_its_folder_and_never_the_way_to_it():
    assert facts_name(Path("/data/x/a.nii"), Path("/data")) == "x/a.nii"
    assert facts_name(Path("/home/jane/a.nii"), Path("/data")) == "a.nii"
