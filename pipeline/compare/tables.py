"""The comparison as tables: for a terminal, for a spreadsheet, for a paper."""

import csv
import io
from dataclasses import replace

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.compare.conclusion import format_difference, format_p, n_digits
from pipeline.compare.result import Comparison, Difference
from pipeline.metrics.values import Metric, metric_named
from pipeline.reporting.latex import escape_latex

MEAN_NAME = "mean over classes"
VERDICTS = {
    "better": "better",
    "worse": "worse",
    "not shown": "no difference shown",
    "too small": "n too small",
}
CSV_COLUMNS = tuple(name for name in Difference.model_fields if name not in ("ci95", "t95"))


def all_differences(comparison: Comparison) -> tuple[Difference, ...]:
    """Rows of every table: per run the mean over classes first, then each class."""
    rows: list[Difference] = []
    for foreground in comparison.foreground:
        own = [d for d in comparison.classes if d.run == foreground.run]
        # With one class both rows would be the same.
        rows += [foreground, *own] if len(own) > 1 else own
    return tuple(rows)


def terminal_table(comparison: Comparison) -> Table:
    """Lay out all differences for a rich console."""
    metric = metric_named(comparison.metric)
    title = f"{metric.title}, {comparison.n_cases} cases, against {comparison.runs[0].label}"
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("run", overflow="fold")
    table.add_column("class", overflow="fold")
    for name in ("before", "after", "difference [95 %]", "n", "w/t/l", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in all_differences(comparison):
        table.add_row(
            escape(row.run),
            escape(row.class_name or MEAN_NAME),
            format_value(row.mean_baseline, metric),
            format_value(row.mean_run, metric),
            format_difference(row, metric),
            str(row.n),
            f"{row.n_wins}/{row.n_ties}/{row.n_losses}",
            _bare_p(row.p_holm),
            VERDICTS[row.verdict],
        )
    return table


def csv_table(comparison: Comparison) -> str:
    """All differences as CSV, one row per run and class, numbers in full."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*CSV_COLUMNS, "ci95_low", "ci95_high", "t95_low", "t95_high"])
    for row in all_differences(comparison):
        cells = [getattr(row, name) for name in CSV_COLUMNS]
        bounds = (*(row.ci95 or ("", "")), *(row.t95 or ("", "")))
        rows.writerow([*("" if c is None else c for c in cells), *bounds])
    return text.getvalue()


def latex_table(comparison: Comparison) -> str:
    """All differences as a LaTeX table (package booktabs), with a caption that defines it."""
    metric = metric_named(comparison.metric)
    unit = f" ({metric.unit})" if metric.unit else ""
    unitless = replace(metric, unit="")
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape_latex(_caption(comparison, metric))}}}",
        r"\begin{tabular}{llrrlrrr}",
        r"\toprule",
        rf"Run & Class & Baseline & Run{unit} & Difference [95\,\%] & $n$ & W/T/L & $p$ \\",
        r"\midrule",
    ]
    for row in all_differences(comparison):
        cells = (
            escape_latex(row.run),
            escape_latex(row.class_name or MEAN_NAME),
            format_value(row.mean_baseline, metric),
            format_value(row.mean_run, metric),
            "--" if row.mean is None else f"${format_difference(row, unitless)}$",
            str(row.n),
            f"{row.n_wins}/{row.n_ties}/{row.n_losses}",
            "--" if row.p_holm is None else f"${_bare_p(row.p_holm)}$",
        )
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def format_value(value: float | None, metric: Metric) -> str:
    """A mean of a metric; a dash for None."""
    return "-" if value is None else f"{value:.{n_digits(metric, 1.0)}f}"


def _bare_p(p: float | None) -> str:
    return format_p(p).removeprefix("p = ").removeprefix("p ")


def _caption(comparison: Comparison, metric: Metric) -> str:
    return (
        f"{metric.title} against {comparison.runs[0].label} on {comparison.n_cases} cases, "
        f"empty-mask policy {comparison.policy}. Difference: mean with 95 % interval, paired "
        f"bootstrap over patients ({comparison.n_bootstrap} resamples). p: sign-flip permutation "
        "test of the mean, two-sided, corrected after Holm. W/T/L: cases won, tied, lost."
    )
