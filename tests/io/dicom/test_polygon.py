import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from pipeline.io.dicom.polygon import fill_even_odd

SQUARE = np.array([[1.5, 1.5], [6.5, 1.5], [6.5, 5.5], [1.5, 5.5]])


def star(seed, n=11, center=(10.2, 9.7)):
    """A polygon that crosses itself nowhere."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    radii = rng.uniform(2, 9, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None] + center


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 40))
def test_voxel_centers_inside_agree_with_matplotlib(seed, n):
    polygon = star(seed, n)
    centers = np.stack(np.meshgrid(np.arange(20), np.arange(18), indexing="ij"), axis=-1)
    outline = Outline(np.vstack([polygon, polygon[:1]]), closed=True)
    expected = outline.contains_points(centers.reshape(-1, 2)).reshape(20, 18)
    np.testing.assert_array_equal(fill_even_odd([polygon], (20, 18)), expected)


@given(seed=st.integers(0, 1000), shift=st.integers(-5, 5), turn=st.integers(0, 10))
def test_start_and_direction_of_a_contour_do_not_matter(seed, shift, turn):
    polygon = star(seed)
    mask = fill_even_odd([polygon], (20, 20))
    np.testing.assert_array_equal(fill_even_odd([np.roll(polygon, turn, 0)], (20, 20)), mask)
    np.testing.assert_array_equal(fill_even_odd([polygon[::-1]], (20, 20)), mask)
    moved = fill_even_odd([polygon + np.array([shift, 0])], (30, 20))
    np.testing.assert_array_equal(moved[max(shift, 0) : 20 + shift], mask[max(-shift, 0) :])


def test_a_polygon_within_another_is_a_hole():
    mask = fill_even_odd(
        [SQUARE, np.array([[3.5, 2.5], [4.5, 2.5], [4.5, 4.5], [3.5, 4.5]])], (8, 8)
    )
    expected = np.zeros((8, 8), bool)
    expected[2:7, 2:6] = True
    expected[4, 3:5] = False
    np.testing.assert_array_equal(mask, expected)


def test_a_keyhole_is_a_hole():
    keyhole = np.array(
        [
            *([1.5, 1.5], [6.5, 1.5], [6.5, 3.5], [4.5, 3.5], [4.5, 2.5], [3.5, 2.5], [3.5, 4.5]),
            *([4.5, 4.5], [4.5, 3.5], [6.5, 3.5], [6.5, 5.5], [1.5, 5.5]),
        ]
    )
    mask = fill_even_odd([keyhole], (8, 8))
    assert not mask[4, 3:5].any()
    assert mask.sum() == 5 * 4 - 2


def test_neighbors_with_an_edge_through_voxel_centers_share_no_voxel():
    left = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 6.0], [0.0, 6.0]])
    both = [fill_even_odd([left + np.array([shift, 0])], (10, 8)) for shift in (0, 4)]
    assert not np.any(both[0] & both[1])
    assert np.count_nonzero(both[0] | both[1]) == 8 * 6


@pytest.mark.parametrize("offset", [-100, 100, -1e12, 1e12])
def test_what_lies_beyond_the_grid_is_cut_off(offset):
    assert not fill_even_odd([SQUARE + np.array([offset, 0])], (8, 8)).any()
    assert not fill_even_odd([SQUARE + np.array([0, offset])], (8, 8)).any()


def test_a_polygon_around_the_grid_fills_it():
    assert fill_even_odd([(SQUARE - 4) * 1e6], (8, 8)).all()


@pytest.mark.parametrize("n", [1, 2])
def test_points_and_lines_enclose_nothing(n):
    assert not fill_even_odd([SQUARE[:n]], (8, 8)).any()
