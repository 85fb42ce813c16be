"""`table.tex`: the scores per class as a table for a paper (needs the package booktabs)."""

from pipeline.artifacts import ClassSummary, Interval
from pipeline.evaluate.cells import format_value
from pipeline.evaluate.class_tables import tolerance_text
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.per_class import ClassCases
from pipeline.reporting.latex import escape_latex


def latex_table(evaluation: Evaluation, by_class: dict[str, ClassCases]) -> str:
    """Write the scores per class as LaTeX.

    Args:
        evaluation: The result.
        by_class: Scores of its cases by class.

    Returns:
        A table environment; regions stand below the classes.
    """
    classes = evaluation.summary.classes
    has_surfaces = any(scores.nsd is not None for scores in classes.values())
    heads = ["Class", r"Dice [95\,\%]"]
    if has_surfaces:
        heads += [r"Surface Dice [95\,\%]", r"HD95, mm [95\,\%]", "$n$ (HD95)"]
    heads += ["$n$", "Undef.", "Missed", "Halluc."]
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape_latex(_caption(evaluation, by_class))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    lines += [_row(n, classes[n], has_surfaces=has_surfaces) for n in evaluation.class_names]
    lines += [r"\midrule", _foreground(evaluation, n_columns=len(heads))]
    if evaluation.region_names:
        lines.append(r"\midrule")
    for name in evaluation.region_names:
        lines.append(_row(f"{name} (union)", classes[name], has_surfaces=has_surfaces))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _row(name: str, scores: ClassSummary, *, has_surfaces: bool) -> str:
    cells = [escape_latex(name), _mean(scores.dice)]
    if has_surfaces:
        cells += [_mean(scores.nsd), _mean(scores.hd95_mm, "mm")]
        cells.append(str(scores.hd95_mm.n) if scores.hd95_mm else "0")
    counts = (scores.dice.n, scores.dice.n_undefined, scores.n_missed, scores.n_hallucinated)
    return " & ".join([*cells, *(str(n) for n in counts)]) + r" \\"


def _foreground(evaluation: Evaluation, *, n_columns: int) -> str:
    mean = evaluation.summary.mean_foreground_dice
    classes = [evaluation.summary.classes[name] for name in evaluation.class_names]
    counts = (
        sum(c.dice.n_undefined for c in classes),
        sum(c.n_missed for c in classes),
        sum(c.n_hallucinated for c in classes),
    )
    cells = ["Foreground mean", "--" if mean is None else f"${mean:.3f}$"]
    cells += [""] * (n_columns - len(cells) - len(counts))
    return " & ".join([*cells, *(str(n) for n in counts)]) + r" \\"


def _mean(interval: Interval | None, unit: str = "") -> str:
    if interval is None or interval.mean is None:
        return "--"
    text = format_value(interval.mean, unit)
    if interval.ci95 is not None and not interval.is_small:
        text += "\\ [" + ", ".join(format_value(x, unit) for x in interval.ci95) + "]"
    return f"${text}$"


def _caption(evaluation: Evaluation, by_class: dict[str, ClassCases]) -> str:
    config, summary = evaluation.config, evaluation.summary
    text = (
        f"Scores on {summary.n_cases} cases of {evaluation.dataset_name}, empty-mask policy "
        f"{config.policy}. Mean over cases"
    )
    if any(s.dice.ci95 and not s.dice.is_small for s in summary.classes.values()):
        unit = "cases" if evaluation.n_patients is None else "patients"
        text += f" with 95 % BCa bootstrap interval over {unit} ({config.n_bootstrap} resamples)"
    text += (
        ". n: cases with a value. Undef.: cases without one (Dice). Missed: in the reference, not "
        "predicted. Halluc.: predicted, not in the reference."
    )
    tolerances = {tolerance_text(cases) for cases in by_class.values() if cases.surfaces}
    if len(tolerances) == 1:
        text += f" Surface Dice at a tolerance of {tolerances.pop()} mm."
    return text
