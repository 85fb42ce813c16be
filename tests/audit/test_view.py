import numpy as np
import pytest
from audit_builders import TASK, facts, label_of, stored, view
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.artifacts import LabelClass, Task
from pipeline.audit import view as module
from pipeline.audit.view import count_label_values, index_map, mask_of_values, spatial_shape

shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)


@given(
    st.sampled_from(["u1", "i1", "u2", "i2", "i4", "u4", "i8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, shapes)
    )
)
def test_counts_agree_with_numpy(label):
    found = count_label_values(label)
    values, counts = np.unique(label, return_counts=True)
    assert found.values.tolist() == values.tolist()
    assert found.counts.tolist() == counts.tolist()
    assert (found.max_fraction_part, found.n_nonfinite) == (0.0, 0)


def test_counting_in_pieces_loses_nothing():
    label = np.zeros((130, 128, 128), np.uint8)  # more voxels than one piece
    label[100:, 5, 7] = 3
    found = count_label_values(label)
    assert found.count_of((3,)) == 30
    assert found.counts.sum() == label.size


def test_float_labels_are_rounded_and_their_noise_is_kept():
    label = np.full((2, 3, 4), 2.0, np.float32)
    label[0, 0, 0] += np.float32(1e-6)
    label[0, 0, 1] = np.nan
    label[0, 0, 2] = -np.inf
    label[0, 0, 3] = 0.4
    found = count_label_values(label)
    assert found.values.tolist() == [0, 2]
    assert found.counts.tolist() == [1, 21]
    assert found.n_nonfinite == 2
    assert found.max_fraction_part == pytest.approx(0.4)


def test_bool_and_huge_values_are_counted():
    assert count_label_values(np.ones((1, 1, 2), bool)).values.tolist() == [1]
    assert count_label_values(np.full((1, 1, 2), 1e300)).values.size == 1
    assert count_label_values(np.array([[[0, 10**9]]])).values.tolist() == [0, 10**9]


def test_mask_ignores_float_noise():
    label = np.array([[[0.0, 1.0 + 1e-6, 2.0, np.nan]]], np.float32)
    assert mask_of_values(label, (1,)).tolist() == [[[False, True, False, False]]]


def test_alignment_is_about_shape():
    assert view(label_of()).is_aligned
    assert not view(label_of(), image=np.zeros((1, 3, 3, 3), np.float32)).is_aligned


def test_shape_of_stored_arrays_and_files():
    assert spatial_shape(stored("x", np.zeros((2, 3, 4, 5)), np.eye(4), "hash")) == (3, 4, 5)
    assert [(role, f.file) for role, f in view(label_of()).files()] == [
        ("image", facts("image.nii", (1,)).file),
        ("label", "label.nii"),
    ]


def recoded(**changes):
    classes = (
        LabelClass(name="liver", index=1, source_values=(50, -3)),
        LabelClass(name="tumor", index=2, source_values=(7,)),
    )
    return Task(channels=TASK.channels, classes=classes, **changes)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.float32, np.float64])
def test_values_become_class_indices(dtype):
    label = np.array([[[0, 50, -3, 7, 9]]], dtype)
    found = index_map(view(label, task=recoded()))
    assert found is not None
    assert found.dtype == np.int16
    assert found.tolist() == [[[0, 1, 1, 2, -1]]]


@given(st.sampled_from([1, 40, 1 << 20]), st.integers(0, 2**32))
def test_the_map_does_not_depend_on_the_slabs_it_is_made_in(n_voxels, seed):
    label = np.random.default_rng(seed).choice([0, 50, -3, 7, 9], (5, 4, 6)).astype(np.int16)
    before = module._CHUNK_VOXELS
    module._CHUNK_VOXELS = n_voxels
    try:
        found = index_map(view(label, task=recoded()))
    finally:
        module._CHUNK_VOXELS = before
    table = {0: 0, 50: 1, -3: 1, 7: 2, 9: -1}
    assert found is not None
    assert found.ravel().tolist() == [table[v] for v in label.ravel().tolist()]


def test_masks_huge_values_and_float_noise():
    assert np.array_equal(index_map(view(np.ones((8, 2, 3), bool))), np.ones((8, 2, 3)))
    huge = np.array([[[0, 10**9, 1]]])
    assert np.array_equal(index_map(view(huge)), [[[0, -1, 1]]])
    noise = np.array([[[0.0, 1 + 1e-6, np.nan, 2]]], np.float32)
    assert np.array_equal(index_map(view(noise)), [[[0, 1, 0, 2]]])


def test_what_is_no_label_map_has_no_indices():
    assert index_map(view(np.full((2, 3, 4), 0.4, np.float32))) is None
    many = np.arange(2000).reshape(10, 10, 20)
    assert index_map(view(many)) is None
