import numpy as np
import pytest
from compare_builders import agreed_runs

from pipeline.compare.comparison import CompareSettings, compare_runs
from pipeline.compare.report import methods_text, paired_case_values, render_report
from pipeline.compare.table import tabulate
from pipeline.metrics.policy import policy_named
from pipeline.metrics.values import metric_named

HOSTILE = '<script>alert("1")</script>'
BASE = [0.6, 0.65, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9]
BETTER = [b + 0.02 for b in BASE]


def page_of(runs, **settings):
    agreed = agreed_runs(runs)
    comparison = compare_runs(agreed, CompareSettings(n_bootstrap=100, **settings))
    return render_report(comparison, agreed), comparison


def test_the_page_says_the_verdict_the_numbers_and_every_case():
    page, comparison = page_of({"old": {"x": BASE, "y": BASE}, "new": {"x": BETTER, "y": BASE}})
    assert "new better" in page
    assert "+0.020 [+0.020, +0.020]" in page
    for n in range(8):
        assert f"c{n:02d}" in page
    assert "new is better than old" in page
    assert "Ranking and its stability" not in page
    assert comparison.runs[0].label in page


def test_it_loads_nothing_and_escapes_every_name():
    page, _ = page_of({HOSTILE: {HOSTILE: BASE}, "new": {HOSTILE: BETTER}})
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("a", "b", "badge"),
    [
        (BASE, BASE, "no difference shown"),
        (BETTER, BASE, "B worse"),
        (BASE[:4], BETTER[:4], "n too small"),
    ],
)
def test_the_badge_claims_no_more_than_was_shown(a, b, badge):
    page, _ = page_of({"A": {"x": a}, "B": {"x": b}})
    headline = page[page.index('class="headline"') : page.index('class="subtitle"')]
    assert badge in headline
    assert ("B better" in headline) == (badge == "B better")


def test_three_runs_have_a_ranking_and_a_section_each():
    page, _ = page_of({"A": {"x": BASE}, "B": {"x": BETTER}, "C": {"x": BASE[::-1]}})
    assert "Ranking and its stability" in page
    assert "Kendall" in page
    assert 'id="pair-2"' in page
    assert "Rank within each case, then average" in page


def test_every_policy_and_gaps_can_be_drawn():
    gaps = ["absent", "missed", "hallucinated", "absent", *BASE[:4]]
    other = ["hallucinated", 0.7, "absent", "absent", *BETTER[:4]]
    for policy in ("strict", "kits", "monai", "totalseg"):
        page, _ = page_of({"A": {"x": gaps}, "B": {"x": other}}, policy=policy)
        assert "nan" not in page.partition("<script>")[0].lower()


def test_a_case_is_compared_on_the_classes_both_runs_have():
    agreed = agreed_runs(
        {"A": {"x": [0.5], "y": ["absent"]}, "B": {"x": [0.7], "y": ["hallucinated"]}}
    )
    table = tabulate(agreed, metric_named("dice"), policy_named("strict"))
    first, other = paired_case_values(table, 1)
    np.testing.assert_allclose((first[0], other[0]), (0.5, 0.7))


def test_the_methods_paragraph_names_every_choice():
    _, comparison = page_of({"A": {"x": BASE}, "B": {"x": BETTER}}, seed=7)
    text = methods_text(comparison)
    for part in (
        "Dice",
        "8 cases",
        "'strict'",
        "100 resamples, seed 7",
        "Holm",
        "Wilcoxon",
        "scipy",
    ):
        assert part in text
