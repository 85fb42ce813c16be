from io import StringIO

from rich.console import Console

from pipeline.artifacts import Interval
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.scores import CaseScores
from pipeline.reporting.scores import dice_table, format_interval, format_mean


def test_the_worst_case_is_a_column_only_where_it_is_known():
    cases = [CaseScores("c", (OverlapScores("liver", 5, 1, 1, 0.001),))]
    summary = summarize(cases, ("liver",), n_bootstrap=10)
    for worst in ({}, {"liver": "c 0.833"}):
        text = StringIO()
        Console(file=text, width=140).print(dice_table(summary, "Dice [set]", worst))
        assert ("worst case" in text.getvalue()) is bool(worst)
        assert "Dice [set]" in text.getvalue()
        assert "0.833" in text.getvalue()


def test_means_and_intervals_as_text():
    known = Interval(mean=0.8849, median=0.9, ci95=(0.8712, 0.8971), n=9, n_undefined=0)
    assert format_mean(known) == "0.885 [0.871, 0.897]"
    assert format_interval(known) == "0.871 - 0.897"
    few = known.model_copy(update={"ci95": None})
    assert (format_mean(few), format_interval(few)) == ("0.885", "-")
