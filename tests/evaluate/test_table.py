from io import StringIO

from evaluate_builders import cases_of, spread, with_surfaces
from rich.console import Console

from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.table import class_table
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores


def printed(cases, class_names):
    cases = tuple(cases)
    summary = summarize(cases, class_names, n_bootstrap=100)
    text = StringIO()
    evaluation = Evaluation("[red]set", class_names, EvaluateConfig(), tuple(cases), summary)
    Console(file=text, width=140).print(class_table(evaluation))
    return text.getvalue()


def test_counts_and_the_worst_case_stand_beside_the_mean():
    rows = [("one", 5, 1, 1), ("two", 6, 1, 1), ("three", 0, 0, 7)]
    cases = [CaseScores(c, (OverlapScores("liver", *n, 0.001),)) for c, *n in rows]
    line = next(line for line in printed(cases, ("liver",)).splitlines() if "liver" in line)
    cells = line.split()
    assert cells[1] == "0.563"  # mean of 10/12, 12/14, 0
    assert cells[2] == "-"  # three cases are no interval
    assert cells[-5:] == ["3", "1", "0", "three", "0.000"]


def test_surfaces_have_columns_with_their_own_n():
    cases = [with_surfaces(c) for c in cases_of(liver=[*spread(12), "missed"])]
    text = printed(cases, ("liver",))
    cells = next(line for line in text.splitlines() if "liver" in line).split()
    assert "HD95 mm" in text
    assert cells[-5:] == ["3.00", "12", "0.831", "c12", "0.000"]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 140


def test_names_with_brackets_are_no_markup():
    cases = [CaseScores("c[/]", (OverlapScores("[bold]", 5, 1, 1, 0.001),))]
    text = printed(cases, ("[bold]",))
    for name in ("[bold]", "c[/]", "[red]set"):
        assert name in text


def test_a_class_without_values_has_dashes():
    cases = [CaseScores("c", (OverlapScores("liver", 0, 0, 0, 0.001),))]
    line = next(line for line in printed(cases, ("liver",)).splitlines() if "liver" in line)
    assert line.split() == ["liver", "-", "-", "-", "0", "0", "0", "-"]
