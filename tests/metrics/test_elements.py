import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_erosion

from pipeline.metrics.elements import surface_elements
from pipeline.metrics.surfels import CORNERS

N_CLASSES = 3
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)


@st.composite
def label_pairs(draw):
    shape = draw(SHAPES)
    maps = hnp.arrays(np.uint8, shape, elements=st.integers(0, N_CLASSES))
    return draw(maps), draw(maps)


def border_places(mask):
    padded = np.pad(mask, 1)
    return np.argwhere(padded & ~binary_erosion(padded))


def cell_codes(mask):
    """Code of every cell of the padded mask, corner by corner."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(np.array(padded.shape) - 1, dtype=np.uint8)
    for bit, (i, j, k) in enumerate(CORNERS):
        n = codes.shape
        codes |= padded[i : i + n[0], j : j + n[1], k : k + n[2]] << bit
    return codes


@given(label_pairs())
def test_borders_are_what_an_erosion_takes_away(pair):
    prediction, reference = pair
    found = surface_elements(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    for borders, volume in (
        (found.prediction_borders, prediction),
        (found.reference_borders, reference),
    ):
        for index in range(1, N_CLASSES + 1):
            expected = border_places(volume == index)
            np.testing.assert_array_equal(borders.voxels(index), expected)
            assert borders.count(index) == len(expected)


@given(label_pairs())
def test_cells_are_those_of_every_class_mask_alone(pair):
    prediction, reference = pair
    found = surface_elements(prediction=prediction, reference=reference, n_classes=N_CLASSES)
    for index in range(1, N_CLASSES + 1):
        codes = [cell_codes(volume == index) for volume in pair]
        mixed = [(c != 0) & (c != 255) for c in codes]
        for cells, own, is_mixed in zip(
            (found.prediction_cells, found.reference_cells), codes, mixed, strict=True
        ):
            voxels, chosen = cells.voxels(index), cells.of_class(index)
            order = np.lexsort(voxels.T[::-1])
            np.testing.assert_array_equal(voxels[order], np.argwhere(is_mixed))
            np.testing.assert_array_equal(cells.codes[chosen][order], own[is_mixed])
            shared = cells.is_shared[chosen][order]
            np.testing.assert_array_equal(shared, (mixed[0] & mixed[1])[is_mixed])


def test_empty_maps_have_no_elements():
    empty = np.zeros((0, 3, 3), dtype=np.uint8)
    found = surface_elements(prediction=empty, reference=empty, n_classes=2)
    assert found.reference_borders.starts == (0, 0, 0, 0)
    assert found.reference_cells.count(2) == 0
