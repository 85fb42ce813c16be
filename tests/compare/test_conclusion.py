import pytest
from compare_builders import agreed_runs, cases_of, run

from pipeline.compare.agreement import agree
from pipeline.compare.comparison import CompareSettings, compare_runs
from pipeline.compare.conclusion import format_difference, format_p, n_digits
from pipeline.metrics.values import metric_named

DICE, DISTANCE = metric_named("dice"), metric_named("hd95_mm")
STEPS = [0.6, 0.65, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9]


def concluded(a, b, **settings):
    settings = CompareSettings(n_bootstrap=500, **settings)
    return compare_runs(agreed_runs({"old": a, "new": b}), settings)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        *((None, "no test"), (0.0001, "p < .001"), (0.0042, "p = .004"), (0.0499, "p = .0499")),
        *((0.05, "p = .050"), (0.0502, "p = .0502"), (0.0996, "p = .100")),
        *((0.25, "p = .25"), (0.999, "p = 1"), (1.0, "p = 1")),
    ],
)
def test_p_values_as_papers_print_them(p, text):
    assert format_p(p) == text


def test_small_differences_are_not_printed_as_zero():
    assert (n_digits(DICE, 0.05), n_digits(DICE, 0.0004)) == (3, 4)
    assert (n_digits(DISTANCE, 0.5), n_digits(DISTANCE, 0.004)) == (2, 3)


def test_a_shown_difference_in_one_sentence():
    found = concluded({"x": STEPS}, {"x": [s + 0.02 for s in STEPS]})
    assert found.conclusion == (
        "new is better than old in Dice (x): +0.020 [+0.020, +0.020] (n = 8, p = .008)."
    )


def test_no_difference_is_not_called_equality():
    wobble = [s + d for s, d in zip(STEPS, (0.01, -0.01) * 4, strict=True)]
    found = concluded({"x": STEPS}, {"x": wobble})
    assert found.conclusion.startswith("No difference between new and old was shown in Dice (x)")
    assert "does not prove them equal" in found.conclusion


def test_classes_are_named_with_their_corrected_p():
    better = [s + 0.02 for s in STEPS]
    found = concluded({"x": STEPS, "y": STEPS}, {"x": better, "y": STEPS})
    assert "new is better than old in Dice (mean over 2 classes)" in found.conclusion
    assert "Holm over 2 tests: better for x (+0.020" in found.conclusion
    assert "no difference shown for y (+0.0000" in found.conclusion


def test_patients_are_counted_beside_cases():
    groups = {f"c{n:02d}": f"p{n // 2}" for n in range(16)}
    found = concluded({"x": STEPS * 2}, {"x": [s + 0.02 for s in STEPS * 2]}, groups=groups)
    assert "n = 16 cases of 8 patients" in found.conclusion


def test_notes_on_validation_cases_and_on_what_was_left_out():
    a = run("A", cases_of(x=STEPS), kind="validation", dataset="fold_0")
    b = run("B", cases_of(x=STEPS[:7]), kind="validation", dataset="fold_0")
    agreed = agree([a, b], is_common_enough=True)
    notes = compare_runs(agreed, CompareSettings(n_bootstrap=100)).notes
    assert any("Left out of A" in note and "1 cases (c07)" in note for note in notes)
    assert any("also chose the checkpoint" in note for note in notes)
    assert any("Student's t interval" in note for note in notes)


def test_an_interval_beside_zero_is_not_a_claim():
    # One large gain among nothing: the bootstrap interval alone is no evidence.
    few = [s + d for s, d in zip(STEPS, (0.02, 0.02, 0.03, 0, 0.01, 0, 0, 0.04), strict=True)]
    found = concluded({"x": STEPS}, {"x": few})
    assert found.foreground[0].verdict == "not shown"
    assert found.foreground[0].ci95[0] > 0
    assert "nor does the interval alone" in found.conclusion


def test_equal_cases_do_not_prove_equality():
    found = concluded({"x": STEPS}, {"x": STEPS})
    assert "says little about other patients" in found.conclusion
    assert "leave possible" not in found.conclusion


def test_tests_that_no_result_could_pass_are_named():
    names = [f"x{n}" for n in range(20)]
    better = {name: [s + 0.02 for s in STEPS] for name in names}
    found = concluded(dict.fromkeys(names, STEPS), better)
    assert any("no corrected p can be below 0.16" in note for note in found.notes)
    one = concluded({"x": STEPS}, {"x": better["x0"]})
    assert not any("no corrected p" in note for note in one.notes)


def test_runs_that_tie_share_the_first_rank():
    runs = {"A": {"x": STEPS}, "B": {"x": STEPS}, "C": {"x": [s - 0.1 for s in STEPS]}}
    found = compare_runs(agreed_runs(runs), CompareSettings(n_bootstrap=100))
    assert "A and B share the first rank" in found.conclusion


def test_a_difference_without_pairs_is_not_a_number():
    found = concluded({"x": STEPS}, {"x": STEPS})
    empty = found.foreground[0].model_copy(update={"mean": None, "ci95": None})
    assert format_difference(empty, DICE) == "no value in both runs"
    only = found.foreground[0].model_copy(update={"mean": 1.5, "ci95": None})
    assert format_difference(only, DISTANCE) == "+1.50 mm"
