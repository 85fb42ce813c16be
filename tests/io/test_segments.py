"""Named structures become one label map; nothing is lost or covered in silence."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import FileFormatError
from pipeline.io.raw import RawVolume, Segment, Voxels, direction_facts
from pipeline.io.segments import merge_segments

FILE = Path("a.seg.nrrd")


def raw_of(array, segments):
    voxels = Voxels(array, array.nbytes, 0)
    facts = direction_facts(FILE, voxels, np.eye(4), root=FILE.parent, file_format="nrrd")
    return RawVolume(facts, array, tuple(segments))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_one_layer_is_renumbered_voxel_by_voxel(seed, n_segments):
    rng = np.random.default_rng(seed)
    values = rng.choice(np.arange(1, 200), n_segments, replace=False)
    array = rng.choice([0, *values], (3, 4, 5)).astype(np.uint8)
    segments = [Segment(f"s{value}", int(value), 0) for value in values]
    table = {f"s{value}": (int(rng.integers(1, 2000)),) for value in values}
    label, names = merge_segments(raw_of(array, segments), table, FILE)
    for value in values:
        np.testing.assert_array_equal(label[array == value], table[f"s{value}"][0])
    assert not label[array == 0].any()
    assert names == {name: numbers[0] for name, numbers in table.items()}
    kept, names = merge_segments(raw_of(array, segments), None, FILE)
    np.testing.assert_array_equal(kept, array)
    assert names == {f"s{value}": value for value in values}


def test_numbers_that_no_voxel_has_do_not_matter():
    array = np.zeros((2, 2, 2), np.int16)
    label, _ = merge_segments(raw_of(array, [Segment("a", 7, 0)]), {"a": (3,)}, FILE)
    assert not label.any()


@pytest.mark.parametrize(
    ("array", "check_id"),
    [
        (np.full((2, 2, 2), -1, np.int16), "F05"),
        (np.full((2, 2, 2), 70_000, np.int32), "F05"),
        (np.ones((2, 2, 2), np.float32), "F06"),
    ],
)
def test_voxels_that_are_no_label_map_are_refused(array, check_id):
    with pytest.raises(FileFormatError) as caught:
        merge_segments(raw_of(array, [Segment("a", 1, 0)]), None, FILE)
    assert caught.value.check_id == check_id


def test_segments_that_share_their_voxels_are_refused_not_merged():
    segments = [Segment("liver", 1, 0), Segment("tumor", 1, 0)]
    with pytest.raises(FileFormatError, match="'liver' and 'tumor'") as caught:
        merge_segments(raw_of(np.ones((2, 2, 2), np.uint8), segments), None, FILE)
    assert caught.value.check_id == "F05"


def test_overlaps_name_their_segments():
    array = np.zeros((3, 2, 2, 3), np.uint8)
    array[..., 0], array[:1, ..., 1], array[1:, ..., 2] = 1, 1, 1
    segments = [Segment(name, 1, layer) for layer, name in enumerate(("body", "a", "b"))]
    table = {"body": (40_000,), "a": (2,), "b": (3,)}
    with pytest.raises(FileFormatError, match="in 4 voxels: body and a"):
        merge_segments(raw_of(array, segments), table, FILE)
    with pytest.raises(FileFormatError, match="in 4 voxels: b and a"):
        merge_segments(
            raw_of(
                array[..., [1, 1]], [s for s in segments if s.layer == 1] + [Segment("b", 1, 0)]
            ),
            table,
            FILE,
        )


def test_structures_of_value_0_may_overlap_and_so_may_those_of_one_class():
    array = np.zeros((2, 2, 2, 3), np.uint8)
    array[0, ..., 0], array[:, 0, :, 1], array[..., 2] = 1, 1, 1
    segments = [Segment(name, 1, layer) for layer, name in enumerate(("a", "b", "body"))]
    with pytest.raises(FileFormatError, match="segments overlap") as caught:
        merge_segments(raw_of(array, segments), {"a": (1,), "b": (2,), "body": (3,)}, FILE)
    assert caught.value.check_id == "E10"
    label, names = merge_segments(
        raw_of(array, segments), {"a": (0,), "b": (2,), "body": (0,)}, FILE
    )
    np.testing.assert_array_equal(label, 2 * array[..., 1])
    assert names == {"b": 2}
    label, _ = merge_segments(raw_of(array, segments), {"a": (7,), "b": (7,), "body": (0,)}, FILE)
    np.testing.assert_array_equal(label == 7, array[..., :2].any(axis=3))
