from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import FileFormatError
from pipeline.io.dicom.structures import Structure, paint

HERE = Path("label.dcm")
SHAPE = (2, 3, 4)


def structure(name, number, *voxels):
    return Structure(name, number, np.array(voxels, dtype=np.int64))


def test_without_classes_structures_keep_their_numbers():
    painted = paint([structure("liver", 1, 0, 5), structure("cord", 300, 7)], SHAPE, None, HERE)
    assert painted.segments == {"liver": 1, "cord": 300}
    assert painted.array.dtype == np.uint16
    assert painted.array.ravel()[[0, 5, 7, 8]].tolist() == [1, 1, 300, 0]


def test_no_structure_becomes_background_because_it_has_the_number_0():
    painted = paint([structure("body", 0, 0, 5), structure("cord", 1, 7)], SHAPE, None, HERE)
    assert painted.segments == {"body": 1, "cord": 2}
    assert painted.array.ravel()[[0, 5, 7, 8]].tolist() == [1, 1, 2, 0]


def test_names_that_repeat_are_told_apart_by_number():
    painted = paint([structure("mets", 2, 0), structure("mets", 3, 1)], SHAPE, None, HERE)
    assert painted.segments == {"mets #2": 2, "mets #3": 3}


def test_classes_give_the_values_and_leave_the_rest_out():
    structures = [structure("liver", 1, 0, 5), structure("mets", 2, 5), structure("mets", 3, 6)]
    painted = paint(structures, SHAPE, {"mets": (7, 9), "spleen": (2,)}, HERE)
    assert painted.segments == {"mets": 7}
    assert painted.left_out == ("liver",)
    assert np.flatnonzero(painted.array).tolist() == [5, 6]
    assert painted.array.max() == 7


def test_overlaps_are_refused_with_names_and_counts():
    structures = [structure("a", 1, 0, 1, 2), structure("b", 2, 2, 3), structure("c", 3, 1, 3)]
    with pytest.raises(FileFormatError, match="'a' and 'b' in 1 voxels") as info:
        paint(structures, SHAPE, None, HERE)
    assert info.value.check_id == "E10"
    assert "'b' and 'c' in 1 voxels" in info.value.what
    assert paint(structures, SHAPE, {"b": (1,)}, HERE).array.sum() == 2


def test_structures_of_one_class_may_overlap():
    structures = [structure("a", 1, 0, 1), structure("b", 2, 1, 2)]
    painted = paint(structures, SHAPE, {"a": (4,), "b": (4,)}, HERE)
    assert np.flatnonzero(painted.array).tolist() == [0, 1, 2]


def test_a_file_without_any_class_is_refused():
    with pytest.raises(FileFormatError, match="Leber") as info:
        paint([structure("Leber", 1, 0)], SHAPE, {"liver": (1,)}, HERE)
    assert info.value.check_id == "E12"
    assert "liver" in info.value.fix


def test_an_empty_file_is_an_empty_label():
    assert paint([], SHAPE, {"liver": (1,)}, HERE).array.max() == 0
    assert paint([structure("liver", 1)], SHAPE, None, HERE).segments == {"liver": 1}


def test_structures_of_value_0_are_known_and_left_out():
    structures = [structure("a", 1, 0, 1, 2), structure("b", 2, 2, 3)]
    for order in (structures, structures[::-1]):
        painted = paint(order, SHAPE, {"a": (0,), "b": (4,)}, HERE)
        assert (painted.segments, painted.left_out) == ({"b": 4}, ("a",))
        assert np.flatnonzero(painted.array).tolist() == [2, 3]
    painted = paint(structures, SHAPE, {"a": (0,), "b": (0,)}, HERE)
    assert (painted.segments, painted.array.any()) == ({}, False)
