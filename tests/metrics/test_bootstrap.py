import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline.metrics import bootstrap
from pipeline.metrics.bootstrap import (
    column_mean,
    draw_resamples,
    group_index,
    group_sums,
    mean_interval,
    mean_intervals,
    t_interval,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def each(n):
    return [str(i) for i in range(n)]


def draws(groups, n_resamples=2000, seed=0):
    return draw_resamples(groups, n_resamples=n_resamples, rng=rng(seed))


@pytest.mark.parametrize("n", [12, 40])
def test_bca_agrees_with_scipy(n):
    values = rng(n).beta(12, 2, n)
    found = mean_interval(values[:, np.newaxis], draws(each(n), 40_000))
    expected = stats.bootstrap((values,), np.mean, n_resamples=40_000, batch=2000, rng=rng(1))
    # 40,000 resamples leave a noise of about 1 % of the half width in each bound.
    width = np.ptp(expected.confidence_interval)
    np.testing.assert_allclose(found, expected.confidence_interval, atol=0.03 * width)


def test_every_resample_draws_as_many_patients_as_there_are():
    counts = draws(["p", "q", "p", "r"], 500).counts
    assert counts.shape == (500, 3)
    assert (counts.sum(axis=1) == 3).all()
    assert abs(counts.mean() - 1) < 1e-9
    assert draws([], 10).n_groups == 0


def test_scans_of_one_patient_are_not_several_patients():
    # 6 patients with 10 nearly equal scans each know as much as 6 scans, not as 60.
    patients = rng(3).normal(0.8, 0.1, 6)
    values = np.repeat(patients, 10)[:, np.newaxis] + rng(4).normal(0, 1e-3, (60, 1))
    groups = np.repeat(each(6), 10).tolist()
    clustered = np.ptp(mean_interval(values, draws(groups)))
    alone = np.ptp(mean_interval(patients[:, np.newaxis], draws(each(6))))
    naive = np.ptp(mean_interval(values, draws(each(60))))
    assert clustered == pytest.approx(alone, rel=0.15)
    assert naive < clustered / 2


def test_a_mean_over_columns_keeps_how_classes_move_together():
    shared = rng(5).normal(0.8, 0.1, 40)
    same = np.stack([shared, shared], axis=1)
    opposite = np.stack([shared, 1.6 - shared], axis=1)
    resamples = draws(each(40))
    one = mean_interval(same[:, :1], resamples)
    assert mean_interval(same, resamples) == pytest.approx(one)
    low, high = mean_interval(opposite, resamples)
    assert high - low < 1e-9


def test_missing_values_stay_missing_within_a_resample():
    values = np.array([[0.5, math.nan], [0.7, 0.9], [math.nan, math.nan], [0.9, 0.8]])
    assert column_mean(values) == pytest.approx((0.7 + 0.85) / 2)
    sums, counts = group_sums(values, group_index(["a", "a", "b", "c"]))
    np.testing.assert_allclose(sums, [[1.2, 0.9], [0, 0], [0.9, 0.8]])
    np.testing.assert_allclose(counts, [[2, 1], [0, 0], [1, 1]])
    low, high = mean_interval(values, draws(each(4)))
    assert 0.5 <= low <= high <= 0.9


def test_nothing_to_resample_gives_no_interval():
    assert column_mean(np.full((3, 2), math.nan)) is None
    assert mean_interval(np.full((3, 1), math.nan), draws(each(3))) is None
    assert mean_interval(np.ones((3, 1)), draws(each(3), 0)) is None
    assert mean_interval(np.full((3, 1), 0.5), draws(each(3))) == (0.5, 0.5)


def test_intervals_of_all_columns_are_those_of_each(monkeypatch):
    values = rng(8).normal(size=(12, 4))
    values[::3, 1] = math.nan
    values[:, 2] = 0.25
    values[:, 3] = math.nan
    resamples = draws([str(n // 2) for n in range(12)])
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 50)
    found = mean_intervals(values, resamples)
    for column, interval in enumerate(found):
        alone = mean_interval(values[:, [column]], resamples)
        assert interval == (None if alone is None else pytest.approx(alone))
    assert found[2:] == ((0.25, 0.25), None)
    assert mean_intervals(values, draws([str(n) for n in range(12)], 0)) == (None,) * 4


def test_t_interval_is_that_of_scipy():
    values = rng(6).normal(size=9)
    expected = stats.t.interval(0.95, 8, values.mean(), stats.sem(values))
    assert t_interval(values[:, np.newaxis], draws(each(9))) == pytest.approx(expected)
    assert t_interval(values[:1, np.newaxis], draws(each(1))) is None
    assert t_interval(np.full((3, 1), math.nan), draws(each(3))) is None


def test_t_interval_is_around_the_mean_it_stands_beside():
    # Three scans of one patient and gaps in one class: the mean of patient means is another one.
    values = rng(3).normal(size=(9, 2))
    values[2:, 1] = math.nan
    low, high = t_interval(values, draws(["a", "a", "a", *"bcdefg"]))
    assert (low + high) / 2 == pytest.approx(column_mean(values))
    assert low < high


@given(
    arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats(0, 1)),
    st.integers(0, 3),
)
def test_intervals_are_ordered_finite_and_inside_the_data(values, n_missing):
    values.ravel()[:n_missing] = math.nan
    found = mean_interval(values, draws(each(len(values)), 60))
    if found is not None:
        low, high = found
        assert np.nanmin(values) - 1e-9 <= low <= high <= np.nanmax(values) + 1e-9


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    # 300 samples of 30 skewed scores; benchmarks/coverage.py has the full table.
    n_held = 0
    for seed in range(300):
        values = rng((seed, 7)).beta(12, 2, (30, 1))
        low, high = mean_interval(values, draws(each(30), 500, seed))
        n_held += low <= 12 / 14 <= high
    # 3 standard errors around the 93 % that BCa reaches with 30 cases.
    assert n_held / 300 == pytest.approx(0.93, abs=0.045)
