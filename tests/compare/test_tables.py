import csv
import io

import pytest
from compare_builders import agreed_runs
from rich.console import Console

from pipeline.compare.comparison import CompareSettings, compare_runs
from pipeline.compare.tables import (
    all_differences,
    csv_table,
    format_value,
    latex_table,
    terminal_table,
)
from pipeline.metrics.values import metric_named

BASE = [0.6, 0.65, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9]
BETTER = [b + 0.02 for b in BASE]


@pytest.fixture
def comparison():
    runs = {
        "old_1": {"x_y": BASE, "z": BASE},
        "new": {"x_y": BETTER, "z": BASE},
        "[red]": {"x_y": BASE, "z": BASE},
    }
    return compare_runs(agreed_runs(runs), CompareSettings(n_bootstrap=100))


def test_rows_are_the_mean_then_the_classes_of_each_run(comparison):
    rows = [(d.run, d.class_name) for d in all_differences(comparison)]
    assert rows == [(run, name) for run in ("new", "[red]") for name in (None, "x_y", "z")]


def test_with_one_class_the_mean_is_not_repeated():
    runs = {"A": {"x": BASE}, "B": {"x": BETTER}}
    found = compare_runs(agreed_runs(runs), CompareSettings(n_bootstrap=100))
    assert [d.class_name for d in all_differences(found)] == ["x"]


def test_the_csv_holds_full_numbers(comparison):
    rows = list(csv.DictReader(io.StringIO(csv_table(comparison))))
    assert len(rows) == 6
    of_x = next(r for r in rows if r["run"] == "new" and r["class_name"] == "x_y")
    assert float(of_x["mean"]) == pytest.approx(0.02)
    assert float(of_x["ci95_low"]) <= 0.02 + 1e-9
    assert (of_x["n_wins"], of_x["verdict"]) == ("8", "better")
    assert rows[0]["class_name"] == ""


def test_the_latex_is_escaped_and_has_one_line_per_row(comparison):
    text = latex_table(comparison)
    assert r"old\_1" in text
    assert r"x\_y & 0.746 & 0.766 & $+0.020 [+0.020, +0.020]$ & 8 & 8/0/0 & $.031$ \\" in text
    assert text.count(r" \\") == 1 + 6
    assert text.count("{") == text.count("}")


def test_the_terminal_shows_names_as_they_are(comparison):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(terminal_table(comparison))
    text = console.export_text()
    assert "[red]" in text
    assert "no difference shown" in text
    assert "8/0/0" in text


def test_means_have_the_digits_of_their_metric():
    assert format_value(0.88888, metric_named("dice")) == "0.889"
    assert format_value(3.14159, metric_named("hd95_mm")) == "3.14"
    assert format_value(None, metric_named("dice")) == "-"
