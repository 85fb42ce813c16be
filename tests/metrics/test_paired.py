import math
from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline.metrics.bootstrap import draw_resamples
from pipeline.metrics.paired import (
    holm,
    paired_difference,
    rank_biserial,
    sign_flip_p,
    wilcoxon_p,
)

SCORES = arrays(np.float64, st.tuples(st.just(8), st.just(2)), elements=st.floats(0, 1, width=32))


def rng(seed=0):
    return np.random.default_rng(seed)


def compare(a, b, *, groups=None, is_higher_better=True, n_resamples=500):
    a, b = (np.asarray(x, dtype=float).reshape(len(x), -1) for x in (a, b))
    groups = groups or [str(i) for i in range(len(a))]
    resamples = draw_resamples(groups, n_resamples=n_resamples, rng=rng())
    return paired_difference(a, b, resamples, is_higher_better=is_higher_better, rng=rng())


def brute_force(differences):
    observed = abs(np.mean(differences))
    flipped = [
        abs(np.mean(np.multiply(s, differences))) for s in product((-1, 1), repeat=len(differences))
    ]
    return np.mean([f >= observed - 1e-12 for f in flipped])


@pytest.mark.parametrize("n", [1, 4, 9])
def test_exact_sign_flip_equals_brute_force(n):
    differences = rng(n).normal(0.3, 1, n)
    p, is_exact = sign_flip_p(differences, rng())
    assert is_exact
    assert p == pytest.approx(brute_force(differences))


def test_exact_sign_flip_with_ties_and_equal_sizes():
    differences = np.array([0.1, 0.1, -0.1, 0.0, 0.2, 0.0])
    assert sign_flip_p(differences, rng())[0] == pytest.approx(brute_force(differences))
    assert sign_flip_p(np.zeros(5), rng()) == (1.0, True)


def test_drawn_sign_flip_agrees_with_scipy_and_is_never_zero():
    differences = rng(1).normal(0.15, 0.5, 40)
    p, is_exact = sign_flip_p(differences, rng())
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=rng(2)
    )
    assert not is_exact
    # Two samples of 10,000 and 20,000 draws of a share near p.
    assert p == pytest.approx(expected.pvalue, abs=4 * math.sqrt(p / 10_000) + 2e-4)
    assert sign_flip_p(np.ones(60), rng())[0] == pytest.approx(1 / 10_001)


def test_the_smallest_p_of_five_patients_is_above_five_percent_hence_too_small():
    five = compare([0.1] * 5, [0.9] * 5)
    assert five.is_too_small
    assert (five.p_sign_flip, five.p_wilcoxon) == (None, None)
    assert five.mean == pytest.approx(0.8)
    six = compare(np.zeros(6), np.linspace(0.1, 0.6, 6))
    assert not six.is_too_small
    assert six.p_sign_flip == pytest.approx(2 / 2**6)
    assert six.p_wilcoxon == pytest.approx(2 / 2**6)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1, then never decreasing.
    assert holm([0.04, 0.01, None, 0.03, 0.02]) == pytest.approx((0.06, 0.04, None, 0.06, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([0.5, 0.001, 0.012]) == pytest.approx((0.5, 0.003, 0.024))
    assert holm([]) == ()


def test_wilcoxon_is_scipys_with_ties_split():
    differences = rng(4).normal(0.2, 1, 30)
    differences[:5] = 0
    expected = stats.wilcoxon(np.round(differences, 12), zero_method="zsplit").pvalue
    assert wilcoxon_p(differences) == pytest.approx(expected)
    assert wilcoxon_p(np.zeros(9)) == 1.0


def test_rank_biserial_by_hand():
    # Ranks 1, 2, 3 of .1, .2, .3; the zero is left out: (2 + 3 - 1) / 6.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3, 0.0])) == pytest.approx(4 / 6)
    assert rank_biserial(np.array([0.1, 0.2])) == 1.0
    assert rank_biserial(np.zeros(3)) == 0.0


def test_counts_and_direction():
    a, b = [0.5, 0.5, 0.5, 0.5], [0.6, 0.5, 0.4, 0.7]
    up = compare(a, b)
    assert (up.n, up.n_wins, up.n_ties, up.n_losses) == (4, 2, 1, 1)
    assert up.mean == pytest.approx(0.05)
    down = compare(a, b, is_higher_better=False)
    assert (down.n_wins, down.n_losses) == (1, 2)
    assert down.mean == up.mean
    assert down.rank_biserial == -up.rank_biserial


def test_what_only_one_run_has_is_counted_and_in_no_difference():
    nan = math.nan
    found = compare([0.5, nan, 0.5, nan], [0.7, 0.9, nan, nan])
    assert (found.n, found.n_only_a, found.n_only_b) == (1, 1, 1)
    assert found.mean == pytest.approx(0.2)
    nothing = compare([nan, nan], [nan, 0.1])
    assert nothing.n == 0
    assert (nothing.mean, nothing.ci95, nothing.rank_biserial) == (None, None, None)


def test_scans_of_a_patient_flip_together():
    # 8 scans of 2 patients: 8 signs would give p = 2 / 2**8, two patients cannot show anything.
    found = compare(np.zeros(8), np.linspace(0.1, 0.2, 8), groups=["p"] * 4 + ["q"] * 4)
    assert (found.n, found.n_patients, found.is_too_small) == (8, 2, True)
    assert found.p_sign_flip is None
    many = compare(np.zeros(14), np.full(14, 0.1), groups=[str(i // 2) for i in range(14)])
    assert many.n_patients == 7
    assert many.p_sign_flip == pytest.approx(2 / 2**7)


def test_the_foreground_mean_is_the_mean_of_class_means():
    nan = math.nan
    a = np.zeros((6, 2))
    b = np.array([[0.1, nan], [0.2, nan], [0.1, nan], [0.2, nan], [0.1, 0.3], [0.2, 0.5]])
    found = compare(a, b)
    assert found.mean == pytest.approx((0.15 + 0.4) / 2)
    assert found.n_wins == 6
    low, high = found.ci95
    assert low <= found.mean <= high


@given(SCORES, SCORES)
def test_swapping_the_runs_turns_everything_around(a, b):
    forth, back = compare(a, b), compare(b, a)
    assert back.mean == pytest.approx(-forth.mean, abs=1e-12)
    assert back.median == pytest.approx(-forth.median, abs=1e-12)
    assert back.rank_biserial == pytest.approx(-forth.rank_biserial)
    assert (back.n_wins, back.n_ties, back.n_losses) == (
        forth.n_losses,
        forth.n_ties,
        forth.n_wins,
    )
    assert back.p_sign_flip == pytest.approx(forth.p_sign_flip)
    assert back.p_wilcoxon == pytest.approx(forth.p_wilcoxon)


@given(SCORES, SCORES, st.permutations(range(8)))
def test_the_order_of_cases_does_not_matter(a, b, order):
    found, again = compare(a, b), compare(a[order], b[order])
    assert again.mean == pytest.approx(found.mean)
    assert again.p_sign_flip == pytest.approx(found.p_sign_flip)
    assert (again.n_wins, again.n_losses) == (found.n_wins, found.n_losses)


@given(SCORES, SCORES)
def test_a_shift_of_both_runs_changes_nothing(a, b):
    found, again = compare(a, b), compare(a + 0.25, b + 0.25)
    assert again.mean == pytest.approx(found.mean, abs=1e-9)
    assert again.p_sign_flip == pytest.approx(found.p_sign_flip)


@given(SCORES)
def test_a_run_against_itself_shows_nothing(a):
    found = compare(a, a)
    assert found.mean == 0
    assert found.ci95 == (0, 0)
    assert found.p_sign_flip == 1
    assert found.p_wilcoxon == 1
    assert found.n_ties == found.n == 8


def test_sign_flip_keeps_its_level():
    # 600 comparisons of nothing, 10 patients: 5 % +- 3 standard errors of false alarms.
    alarms = [sign_flip_p(rng(seed).standard_t(3, 10), rng())[0] <= 0.05 for seed in range(600)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.027)
