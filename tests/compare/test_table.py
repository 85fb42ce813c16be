import math

import numpy as np
from compare_builders import agreed_runs

from pipeline.compare.table import count_status, tabulate, values_to_rank
from pipeline.metrics.policy import policy_named
from pipeline.metrics.values import metric_named

NAN = math.nan


def table_of(runs, policy="strict"):
    return tabulate(agreed_runs(runs), metric_named("dice"), policy_named(policy))


def test_values_follow_the_policy_and_failures_are_marked():
    runs = {
        "A": {"x": [0.5, "missed"], "y": ["absent", 0.25]},
        "B": {"x": [0.75, 0.5], "y": ["hallucinated", 0.5]},
    }
    table = table_of(runs)
    np.testing.assert_array_equal(table.values[0], [[0.5, NAN], [0, 0.25]])
    np.testing.assert_array_equal(table.values[1], [[0.75, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(table.is_failure[0], [[False, False], [True, False]])
    np.testing.assert_array_equal(table.is_failure[1], [[False, True], [False, False]])
    assert table_of(runs, "kits").values[0, 0, 1] == 1


def test_a_case_nobody_predicted_counts_as_missed_never_dropped():
    runs = {"A": {"x": ["missed", 0.5]}, "B": {"x": [0.5, 0.5]}}
    np.testing.assert_array_equal(table_of(runs).values[0, :, 0], [0, 0.5])
    agreed = agreed_runs(runs)
    assert count_status(agreed.runs[0], ("x",), "missed") == 1
    assert count_status(agreed.runs[1], ("x",), "missed") == 0
    assert count_status(agreed.runs[0], (), "missed") == 0


def test_rightly_finding_nothing_ranks_above_hallucinating():
    runs = {"A": {"x": ["absent", 0.5]}, "B": {"x": ["hallucinated", 0.5]}}
    np.testing.assert_array_equal(
        values_to_rank(table_of(runs), is_higher_better=True), [[0.5, 0], [0.5, 0.5]]
    )


def test_a_distance_to_a_missed_structure_ranks_as_the_worst():
    table = table_of({"A": {"x": [0.5, "missed"]}, "B": {"x": [0.75, 0.25]}})
    distances = np.array([[[3.0], [NAN]], [[9.0], [2.0]]])
    as_distances = type(table)(distances, table.is_failure)
    np.testing.assert_array_equal(
        values_to_rank(as_distances, is_higher_better=False), [[3, 9], [9, 2]]
    )
