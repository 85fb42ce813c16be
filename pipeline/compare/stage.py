"""Compare runs on the same cases and say in a sentence what the numbers allow to say."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from pipeline.compare.agreement import Agreed
from pipeline.compare.comparison import CompareSettings, compare_runs
from pipeline.compare.report import methods_text, render_report
from pipeline.compare.result import Comparison
from pipeline.compare.tables import csv_table, latex_table, terminal_table
from pipeline.core.tracker import Number, Tracker
from pipeline.core.workspace import write_json, write_text

PIPE_WIDTH = 160

_log = logging.getLogger(__name__)


def compare(
    agreed: Agreed,
    settings: CompareSettings,
    out_dir: Path,
    tracker: Tracker,
    *,
    run_ids: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare runs and write comparison.json, report.html, methods.txt and tables.

    Args:
        agreed: Two or more runs on the same cases; the others are measured against the first.
        settings: Metric, policy and resampling.
        out_dir: Where the files go.
        tracker: Gets the headline numbers and files.
        run_ids: MLflow ids by label, where they are known.

    Returns:
        The comparison.

    Raises:
        VoxlineError: If the metric cannot compare these runs.
    """
    comparison = compare_runs(agreed, settings)
    known = run_ids or {}
    named = [r.model_copy(update={"mlflow_run_id": known.get(r.label)}) for r in comparison.runs]
    comparison = comparison.model_copy(update={"runs": tuple(named)})

    write_json(out_dir / "comparison.json", comparison)
    write_text(out_dir / "report.html", render_report(comparison, agreed))
    write_text(out_dir / "methods.txt", methods_text(comparison) + "\n")
    write_text(out_dir / "differences.csv", csv_table(comparison))
    write_text(out_dir / "differences.tex", latex_table(comparison))
    _show(comparison)
    _track(comparison, out_dir, tracker)
    return comparison


def _show(comparison: Comparison) -> None:
    # A pipe has no width; there the table must not wrap to the 80 columns rich assumes.
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(terminal_table(comparison))
    console.print(comparison.conclusion, markup=False, highlight=False)
    for note in comparison.notes:
        _log.warning("%s", note)


def _track(comparison: Comparison, out_dir: Path, tracker: Tracker) -> None:
    metric, many = comparison.metric, len(comparison.runs) > 2
    numbers: dict[str, Number | None] = {}
    for d in comparison.foreground:
        of_run = f"_{d.run}" if many else ""
        numbers[f"compare/{metric}_diff{of_run}"] = d.mean
        numbers[f"compare/{metric}_p{of_run}"] = d.p_holm
        numbers[f"compare/n_wins{of_run}"] = d.n_wins
        numbers[f"compare/n_losses{of_run}"] = d.n_losses
    for d in comparison.classes:
        of_run = f"_{d.run}" if many else ""
        numbers[f"compare/{metric}_diff{of_run}_{d.class_name}"] = d.mean
    tracker.log_metrics(numbers)
    tracker.log_params({"compare.metric": metric, "compare.policy": comparison.policy})
    for name in ("report.html", "comparison.json", "differences.csv"):
        tracker.log_file(out_dir / name, headline=True)
