import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from pipeline.core.errors import ConfigError
from pipeline.core.seeds import generator_for
from pipeline.metrics.aggregate import interval, mean_foreground_dice, patients_of, summarize
from pipeline.metrics.overlap import OverlapScores, Score
from pipeline.metrics.policy import POLICIES, policy_named
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.surface import SurfaceScores


def scores(name, tp, fp, fn):
    return OverlapScores(name, tp, fp, fn, voxel_ml=0.001)


# Dice .8 and .6 for a; b is 1.0, missed; c is absent, hallucinated; d is absent everywhere.
CASES = (
    CaseScores(
        "one",
        (scores("a", 4, 1, 1), scores("b", 3, 0, 0), scores("c", 0, 0, 0), scores("d", 0, 0, 0)),
    ),
    CaseScores(
        "two",
        (scores("a", 3, 2, 2), scores("b", 0, 0, 5), scores("c", 0, 7, 0), scores("d", 0, 0, 0)),
    ),
)
NAMES = ("a", "b", "c", "d")


def rng():
    return generator_for(0, "test")


def test_foreground_means_of_all_policies_by_hand():
    expected = {
        "strict": (0.7 + 0.5 + 0.0) / 3,
        "nnunet": None,  # d has no value: nnU-Net writes NaN
        "kits": (0.7 + 0.5 + 0.5 + 1.0) / 4,
        "brats": (0.7 + 0.5 + 0.5 + 1.0) / 4,
        "monai": ((0.8 + 1.0) / 2 + (0.6 + 0.0) / 2) / 2,
        "totalseg": (0.7 + 0.5) / 2,
    }
    found = summarize(CASES, NAMES, n_bootstrap=0).mean_foreground_dice_policies
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name


def test_nnunet_equals_strict_when_every_class_has_a_value():
    means = summarize(CASES, NAMES[:3], n_bootstrap=0).mean_foreground_dice_policies
    assert means["nnunet"] == means["strict"] == pytest.approx(0.4)


def test_counts_stand_beside_the_means():
    summary = summarize(CASES, NAMES, n_bootstrap=0)
    b, c, d = (summary.classes[name] for name in "bcd")
    assert (b.n_missed, b.n_hallucinated, b.n_absent) == (1, 0, 0)
    assert (c.n_missed, c.n_hallucinated, c.n_absent) == (0, 1, 1)
    assert (c.dice.n, c.dice.n_undefined, c.dice.mean) == (1, 1, 0.0)
    assert (d.dice.n, d.dice.n_undefined, d.dice.mean, d.dice.median) == (0, 2, None, None)
    assert c.volume_error_ml.mean == pytest.approx(0.007)
    assert summary.n_cases == 2


def test_the_chosen_policy_shapes_the_classes_and_the_headline():
    summary = summarize(CASES, NAMES, policy="kits", n_bootstrap=0)
    assert summary.policy == "kits"
    assert summary.classes["d"].dice.mean == 1.0
    assert summary.mean_foreground_dice == summary.mean_foreground_dice_policies["kits"]


def test_monai_gives_a_class_without_values_zero_and_says_n_is_zero():
    dice = summarize(CASES, NAMES, policy="monai", n_bootstrap=0).classes["d"].dice
    assert (dice.mean, dice.n) == (0.0, 0)


def test_no_cases_give_no_numbers():
    summary = summarize((), NAMES)
    assert summary.n_cases == 0
    assert summary.mean_foreground_dice is None
    assert summary.classes["a"].dice.mean is None


def test_a_case_without_a_class_is_not_a_value():
    missing = CaseScores("three", (scores("a", 0, 0, 9),))
    summary = summarize((*CASES, missing), NAMES, policy="kits", n_bootstrap=0)
    # Nothing was predicted for the third case, so its absent classes earn no 1.
    assert summary.classes["d"].dice.n == 2
    assert summary.classes["a"].n_missed == 1


def test_an_unknown_policy_is_refused():
    with pytest.raises(ConfigError):
        summarize(CASES, NAMES, policy="lenient")


def test_no_number_is_ever_nan():
    for policy in POLICIES:
        text = summarize(CASES, NAMES, policy=policy.name, n_bootstrap=200).model_dump_json()
        assert "NaN" not in text
        assert "Infinity" not in text


@given(st.permutations(CASES))
def test_the_order_of_cases_does_not_matter(cases):
    for policy in POLICIES:
        assert mean_foreground_dice(cases, NAMES, policy) == pytest.approx(
            mean_foreground_dice(CASES, NAMES, policy)
        )


def test_intervals_need_three_values():
    assert interval([0.1, None, 0.9], n_bootstrap=100, rng=rng()).ci95 is None
    assert interval([0.1, 0.5, 0.9], n_bootstrap=100, rng=rng()).ci95 is not None
    assert interval([0.1, 0.5, 0.9], n_bootstrap=0, rng=rng()).ci95 is None


def test_equal_values_have_an_interval_without_width():
    assert interval([0.5] * 5, n_bootstrap=100, rng=rng()).ci95 == (0.5, 0.5)


def test_the_interval_is_reproducible_and_near_the_t_interval():
    values = np.random.default_rng(0).normal(0.8, 0.05, 60).tolist()
    first, second = (interval(values, n_bootstrap=5000, rng=rng()).ci95 for _ in range(2))
    assert first == second
    mean, error = np.mean(values), stats.sem(values)
    expected = stats.t.interval(0.95, 59, mean, error)
    # BCa of a normal sample of 60 agrees with Student's t to a tenth of its half width.
    np.testing.assert_allclose(first, expected, atol=0.2 * error)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=12))
def test_intervals_never_warn_and_hold_only_finite_numbers(values):
    found = interval(values, n_bootstrap=50, rng=rng())
    assert found.n + found.n_undefined == len(values)
    if found.ci95 is not None:
        low, high = found.ci95
        assert math.isfinite(low)
        assert low <= high
        assert min(v for v in values if v is not None) - 1e-9 <= low
        assert high <= max(v for v in values if v is not None) + 1e-9


def test_policies_are_applied_without_scoring_again():
    strict = summarize(CASES, NAMES, policy="strict", n_bootstrap=0)
    for policy in POLICIES:
        again = summarize(CASES, NAMES, policy=policy.name, n_bootstrap=0)
        assert again.mean_foreground_dice == strict.mean_foreground_dice_policies[policy.name]
        assert policy_named(policy.name) is policy


@given(st.lists(st.tuples(*[st.tuples(*[st.integers(0, 5)] * 3)] * 2), min_size=1, max_size=6))
def test_nnunet_policy_is_nanmean_per_class_then_plain_mean(counts):
    names = ("a", "b")
    cases = [
        CaseScores(str(n), tuple(scores(c, *row) for c, row in zip(names, rows, strict=True)))
        for n, rows in enumerate(counts)
    ]
    tp, fp, fn = np.moveaxis(np.array(counts, dtype=float), -1, 0)
    whole = 2 * tp + fp + fn
    dice = np.divide(2 * tp, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    is_undefined = np.isnan(dice).all(axis=0).any()
    found = summarize(cases, names, n_bootstrap=0).mean_foreground_dice_policies["nnunet"]
    assert found == (None if is_undefined else pytest.approx(np.nanmean(dice, axis=0).mean()))


def test_a_t_interval_stands_beside_that_of_few_patients_only():
    few, many = (np.linspace(0.5, 0.9, n).tolist() for n in (12, 25))
    found = interval(few, n_bootstrap=500, rng=rng())
    low, high = stats.t.interval(0.95, 11, np.mean(few), stats.sem(few))
    assert found.t95 == pytest.approx((low, high))
    assert found.t95[0] < found.ci95[0] < found.ci95[1] < found.t95[1]
    assert interval(many, n_bootstrap=500, rng=rng()).t95 is None
    assert interval([0.1, 0.2], n_bootstrap=500, rng=rng()).t95 is None


def test_fewer_than_ten_patients_are_flagged():
    assert interval([0.1] * 9, n_bootstrap=0, rng=rng()).is_small
    assert not interval([0.1] * 10, n_bootstrap=0, rng=rng()).is_small
    scans = interval([0.1] * 30, n_bootstrap=0, rng=rng(), groups=["p", "q", "r"] * 10)
    assert scans.is_small
    assert (scans.n, scans.n_patients) == (30, 3)


def test_intervals_resample_patients_not_scans():
    values = np.random.default_rng(1).normal(0.8, 0.1, 8)
    cases = tuple(
        CaseScores(f"{n}_{scan}", (scores("a", round(1000 * v), 1000, 0),))
        for n, v in enumerate(values)
        for scan in range(5)
    )
    groups = {case.case_id: case.case_id[0] for case in cases}
    naive = summarize(cases, ("a",), n_bootstrap=2000).classes["a"].dice
    honest = summarize(cases, ("a",), n_bootstrap=2000, groups=groups).classes["a"].dice
    assert honest.mean == naive.mean
    assert (honest.n, honest.n_patients, naive.n_patients) == (40, 8, None)
    assert np.ptp(honest.ci95) > 1.7 * np.ptp(naive.ci95)


def test_a_case_that_no_group_names_is_a_patient_of_its_own():
    assert patients_of(CASES, {"one": "two"}) == ["patient two", "case two"]
    assert patients_of(CASES, None) == ["case one", "case two"]


def test_metrics_that_were_not_computed_are_not_there():
    found = summarize(CASES, NAMES, n_bootstrap=0).classes["a"]
    assert (found.hd95_mm, found.nsd, found.lesion_f1) == (None, None, None)
    assert found.precision.mean == pytest.approx((0.8 + 0.6) / 2)
    assert found.volume_error_percent.mean == 0
    near = SurfaceScores("a", *_distances("ok", 2.0), 1.0, 50, 50, 100.0)
    far = SurfaceScores("a", *_distances("missed", None), 1.0, 50, 0, 100.0)
    cases = (
        CaseScores("one", CASES[0].classes, surfaces=(near,)),
        CaseScores("two", (scores("a", 0, 0, 5),), surfaces=(far,)),
    )
    found = summarize(cases, ("a",), n_bootstrap=0).classes["a"]
    # A missed structure is not counted as a perfect distance: it is left out, or penalized.
    assert (found.hd95_mm.mean, found.hd95_mm.n, found.hd95_mm.n_undefined) == (2.0, 1, 1)
    assert found.hd95_penalized_mm.mean == pytest.approx((2 + 100) / 2)


def _distances(status, value):
    nsd = 1.0 if status == "ok" else 0.0
    return Score(value, status), Score(value, status), Score(nsd, status)


def test_cases_in_which_nobody_drew_a_class_are_counted_apart():
    open_case = CaseScores("three", (scores("a", 1, 0, 0),), not_annotated=("b", "c", "d"))
    before, after = (summarize(cases, NAMES) for cases in (CASES, (*CASES, open_case)))
    assert after.n_cases == 3
    for name in ("b", "c", "d"):
        one, two = before.classes[name], after.classes[name]
        assert two.n_not_annotated == 1
        assert two.model_copy(update={"n_not_annotated": 0}) == one
    assert after.classes["a"].n_not_annotated == 0
    assert after.classes["a"].dice.n == 3
