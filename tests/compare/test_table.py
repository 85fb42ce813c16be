import math

import numpy as np
from compare_builders import agreed_runs, run, with_distances

from pipeline.compare.agreement import agree
from pipeline.compare.table import count_status, tabulate, values_to_rank
from pipeline.metrics.policy import policy_named
from pipeline.metrics.values import metric_named

NAN = math.nan
BOTH = [0.5, 0.5]


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
    # Rightly absent counts as the best where the other run hallucinated.
    np.testing.assert_array_equal(table.filled[0], [[0.5, 1], [0, 0.25]])
    np.testing.assert_array_equal(table.filled[1], table.values[1])
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
    np.testing.assert_array_equal(values_to_rank(table_of(runs)), [[1, 0], [0.5, 0.5]])
    nobody = values_to_rank(table_of({"A": {"x": ["absent", 0.5]}, "B": {"x": ["absent", 0.5]}}))
    np.testing.assert_array_equal(nobody, [[NAN, NAN], [0.5, 0.5]])


def test_a_case_nobody_predicted_never_counts_as_rightly_absent():
    runs = {"A": {"y": ["missed", 0.5], "x": [None, 0.5]}, "B": {"y": BOTH, "x": ["absent", 0.5]}}
    np.testing.assert_array_equal(table_of(runs).filled[:, 0, 1], [NAN, NAN])
    np.testing.assert_array_equal(table_of(runs, "kits").filled[:, 0, 1], [0, 1])
    runs["B"]["x"] = ["hallucinated", 0.5]
    np.testing.assert_array_equal(table_of(runs).filled[:, 0, 1], [0, 0])


def test_a_distance_to_a_missed_structure_counts_the_image_diagonal():
    runs = [run("A", with_distances("x", [3.0, None])), run("B", with_distances("x", [9.0, 2.0]))]
    agreed = agree(runs, is_common_enough=False)
    table = tabulate(agreed, metric_named("hd95_mm"), policy_named("strict"))
    np.testing.assert_array_equal(table.values[0, :, 0], [3, NAN])
    np.testing.assert_array_equal(values_to_rank(table), [[3, 9], [300, 2]])
