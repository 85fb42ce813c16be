import pytest
from evaluate_builders import cases_of, classes_of, evaluation_of

from pipeline.evaluate.policy_table import class_dice, policy_table
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.policy import POLICIES

CASES = cases_of(a=[0.5, "missed", "hallucinated", "absent"], b=[0.8, 0.8, 0.6, 0.6])


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_column_is_what_an_evaluation_under_that_policy_gives(policy):
    given = evaluation_of(CASES)
    table = policy_table(given, classes_of(given))
    column = [p.name for p in POLICIES].index(policy.name) + 1
    chosen = summarize(CASES, ("a", "b"), policy=policy.name, n_bootstrap=0)
    foreground, a, b = (row[column] for row in table.rows)
    assert foreground["sort"] == pytest.approx(chosen.mean_foreground_dice)
    for name, cell in (("a", a), ("b", b)):
        dice = chosen.classes[name].dice
        assert cell["sort"] == pytest.approx(dice.mean)
        assert cell["text"].endswith(f"({dice.n})")


def test_the_chosen_policy_is_marked_and_failures_are_counted():
    given = evaluation_of(CASES, policy="kits")
    table = policy_table(given, classes_of(given))
    assert "kits (chosen)" in [c["name"] for c in table.columns]
    assert list(table.rows[1][-3:]) == [1, 1, 1]


def test_a_class_without_values_is_what_the_policy_says():
    given = evaluation_of(cases_of(a=["absent"]))
    means = {p.name: class_dice(classes_of(given)["a"], p) for p in POLICIES}
    assert means["strict"] == (None, 0)
    assert means["kits"] == (1.0, 1)
    assert means["monai"] == (0.0, 0)
