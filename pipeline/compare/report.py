"""`report.html` of a comparison: the sentence, the numbers behind it, and every case."""

import math
from importlib import metadata

import numpy as np
from jaxtyping import Float64

from pipeline.compare import figures
from pipeline.compare.agreement import Agreed
from pipeline.compare.comparison import N_RANKING_RESAMPLES
from pipeline.compare.conclusion import ALPHA, format_difference, format_p
from pipeline.compare.result import Comparison, Difference
from pipeline.compare.table import ValueTable, tabulate
from pipeline.compare.tables import MEAN_NAME, VERDICTS, format_value, latex_table
from pipeline.metrics.paired import (
    MAX_PATIENTS_FOR_EXACT,
    MIN_PATIENTS_FOR_TEST,
    N_SIGN_FLIPS,
    TIE,
)
from pipeline.metrics.policy import policy_named
from pipeline.metrics.values import Metric, metric_named
from pipeline.reporting.page import render_page
from pipeline.reporting.pictures import class_color

# A cell of the table macro: text with a value to sort by, a badge kind or a color.
Cell = str | int | float | dict[str, str | float | None] | None
CaseValues = Float64[np.ndarray, "case"]

BADGES = {"better": "good", "worse": "bad", "not shown": "info", "too small": "warn"}
RANK_RADIUS = 26.0
METHOD_TITLES = {
    "aggregate_then_rank": "Mean first, then rank",
    "rank_then_aggregate": "Rank within each case, then average",
}


def render_report(comparison: Comparison, agreed: Agreed) -> str:
    """Render the report.

    Args:
        comparison: The numbers.
        agreed: The runs, for the single cases.

    Returns:
        A self-contained HTML page.
    """
    metric = metric_named(comparison.metric)
    table = tabulate(agreed, metric, policy_named(comparison.policy))
    labels = [run.label for run in comparison.runs]
    n_classes = len(agreed.foreground)
    return render_page(
        "compare.html.j2",
        {
            "title": f"{labels[1]} against {labels[0]}"
            if len(labels) == 2
            else f"{len(labels) - 1} runs compared with {labels[0]}",
            "subtitle": f"{metric.title} on {comparison.n_cases} cases, {n_classes} "
            f"{'class' if n_classes == 1 else 'classes'}, empty-mask policy '{comparison.policy}'",
            "verdict": _verdict(comparison),
            "conclusion": comparison.conclusion.splitlines(),
            "metric": metric,
            "cards": _cards(comparison, metric),
            "run_rows": _run_rows(comparison, metric),
            "pairs": [_pair(comparison, agreed, table, place) for place in range(1, len(labels))],
            "rankings": _rankings(comparison),
            "sizes": {
                "label": figures.LABEL_WIDTH,
                "plot": figures.PLOT_WIDTH,
                "dot": figures.DOT_RADIUS,
                "slope_width": figures.SLOPE_WIDTH,
                "slope_height": figures.SLOPE_HEIGHT,
                "rank": RANK_RADIUS,
            },
            "labels": labels,
            "case_columns": _case_columns(labels),
            "case_rows": _case_rows(agreed, table, metric),
            "notes": comparison.notes,
            "methods": methods_text(comparison),
            "latex": latex_table(comparison),
        },
    )


def methods_text(comparison: Comparison) -> str:
    """Describe the comparison in sentences that can be pasted into a methods section."""
    metric = metric_named(comparison.metric)
    unit = "case" if comparison.n_patients == comparison.n_cases else "patient"
    sentences = [
        f"Runs were compared by {metric.title} on the same {comparison.n_cases} cases and "
        f"references ({metric.definition.rstrip('.')}).",
        f"Empty masks followed the policy '{comparison.policy}': "
        f"{policy_named(comparison.policy).description}",
        "Differences are means over cases of the paired differences (for several classes, the mean "
        "over classes), with 95 % confidence intervals from a paired BCa bootstrap that resamples "
        f"{unit}s ({comparison.n_bootstrap} resamples, seed {comparison.seed}).",
        f"Tests are two-sided sign-flip permutation tests of the mean difference by {unit} (exact "
        f"up to {MAX_PATIENTS_FOR_EXACT} {unit}s, else {N_SIGN_FLIPS} random sign patterns), at "
        f"the level {ALPHA:g}, corrected after Holm over all tests by class, and over all runs "
        "for the mean over classes; Wilcoxon's signed-rank test (zeros split) is given as a second "
        f"opinion. Below {MIN_PATIENTS_FOR_TEST} {unit}s nothing is tested.",
    ]
    if comparison.rankings:
        sentences.append(
            f"Rank stability is from {min(comparison.n_bootstrap, N_RANKING_RESAMPLES)} bootstrap "
            f"resamples of {unit}s, of the mean over classes of every case; a structure that was "
            "missed or hallucinated and has no value counts as the worst possible one."
        )
    sentences.append(
        f"Software: voxline {_version('voxline')}, numpy {_version('numpy')}, "
        f"scipy {_version('scipy')}."
    )
    return " ".join(sentences)


def _verdict(comparison: Comparison) -> dict[str, str]:
    if len(comparison.foreground) == 1:
        only = comparison.foreground[0]
        name = f"{only.run} " if only.verdict in ("better", "worse") else ""
        return {"kind": BADGES[only.verdict], "text": f"{name}{VERDICTS[only.verdict]}"}
    n_shown = sum(d.verdict in ("better", "worse") for d in comparison.foreground)
    return {
        "kind": "good" if n_shown else "info",
        "text": f"{n_shown} of {len(comparison.foreground)} differ from the first",
    }


def _cards(comparison: Comparison, metric: Metric) -> list[dict[str, str]]:
    cards = [
        {
            "label": run.label,
            "value": format_value(run.mean, metric),
            "note": f"{metric.title}, mean over classes, {metric.unit}".rstrip(", "),
        }
        for run in comparison.runs
    ]
    if len(comparison.foreground) == 1:
        only = comparison.foreground[0]
        cards.append(
            {
                "label": "Difference",
                "value": format_difference(only.model_copy(update={"ci95": None}), metric),
                "note": f"n = {only.n}, {format_p(only.p_holm)}",
            }
        )
        cards.append(
            {
                "label": "Cases better",
                "value": str(only.n_wins),
                "note": f"equal {only.n_ties}, worse {only.n_losses}",
            }
        )
    return cards


def _run_rows(comparison: Comparison, metric: Metric) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for place, run in enumerate(comparison.runs, start=1):
        text = format_value(run.mean, metric)
        if run.ci95 is not None:
            text += " [" + ", ".join(format_value(x, metric) for x in run.ci95) + "]"
        rows.append(
            [
                {"text": run.label, "color": class_color(place)},
                {"text": text, "sort": run.mean},
                run.n_missed,
                run.n_hallucinated,
                run.description,
                run.mlflow_run_id,
            ]
        )
    return rows


def _pair(
    comparison: Comparison, agreed: Agreed, table: ValueTable, place: int
) -> dict[str, object]:
    metric = metric_named(comparison.metric)
    is_higher_better = bool(metric.higher_is_better)
    foreground = comparison.foreground[place - 1]
    classes = [d for d in comparison.classes if d.run == foreground.run]
    baseline, run = paired_case_values(table.only(agreed.foreground), place)
    differences = table.values[place] - table.values[0]
    columns = [differences[:, column] for column in range(differences.shape[1])]
    rows, values = classes, columns
    if len(classes) > 1:
        rows, values = [foreground, *classes], [run - baseline, *columns]
    return {
        "run": foreground.run,
        "baseline": foreground.baseline,
        "rows": [_difference_row(d, metric) for d in rows],
        "plot": figures.difference_plot(
            rows, values, agreed.case_ids, is_higher_better=is_higher_better
        ),
        "slopes": figures.slope_plot(
            baseline, run, agreed.case_ids, is_higher_better=is_higher_better
        ),
    }


def paired_case_values(table: ValueTable, place: int) -> tuple[CaseValues, CaseValues]:
    """Mean over the classes in which both the first run and another have a value, per case.

    Args:
        table: The values.
        place: Index of the other run.

    Returns:
        Values of the first run and of the other; NaN where they share no class.
    """
    a, b = table.values[0], table.values[place]
    is_pair = np.isfinite(a) & np.isfinite(b)
    n_classes = is_pair.sum(axis=1)
    first, other = (
        np.divide(
            np.where(is_pair, values, 0.0).sum(axis=1),
            n_classes,
            out=np.full(len(values), math.nan),
            where=n_classes > 0,
        )
        for values in (a, b)
    )
    return first, other


def _difference_row(difference: Difference, metric: Metric) -> list[Cell]:
    effect = difference.rank_biserial
    return [
        difference.class_name or MEAN_NAME,
        _number(difference.mean_baseline, metric),
        _number(difference.mean_run, metric),
        {"text": format_difference(difference, metric), "sort": difference.mean},
        # Short: the conclusion above says it in full.
        {"text": difference.verdict, "kind": BADGES[difference.verdict]},
        {"text": format_p(difference.p_holm), "sort": difference.p_holm},
        {"text": format_p(difference.p_wilcoxon), "sort": difference.p_wilcoxon},
        {
            "text": f"{difference.n_wins} / {difference.n_ties} / {difference.n_losses}",
            "sort": difference.n_wins - difference.n_losses,
        },
        None if effect is None else {"text": f"{effect:+.2f}", "sort": effect},
        difference.n,
    ]


def _case_columns(labels: list[str]) -> list[dict[str, object]]:
    names = [(label, "mean over classes") for label in labels]
    names += [(f"{label} - {labels[0]}", "difference") for label in labels[1:]]
    return [
        {"name": "Case", "is_number": False},
        *({"name": name, "is_number": True, "help": text} for name, text in names),
        {"name": "Largest change", "is_number": False},
    ]


def _case_rows(agreed: Agreed, table: ValueTable, metric: Metric) -> list[list[Cell]]:
    """Cases with the largest change first."""
    n_runs = len(agreed.runs)
    foreground = table.only(agreed.foreground)
    pairs = [paired_case_values(foreground, place) for place in range(1, n_runs)]
    means = [np.array([_mean(row) for row in values]) for values in foreground.values]
    rows = []
    for index, case_id in enumerate(agreed.case_ids):
        changes = [float(run[index] - baseline[index]) for baseline, run in pairs]
        size = max((abs(c) for c in changes if math.isfinite(c)), default=-1.0)
        cells: list[Cell] = [
            case_id,
            *(_number(_or_none(mean[index]), metric) for mean in means),
            *(_signed(_or_none(change), metric) for change in changes),
            _largest_change(agreed, table, index, metric),
        ]
        rows.append((size, cells))
    return [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def _largest_change(agreed: Agreed, table: ValueTable, index: int, metric: Metric) -> str | None:
    changes = table.values[1:, index] - table.values[0, index]
    if not (np.abs(changes) > TIE).any():
        return None
    run, column = np.unravel_index(
        int(np.argmax(np.nan_to_num(np.abs(changes), nan=-1.0))), changes.shape
    )
    which = f", {agreed.runs[int(run) + 1].label}" if len(agreed.runs) > 2 else ""
    digits = 3 if metric.upper == 1.0 else 2
    return f"{agreed.class_names[int(column)]} {changes[run, column]:+.{digits}f}{which}"


def _rankings(comparison: Comparison) -> list[dict[str, object]]:
    n_runs = len(comparison.runs)
    return [
        {
            "title": METHOD_TITLES[ranking.method],
            "tau": None
            if ranking.kendall_tau is None
            else f"{ranking.kendall_tau:.2f} (2.5 % of resamples below "
            f"{ranking.kendall_tau_low:.2f})",
            "rows": [
                {
                    "label": comparison.runs[place].label,
                    "color": class_color(place + 1),
                    "rank": ranking.ranks[place],
                    "value": f"{ranking.values[place]:.3f}",
                    "dots": figures.rank_dots(ranking, place, max_radius=RANK_RADIUS - 3),
                }
                for place in sorted(range(n_runs), key=lambda p: ranking.ranks[p])
            ],
        }
        for ranking in comparison.rankings
    ]


def _mean(row: Float64[np.ndarray, "class"]) -> float:
    defined = row[np.isfinite(row)]
    return float(defined.mean()) if defined.size else math.nan


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float | None, metric: Metric) -> Cell:
    return None if value is None else {"text": format_value(value, metric), "sort": value}


def _signed(value: float | None, metric: Metric) -> Cell:
    digits = 3 if metric.upper == 1.0 else 2
    return None if value is None else {"text": f"{value:+.{digits}f}", "sort": value}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed as a package)"
