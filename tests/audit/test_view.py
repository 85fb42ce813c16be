import numpy as np
import pytest
from audit_builders import facts, label_of, stored, view
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.audit.view import count_label_values, mask_of_values, spatial_shape

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
