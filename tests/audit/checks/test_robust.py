import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.checks.robust import gap_clusters, robust_center, robust_z

finite = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30).map(np.array)


def test_one_outlier_does_not_hide_itself():
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 9.0])
    z = robust_z(values, 0.0)
    assert z[-1] > 50
    assert np.abs(z[:-1]).max() < 2


def test_the_floor_keeps_equal_values_from_making_outliers():
    z = robust_z(np.array([1.0] * 9 + [1.0001]), 0.02)
    assert np.abs(z).max() < 0.01


def test_center_of_a_normal_sample_is_its_mean_and_deviation():
    sample = np.random.default_rng(0).normal(5.0, 2.0, 20_000)
    assert robust_center(sample, 0.0) == pytest.approx((5.0, 2.0), abs=0.06)


def test_gaps_divide():
    assert gap_clusters(np.array([3.0, 1.0, 1.05, 3.02]), 0.1).tolist() == [1, 0, 0, 1]
    assert gap_clusters(np.array([7.0]), 0.1).tolist() == [0]


@given(finite, st.floats(0.01, 10.0))
def test_clusters_are_intervals_apart(values, gap):
    clusters = gap_clusters(values, gap)
    assert clusters.min() == 0
    spans = [values[clusters == c] for c in range(int(clusters.max()) + 1)]
    assert all(span.size for span in spans)
    for low, high in itertools.pairwise(spans):
        assert high.min() - low.max() > gap
