from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from compare_builders import agreed_runs, cases_of, run, with_distances
from hypothesis import given, settings

from pipeline.compare.agreement import agree
from pipeline.compare.comparison import CompareSettings, compare_runs
from pipeline.compare.report import render_report
from pipeline.core.errors import ConfigError, DataError, UsageError

QUICK = CompareSettings(n_bootstrap=200)
VALUES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=7, max_size=7)


def noise(seed, n=20, around=0.8):
    return np.random.default_rng(seed).normal(around, 0.02, n).round(3).tolist()


def as_region(name, cases):
    return tuple(
        replace(c, classes=tuple(replace(s, is_region=s.class_name == name) for s in c.classes))
        for c in cases
    )


def shifted(values, by):
    return [round(v + by, 3) for v in values]


def compare(runs, chosen=QUICK):
    return compare_runs(agreed_runs(runs), chosen)


def test_a_planted_difference_is_found_in_its_class_only():
    x, y = noise(0), noise(1)
    found = compare({"A": {"x": x, "y": y}, "B": {"x": shifted(x, 0.03), "y": noise(2)}})
    (mean,) = found.foreground
    of_x, of_y = found.classes
    assert (of_x.class_name, of_x.verdict) == ("x", "better")
    assert of_x.mean == pytest.approx(0.03)
    assert of_x.n_wins == 20
    assert of_y.verdict == "not shown"
    assert mean.class_name is None
    assert mean.mean == pytest.approx((of_x.mean + of_y.mean) / 2)
    assert (mean.mean_baseline, mean.mean_run) == (found.runs[0].mean, found.runs[1].mean)


def test_holm_is_over_classes_and_the_mean_is_one_test_of_its_own():
    x = noise(0)
    columns = {name: noise(n) for n, name in enumerate("abcd", start=1)}
    found = compare({"A": {"x": x, **columns}, "B": {"x": shifted(x, 0.01), **columns}})
    assert found.foreground[0].p_holm == found.foreground[0].p
    of_x = next(d for d in found.classes if d.class_name == "x")
    assert of_x.p_holm == pytest.approx(5 * of_x.p)


def test_fewer_than_six_cases_are_never_called_a_difference():
    x = noise(0, 5)
    found = compare({"A": {"x": x}, "B": {"x": shifted(x, 0.1)}})
    assert found.foreground[0].verdict == "too small"
    assert found.foreground[0].p is None
    assert "n too small" in found.conclusion
    assert "better than" not in found.conclusion


def test_many_scans_of_few_patients_are_few_patients():
    x = noise(0, 12)
    groups = {f"c{n:02d}": f"patient {n // 4}" for n in range(12)}
    grouped = CompareSettings(n_bootstrap=200, groups=groups)
    found = compare({"A": {"x": x}, "B": {"x": shifted(x, 0.1)}}, grouped)
    assert (found.n_cases, found.n_patients) == (12, 3)
    assert found.foreground[0].verdict == "too small"


def test_missed_structures_count_and_are_reported():
    x = noise(0, 8)
    found = compare({"A": {"x": ["missed", *x[1:]]}, "B": {"x": x}})
    assert [run.n_missed for run in found.runs] == [1, 0]
    assert found.foreground[0].n == 8
    assert found.foreground[0].n_wins == 1


def test_values_without_a_counterpart_are_said_to_be_left_out():
    x, y = noise(0, 8), noise(1, 7)
    found = compare({"A": {"x": x, "y": ["hallucinated", *y]}, "B": {"x": x, "y": ["absent", *y]}})
    of_y = found.classes[1]
    assert (of_y.n, of_y.n_only_baseline, of_y.n_only_run) == (7, 1, 0)
    assert [run.n_hallucinated for run in found.runs] == [1, 0]
    assert any("without a counterpart" in note for note in found.notes)


def test_mean_and_ranks_that_disagree_are_pointed_out():
    x = noise(0, 30, 0.7)
    y = ["missed", *x[1:]]
    found = compare({"A": {"x": y}, "B": {"x": shifted(x, -0.02)}})
    assert found.foreground[0].verdict == "not shown"
    assert any("a few cases with large changes" in note for note in found.notes)
    same = compare({"A": {"x": x}, "B": {"x": shifted(x, -0.02)}})
    assert same.foreground[0].t95 is None
    assert same.notes == ()


def test_more_than_two_runs_are_ranked_and_corrected_together():
    x = noise(0)
    runs = {"A": {"x": x}, "B": {"x": shifted(x, 0.02)}, "C": {"x": shifted(x, -0.02)}}
    found = compare(runs)
    assert [d.verdict for d in found.foreground] == ["better", "worse"]
    assert found.foreground[0].p_holm >= found.foreground[0].p
    assert [r.ranks for r in found.rankings] == [(2, 1, 3), (2, 1, 3)]
    assert found.rankings[0].frequencies[1] == (1, 0, 0)
    assert "B ranks first" in found.conclusion
    assert compare({k: runs[k] for k in "AB"}).rankings == ()


def test_a_metric_without_direction_or_values_is_refused():
    runs = {"A": {"x": noise(0)}, "B": {"x": noise(1)}}
    with pytest.raises(UsageError, match="neither better nor worse"):
        compare(runs, CompareSettings(metric="volume_error_ml"))
    with pytest.raises(DataError, match="A has no value of HD95"):
        compare(runs, CompareSettings(metric="hd95_mm"))
    with pytest.raises(ConfigError, match="unknown metric"):
        compare(runs, CompareSettings(metric="dise"))
    with pytest.raises(ConfigError, match="policy"):
        compare(runs, CompareSettings(policy="lenient"))


@settings(max_examples=25)
@given(VALUES, VALUES)
def test_swapping_the_runs_swaps_the_verdict(a, b):
    forth = compare({"A": {"x": a}, "B": {"x": b}}).foreground[0]
    back = compare({"B": {"x": b}, "A": {"x": a}}).foreground[0]
    opposite = {"better": "worse", "worse": "better"}
    assert back.verdict == opposite.get(forth.verdict, forth.verdict)
    assert back.mean == pytest.approx(-forth.mean, abs=1e-12)
    assert back.p_holm == pytest.approx(forth.p_holm)


@settings(max_examples=25)
@given(VALUES)
def test_a_run_against_its_copy_is_no_difference(a):
    found = compare({"A": {"x": a}, "B": {"x": a}}).foreground[0]
    assert (found.verdict, found.mean, found.n_ties, found.p) == ("not shown", 0, 7, 1)


def test_the_result_is_reproducible():
    runs = {"A": {"x": noise(0)}, "B": {"x": noise(1)}}
    assert compare(runs) == compare(runs)


def test_regions_are_compared_but_in_no_foreground_mean():
    x, y = noise(0), noise(1)
    runs = [
        run("A", as_region("whole", cases_of(x=x, y=y, whole=x))),
        # A table of an earlier version does not say which rows are regions.
        run("B", cases_of(x=shifted(x, 0.02), y=shifted(y, 0.02), whole=shifted(x, -0.1))),
    ]
    agreed = agree(runs, is_common_enough=False)
    found = compare_runs(agreed, QUICK)
    assert found.region_names == ("whole",)
    assert found.foreground[0].mean == pytest.approx(0.02)
    assert [(d.class_name, d.verdict) for d in found.classes][2] == ("whole", "worse")
    assert "mean over 2 classes" in found.conclusion
    assert "c00" in render_report(found, agreed)


def distances(*columns, tolerances_mm=(2.0, 2.0)):
    """Runs A and B with one class and these HD95, in mm; None is a missed structure."""
    found = [
        run(label, with_distances("x", column, tolerance_mm=mm))
        for label, column, mm in zip("AB", columns, tolerances_mm, strict=True)
    ]
    return agree(found, is_common_enough=False)


def test_a_run_does_not_win_by_missing_the_hard_cases():
    near, far = [3.0 + n / 10 for n in range(12)], [None] * 3
    agreed = distances([n + 0.5 for n in near] + [40.0] * 3, near + far)
    by_hd95 = compare_runs(agreed, CompareSettings(metric="hd95_mm", n_bootstrap=200))
    (found,) = by_hd95.foreground
    assert (found.n, found.n_only_baseline, found.mean) == (12, 3, pytest.approx(-0.5))
    # The means are those of the difference, not of the cases each run happened to find.
    assert found.mean_run - found.mean_baseline == pytest.approx(found.mean)
    assert found.p_holm < 0.05
    assert found.verdict == "not shown"
    assert found.mean_with_failures > 0
    assert "gone when these count as the worst" in by_hd95.conclusion
    assert "3 values of A and 0 of B" in by_hd95.conclusion
    assert "is better than" not in by_hd95.conclusion
    # With no failure the same distances are a difference.
    alike = compare_runs(
        distances([n + 0.5 for n in near], near), CompareSettings(metric="hd95_mm", n_bootstrap=200)
    )
    assert alike.foreground[0].verdict == "better"


def test_hallucinating_where_the_other_run_is_rightly_silent_is_no_advantage():
    x = noise(0, 12)
    silent, noisy = ["absent"] * 3, ["hallucinated"] * 3
    found = compare({"A": {"x": x + silent}, "B": {"x": shifted(x, 0.02) + noisy}})
    assert (found.foreground[0].verdict, found.foreground[0].p_holm < 0.05) == ("not shown", True)
    # Policies that leave these cases out for every run do so here as well.
    found = compare(
        {"A": {"x": x + silent}, "B": {"x": shifted(x, 0.02) + noisy}},
        CompareSettings(n_bootstrap=200, policy="totalseg"),
    )
    assert found.foreground[0].verdict == "better"


def test_surface_dice_at_different_tolerances_is_refused():
    agreed = distances([3.0] * 8, [3.0] * 8, tolerances_mm=(1.0, 3.0))
    with pytest.raises(DataError, match="not measured by one rule") as raised:
        compare_runs(agreed, CompareSettings(metric="nsd"))
    assert "A within 1 mm, B within 3 mm" in raised.value.where
    assert compare_runs(agreed, QUICK).foreground[0].verdict == "not shown"


def test_two_cases_have_no_interval():
    found = compare({"A": {"x": [0.5, 0.6]}, "B": {"x": [0.6, 0.7]}})
    assert [run.ci95 for run in found.runs] == [None, None]


def test_few_patients_have_a_t_interval_beside():
    x = noise(0, 9)
    found = compare({"A": {"x": x}, "B": {"x": shifted(noise(2, 9), 0.1)}}).foreground[0]
    assert found.t95[0] < found.ci95[0]
    assert found.ci95[1] < found.t95[1]
