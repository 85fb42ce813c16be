import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measure.thumbnail import make_thumbnail
from pipeline.audit.measures import LEVELS

SHAPE = (24, 28, 20)


def noise(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def test_small_images_are_described_exactly():
    image = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    measures = measure_channel(image)
    assert measures.quantiles == pytest.approx(np.quantile(image, LEVELS))
    assert measures.mean == pytest.approx(image.mean())
    assert measures.std == pytest.approx(image.std())
    assert measures.minimum_share == measures.maximum_share == pytest.approx(1 / 120)
    assert measures.thumbnail == ""
    assert measure_channel(noise()).thumbnail == make_thumbnail(noise())


def test_extremes_of_large_images_are_exact_and_the_rest_is_near():
    image = noise(shape=(128, 128, 100))
    image[77, 31, 5], image[:, :, 0] = 1e6, -500.0
    measures = measure_channel(image)
    assert measures.quantiles[0] == -500.0
    assert measures.quantiles[-1] == 1e6
    assert measures.minimum_share == pytest.approx(0.01)
    assert measures.quantiles[8] == pytest.approx(np.median(image), abs=0.2)


def test_mode_and_threshold_of_air_and_body():
    image = np.full(SHAPE, -1000, dtype=np.int16)
    image[6:18, 6:18, :] = np.round(noise(shape=(12, 12, 20)))
    measures = measure_channel(image)
    assert measures.mode == -1000.0
    assert -900 < measures.body_threshold < 40


def test_few_absurd_voxels_do_not_move_mode_and_threshold():
    image = np.full(SHAPE, 0.0, dtype=np.float32)
    image[6:18, 6:18, :] = noise(shape=(12, 12, 20))
    plain = measure_channel(image)
    image[0, 0, :5] = 3e5
    assert measure_channel(image).body_threshold == pytest.approx(plain.body_threshold, rel=0.1)
    assert measure_channel(image).mode == plain.mode


def test_voxels_that_are_not_finite_are_left_out():
    image = noise()
    holed = image.copy()
    holed[:4, 0, 0] = (np.nan, np.inf, -np.inf, np.nan)
    measures = measure_channel(holed)
    assert measures.mean == pytest.approx(float(image.mean()), rel=1e-3)
    assert measures.quantiles[-1] == pytest.approx(float(np.nanmax(image)))
    nothing = measure_channel(np.full(SHAPE, np.nan, dtype=np.float32))
    assert nothing.quantiles == (0.0,) * len(LEVELS)
    assert nothing.thumbnail == ""


def test_constant_images_have_a_mode_and_no_spread():
    measures = measure_channel(np.full(SHAPE, 7, dtype=np.uint8))
    assert (measures.mode, measures.body_threshold, measures.std) == (7.0, 7.0, 0.0)
    assert measures.minimum_share == 1.0


@given(
    hnp.arrays(
        st.sampled_from([np.int16, np.uint8, np.float32, np.float64, np.int64, np.uint64]),
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=20),
    )
)
def test_any_image_gives_ordered_finite_numbers(image):
    measures = measure_channel(image)
    numbers = [measures.mean, measures.std, measures.mode, measures.body_threshold]
    assert np.isfinite([*measures.quantiles, *numbers]).all()
    assert list(measures.quantiles) == sorted(measures.quantiles)
