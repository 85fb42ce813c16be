import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from pipeline.core.errors import DataError, GeometryError
from pipeline.metrics.calibration import N_BINS, calibration_bins

PROBABILITIES = hnp.arrays(np.float32, 30, elements=st.floats(0, 1, width=32))
RIGHT = hnp.arrays(np.bool_, 30)


def bins(probabilities, is_right):
    return calibration_bins(
        probabilities=np.asarray(probabilities), is_right=np.asarray(is_right, dtype=bool)
    )


def test_by_hand():
    # Two voxels at 0.9, one right; two at 0.5, both right.
    found = bins([0.9, 0.9, 0.5, 0.5], [True, False, True, True])
    assert found.error == pytest.approx((2 * 0.4 + 2 * 0.5) / 4)


def test_right_as_often_as_promised_is_no_error():
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000)
    assert bins(probabilities, rng.random(200_000) < probabilities).error < 0.01
    assert bins(probabilities, rng.random(200_000) < probabilities**3).error > 0.1


@given(PROBABILITIES, RIGHT, st.integers(0, 30))
def test_parts_add_up_to_the_whole(probabilities, is_right, cut):
    parts = bins(probabilities[:cut], is_right[:cut]) + bins(probabilities[cut:], is_right[cut:])
    whole = bins(probabilities, is_right)
    assert parts.error == pytest.approx(whole.error)
    assert whole.n_voxels.sum() == 30
    assert whole.n_voxels.size == N_BINS
    assert 0 <= whole.error <= 1


def test_the_ends_of_the_range_and_nothing():
    assert bins([0.0, 1.0], [False, True]).error == 0
    assert bins([0.0, 1.0], [True, False]).error == 1
    assert bins(np.zeros(0), np.zeros(0, bool)).error is None
    # Softmax in half precision may pass 1 by rounding.
    assert bins(np.array([1.0005], dtype=np.float32), [True]).error == 0


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(DataError):
        bins([value], [True])


def test_shapes_must_agree():
    with pytest.raises(GeometryError):
        bins([0.5, 0.5], [True])
