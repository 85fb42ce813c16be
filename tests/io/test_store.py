"""The case store gives back what was put in, or says that it cannot."""

import mmap
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.artifacts import StoredArray
from pipeline.core.errors import DataError
from pipeline.io.store import (
    array_hash,
    is_stored,
    n_voxel_bytes,
    open_array,
    read_sidecar,
    sidecar_file,
    write_array,
)


def put(root, array, key="case.image"):
    return write_array(root / "ingest" / "store", key, array, np.eye(4), "LPS", root)


@given(
    npst.arrays(
        st.sampled_from([np.uint8, ">i2", np.float32, np.float64, np.float16]),
        st.tuples(*[st.integers(1, 5)] * 3) | st.tuples(*[st.integers(1, 4)] * 4),
    ),
    st.permutations([0, 1, 2]),
)
def test_round_trip_of_any_view(tmp_path_factory, array, axes):
    root = tmp_path_factory.getbasetemp()
    lead = tuple(range(array.ndim - 3))
    view = array.transpose(*lead, *(len(lead) + axis for axis in axes))[..., ::-1]
    stored = put(root, view)
    opened = open_array(root, stored)
    np.testing.assert_array_equal(opened, view)
    assert opened.flags.c_contiguous
    assert not opened.flags.writeable
    assert opened.dtype == array.dtype.newbyteorder("<")
    assert stored.content_hash == array_hash(view) == array_hash(opened)
    sidecar = sidecar_file(root / stored.file).read_text()
    assert StoredArray.model_validate_json(sidecar) == stored


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<f4"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_large_arrays_in_the_order_of_files_come_back(tmp_path, dtype, axes):
    # No axis is a multiple of the blocks that are copied together.
    values = np.arange(131 * 97 * 89) % 251
    array = values.reshape((131, 97, 89), order="F").astype(dtype, order="F")
    view = array.transpose(axes)[::-1]
    for one in (view, view[np.newaxis]):
        opened = open_array(tmp_path, put(tmp_path, one))
        np.testing.assert_array_equal(opened, one)
        assert opened.flags.c_contiguous
        assert opened.dtype == one.dtype.newbyteorder("<")


def test_hash_ignores_layout_and_byte_order_but_not_type_or_shape():
    array = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    assert array_hash(array) == array_hash(np.asfortranarray(array.astype(">i2")))
    others = (array.astype("<i4"), array.reshape(4, 3, 2), array + 1, array[::-1])
    assert len({array_hash(a) for a in (array, *others)}) == 5


def test_voxels_stay_on_disk(tmp_path):
    stored = put(tmp_path, np.arange(24.0).reshape(2, 3, 4))
    opened = open_array(tmp_path, stored)
    assert isinstance(opened.base, mmap.mmap)
    # The file is a plain .npy, for any other program.
    np.testing.assert_array_equal(np.load(tmp_path / stored.file, mmap_mode="r"), opened)


def test_missing_short_or_foreign_files_are_named(tmp_path):
    stored = put(tmp_path, np.zeros((4, 4, 4), np.uint8))
    file = tmp_path / stored.file
    assert is_stored(tmp_path, stored)
    file.write_bytes(file.read_bytes()[:-40])
    for damage in (
        lambda: None,
        lambda: file.write_bytes(b""),
        lambda: np.save(file, np.zeros((4, 4, 5), np.uint8)),
        lambda: np.save(file, np.array([{}], dtype=object), allow_pickle=True),
        file.unlink,
    ):
        damage()
        with pytest.raises(DataError) as caught:
            open_array(tmp_path, stored)
        assert caught.value.where == str(file)
        assert caught.value.fix == "run ingest again"
    assert not is_stored(tmp_path, stored)


def test_an_opened_array_may_travel_to_another_process(tmp_path):
    opened = open_array(tmp_path, put(tmp_path, np.arange(24, dtype=">i2").reshape(2, 3, 4)))
    again = pickle.loads(pickle.dumps(opened))  # noqa: S301  # written in this line
    np.testing.assert_array_equal(again, opened)


def test_a_sidecar_is_read_back_or_missed(tmp_path):
    stored = put(tmp_path, np.zeros((2, 3, 4), np.uint8))
    assert n_voxel_bytes(stored) == 24
    assert read_sidecar(tmp_path, stored) == stored
    sidecar_file(tmp_path / stored.file).write_text("{")
    with pytest.raises(DataError, match="sidecar"):
        read_sidecar(tmp_path, stored)
