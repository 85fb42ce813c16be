import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.reporting.grays import as_bytes, gray_range

SHAPE = (12, 10, 8)


@given(
    arrays.arrays(
        np.float32, (4, 5, 6), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
    )
)
def test_any_image_gets_a_range_and_bytes(image):
    grays = gray_range(image)
    assert grays.low < grays.high
    assert as_bytes(image, grays).shape == image.shape


def test_brighter_stays_brighter():
    image = np.linspace(-50, 300, 960, dtype=np.float32).reshape(SHAPE)
    drawn = as_bytes(image, gray_range(image)).ravel()
    assert (np.diff(drawn.astype(int)) >= 0).all()
    assert (drawn[0], drawn[-1]) == (0, 255)


def test_air_does_not_use_up_the_range():
    image = np.full(SHAPE, -1000, np.int16)
    image[2:8, 2:8, 2:7] = np.random.default_rng(0).integers(0, 100, (6, 6, 5))
    grays = gray_range(image)
    assert grays.low > -10
    assert grays.empty_up_to == pytest.approx(-500)
    assert as_bytes(image, grays)[0, 0, 0] == 0


def test_what_is_not_finite_is_black_or_white():
    image = np.zeros(SHAPE, np.float32)
    image[1:] = 100
    image[0, 0, 0], image[0, 0, 1], image[0, 0, 2] = np.nan, np.inf, -np.inf
    assert as_bytes(image, gray_range(image))[0, 0, :3].tolist() == [0, 255, 0]
