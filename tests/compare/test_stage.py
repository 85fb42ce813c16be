import csv

import pytest
from compare_builders import agreed_runs
from typing_extensions import override

from pipeline.artifacts import read_artifact
from pipeline.compare.comparison import CompareSettings
from pipeline.compare.result import Comparison
from pipeline.compare.stage import compare
from pipeline.core.tracker import NullTracker

BASE = [0.6, 0.65, 0.7, 0.72, 0.75, 0.8, 0.85, 0.9]
BETTER = [b + 0.02 for b in BASE]
QUICK = CompareSettings(n_bootstrap=100)


class Recorder(NullTracker):
    def __init__(self):
        self.metrics, self.files = {}, []

    @override
    def log_metrics(self, metrics, *, step=None, headline=True):
        assert headline
        self.metrics.update(metrics)

    @override
    def log_file(self, file, *, folder="", headline=False):
        assert file.is_file()
        self.files.append((file.name, headline))


def test_all_files_are_written_and_agree(tmp_path, capsys):
    tracker = Recorder()
    agreed = agreed_runs({"old": {"x": BASE, "y": BASE}, "new": {"x": BETTER, "y": BASE}})
    found = compare(agreed, QUICK, tmp_path, tracker, run_ids={"new": "f" * 32})
    assert read_artifact(tmp_path / "comparison.json", Comparison, made_by="compare") == found
    assert [run.mlflow_run_id for run in found.runs] == [None, "f" * 32]
    rows = list(csv.DictReader((tmp_path / "differences.csv").read_text().splitlines()))
    assert [row["class_name"] for row in rows] == ["", "x", "y"]
    assert "tabular" in (tmp_path / "differences.tex").read_text()
    assert "Holm" in (tmp_path / "methods.txt").read_text()
    assert "f" * 32 in (tmp_path / "report.html").read_text()
    assert tracker.metrics["compare/dice_diff"] == pytest.approx(0.01)
    assert tracker.metrics["compare/dice_diff_x"] == pytest.approx(0.02)
    assert ("report.html", True) in tracker.files
    assert "new is better than old" in " ".join(capsys.readouterr().out.split())


def test_three_runs_have_numbers_of_their_own(tmp_path):
    tracker = Recorder()
    agreed = agreed_runs({"A": {"x": BASE}, "B": {"x": BETTER}, "C": {"x": BASE}})
    compare(agreed, QUICK, tmp_path, tracker)
    assert tracker.metrics["compare/dice_diff_B"] == pytest.approx(0.02)
    assert tracker.metrics["compare/dice_diff_C"] == 0
