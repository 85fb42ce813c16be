"""Where the patient is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.transforms.body import MARGIN_MM, body_box, whole_box

WIDE = Normalization(kind="ct", lower=-1000.0, upper=1000.0, mean=100.0, std=250.0)
NARROW = Normalization(kind="ct", lower=-100.0, upper=240.0, mean=90.0, std=40.0)
MASKED = Normalization(kind="zscore_nonzero")


def recipe(*normalizations, spacing_mm=(2.0, 2.0, 4.0)):
    return Preprocessing(spacing_mm=spacing_mm, normalizations=normalizations)


def prepared(intensity, normalization):
    clipped = np.clip(intensity, normalization.lower, normalization.upper)
    return ((clipped - normalization.mean) / normalization.std).astype(np.float32)[None]


@pytest.mark.parametrize("normalization", [WIDE, NARROW])
def test_ct_ends_a_margin_beyond_the_skin(normalization):
    rng = np.random.default_rng(0)
    air = rng.normal(-1000, 30, size=(80, 70, 60))
    air[30:50, 20:41, 25:30] = rng.normal(40, 20, size=(20, 21, 5))
    # Air inside the body is no outside.
    air[35:40, 30:35, 26:28] = -900
    i, j, k = body_box(prepared(air, normalization), recipe(normalization))
    assert MARGIN_MM == 20
    assert (i, j, k) == (slice(20, 60), slice(10, 51), slice(20, 35))


def test_a_masked_image_ends_a_margin_beyond_the_mask():
    image = np.zeros((2, 60, 50, 40), dtype=np.float32)
    image[0, 20:30, 30:35, 10:20] = -2
    image[1, 25:32, 30:35, 10:20] = 1.5
    image += 1e-5  # what resampling leaves around zeros
    i, j, k = body_box(image, recipe(MASKED, MASKED))
    assert (i, j, k) == (slice(10, 42), slice(20, 45), slice(5, 25))


def test_where_air_is_not_known_everything_is_visited():
    image = np.zeros((2, 6, 5, 4), dtype=np.float32)
    image[:, 2, 2, 2] = 9
    whole = whole_box((6, 5, 4))
    assert body_box(image[:1], recipe(Normalization(kind="zscore"))) == whole
    assert body_box(image, recipe(MASKED, Normalization(kind="zscore"))) == whole


def test_an_image_of_air_is_visited_as_a_whole():
    air = np.full((6, 5, 4), -1000.0)
    assert body_box(prepared(air, WIDE), recipe(WIDE)) == whole_box((6, 5, 4))


def test_intensities_with_an_offset_are_no_reason_to_crop():
    shifted = np.full((60, 50, 40), 24.0)
    shifted[20:30, 20:30, 20:30] = 1064.0
    box = body_box(prepared(shifted, WIDE), recipe(WIDE))
    assert box == whole_box((60, 50, 40))


@given(st.lists(st.tuples(*[st.integers(0, 19)] * 3), min_size=1, max_size=5))
def test_every_voxel_of_tissue_is_inside(places):
    image = np.full((20, 20, 20), -1000.0)
    for place in places:
        image[place] = 30.0
    box = body_box(prepared(image, WIDE), recipe(WIDE, spacing_mm=(8.0, 8.0, 8.0)))
    outside = np.ones(image.shape, dtype=bool)
    outside[box] = False
    assert not (image[outside] > 0).any()
