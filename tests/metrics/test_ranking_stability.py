import math

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.metrics.bootstrap import draw_resamples
from pipeline.metrics.ranking_stability import rank_runs, with_worst

METHODS = ("aggregate_then_rank", "rank_then_aggregate")


def rank(values, method="aggregate_then_rank", *, is_higher_better=True, n_resamples=300):
    values = np.asarray(values, dtype=float)
    resamples = draw_resamples(
        [str(i) for i in range(len(values))],
        n_resamples=n_resamples,
        rng=np.random.default_rng(0),
    )
    return rank_runs(values, resamples, method=method, is_higher_better=is_higher_better)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_always_best_is_first_in_every_resample(method):
    values = np.random.default_rng(0).uniform(0.5, 0.6, (12, 3)) + np.array([0.0, 0.3, -0.3])
    found = rank(values, method)
    assert found.ranks == (2, 1, 3)
    assert found.frequencies == ((0, 1, 0), (1, 0, 0), (0, 0, 1))
    assert (found.kendall_tau, found.kendall_tau_low) == (1, 1)


def test_the_two_ways_to_rank_can_disagree():
    # Run 1 fails once and is better otherwise.
    values = [[0.9, 0.8]] * 4 + [[0.0, 0.8]]
    assert rank(values, "aggregate_then_rank").ranks == (2, 1)
    assert rank(values, "rank_then_aggregate").ranks == (1, 2)
    assert rank(values, "rank_then_aggregate").values == pytest.approx((1.2, 1.8))
    assert rank(values, "aggregate_then_rank").values == pytest.approx((0.72, 0.8))


def test_equal_runs_share_a_rank_and_shares_add_up():
    found = rank([[0.7, 0.7, 0.2]] * 6)
    assert found.ranks == (1, 1, 3)
    # Runs that tie have no order that resampling could keep or turn around.
    assert found.kendall_tau == 1
    assert rank([[0.7, 0.7]] * 6).kendall_tau is None
    noisy = rank(np.random.default_rng(1).uniform(size=(8, 4)))
    for shares in noisy.frequencies:
        assert sum(shares) == pytest.approx(1)
    assert -1 <= noisy.kendall_tau_low <= noisy.kendall_tau <= 1


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_value_is_the_worst(method):
    nan = math.nan
    assert rank([[0.3, nan], [0.3, 0.35], [0.3, 0.35]], method="aggregate_then_rank").ranks == (
        1,
        2,
    )
    found = rank([[5.0, nan], [6.0, nan]], method, is_higher_better=False)
    assert found.ranks == (1, 2)
    filled = with_worst(np.array([[0.5, nan], [nan, nan]]))
    np.testing.assert_array_equal(filled, [[0.5, 0.0], [nan, nan]])


def test_lower_is_better_for_distances():
    found = rank([[3.0, 1.0], [4.0, 2.0]], is_higher_better=False)
    assert found.ranks == (2, 1)
    assert found.values == pytest.approx((3.5, 1.5))


def test_without_resamples_there_is_a_ranking_but_no_stability():
    found = rank([[0.1, 0.2]], n_resamples=0)
    assert found.ranks == (2, 1)
    assert found.kendall_tau is None
    assert found.frequencies == ((), ())


def test_nothing_to_rank_is_refused():
    with pytest.raises(DataError, match="no run has any value"):
        rank([[math.nan, math.nan]])
