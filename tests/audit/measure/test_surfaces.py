import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.audit.measure import surfaces as module
from pipeline.audit.measure.surfaces import find_surfaces

maps = hnp.arrays(
    np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(-1, 3)
)


def padded_faces(label, value):
    """Faces of a value by axis, found the slow way: every voxel against its six neighbors."""
    mask = np.pad(label == value, 1)
    return [int(np.abs(np.diff(mask.astype(int), axis=axis)).sum()) for axis in range(3)]


@given(maps)
def test_faces_borders_and_slices_agree_with_looking_at_every_voxel(label):
    found = find_surfaces(label, 3)
    for value in (-1, 0, 1, 2, 3):
        mask = label == value
        faces = found.contacts(value).sum(axis=1)
        total = int(faces.sum() + found.n_edge[value + 1])
        assert total == sum(padded_faces(label, value))
        assert found.contacts(value)[:, value + 1].sum() == 0
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            assert found.present[axis][value + 1].tolist() == mask.any(axis=others).tolist()
        changes = (mask[:, :, :-1] != mask[:, :, 1:]).any(axis=(0, 1))
        assert found.changes[value + 1, :-1].tolist() == changes.tolist()


@given(maps)
def test_a_border_voxel_has_another_value_beside_it(label):
    around = np.pad(label, 1, mode="edge")
    is_border = np.zeros(label.shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            is_border |= np.roll(around, step, axis)[1:-1, 1:-1, 1:-1] != label
    found = find_surfaces(label, 3)
    expected = [int((is_border & (label == value)).sum()) for value in (-1, 0, 1, 2, 3)]
    assert found.n_border.tolist() == expected


@pytest.mark.parametrize("slab_voxels", [1, 50, 130])
def test_working_in_slabs_changes_nothing(slab_voxels, monkeypatch):
    label = np.random.default_rng(0).integers(-1, 4, (11, 6, 7)).astype(np.int16)
    whole = find_surfaces(label, 3)
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab_voxels)
    pieces = find_surfaces(label, 3)
    for name in ("pairs", "n_border", "n_edge", "changes"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name))
    for one, other in zip(whole.present, pieces.present, strict=True):
        assert np.array_equal(one, other)


def test_contacts_name_the_neighbor():
    label = np.zeros((4, 4, 4), np.int16)
    label[1, 1, 1], label[2, 1, 1], label[1, 2, 1] = 1, 2, -1
    contacts = find_surfaces(label, 2).contacts(1)
    assert contacts[0].tolist() == [0, 1, 0, 1]  # undeclared, background, own, class 2
    assert contacts[1].tolist() == [1, 1, 0, 0]
    assert contacts[2].tolist() == [0, 2, 0, 0]
