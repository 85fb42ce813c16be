"""What the statistics allow to say, in sentences a reviewer accepts."""

from collections.abc import Sequence

from pipeline.compare.agreement import Agreed
from pipeline.compare.result import Comparison, Difference
from pipeline.metrics.paired import MAX_PATIENTS_FOR_EXACT, MIN_PATIENTS_FOR_TEST, N_SIGN_FLIPS
from pipeline.metrics.values import Metric, metric_named

# Classes named one by one before "and N more".
MAX_CLASSES = 8
# Distances that a missed structure leaves undefined, and what counts it.
PENALIZED = {"hd95_mm": "hd95_penalized_mm", "assd_mm": "assd_penalized_mm"}
# Two-sided level of every statement.
ALPHA = 0.05
# Share of resamples in which a run must come first to count as the settled winner.
SETTLED = 0.95


def conclude(comparison: Comparison) -> str:
    """Say what was shown about every run against the first, and about the ranking.

    Args:
        comparison: The numbers.

    Returns:
        One line per run after the first, and one on the ranking.
    """
    metric = metric_named(comparison.metric)
    paragraphs = []
    for difference in comparison.foreground:
        text = _foreground(difference, comparison, metric) + _left_out(difference)
        if len(comparison.class_names) > 1 and difference.verdict != "too small":
            own = [d for d in comparison.classes if d.run == difference.run]
            text += " " + _classes(own, metric, n_tests=_n_tests(comparison.classes))
        paragraphs.append(text)
    if comparison.rankings:
        paragraphs.append(_ranking(comparison))
    return "\n".join(paragraphs)


def notes_on(comparison: Comparison, agreed: Agreed) -> tuple[str, ...]:
    """List what a reader must know to judge the conclusion.

    Args:
        comparison: The numbers.
        agreed: The runs, with where their scores come from.

    Returns:
        Sentences; none if there is nothing to add.
    """
    notes = [
        f"Left out of {x.label} because not every run has it: "
        + "; ".join(
            f"{len(names)} {what} ({', '.join(names[:MAX_CLASSES])}"
            + (", ...)" if len(names) > MAX_CLASSES else ")")
            for what, names in (("cases", x.case_ids), ("classes", x.class_names))
            if names
        )
        + "."
        for x in comparison.excluded
    ]
    if any(run.table.kind == "validation" for run in agreed.runs):
        notes.append(
            "These are the validation cases of a training, which also chose the checkpoint: both "
            "runs look a little better than on new patients. Cases of other data decide."
        )
    notes += [_small_sample(d) for d in comparison.foreground if d.t95 is not None]
    notes += [note for d in comparison.foreground if (note := _disagreement(d)) is not None]
    notes += _powerless(comparison)
    notes += _unpaired(comparison)
    return tuple(notes)


def format_p(p: float | None) -> str:
    """A p value as papers print it: "p = .004", "p < .001"; "no test" for None."""
    if p is None:
        return "no test"
    if p < 0.001:
        return "p < .001"
    if p > 0.995:
        return "p = 1"
    digits = 3 if p < 0.1 else 2
    # Both sides of the level must not be printed as the level.
    if p != ALPHA and round(p, digits) == ALPHA:
        digits = 4
    return f"p = {p:.{digits}f}".replace("0.", ".", 1)


def format_difference(difference: Difference, metric: Metric) -> str:
    """A difference with its interval and unit: "+0.006 [0.002, 0.010]"."""
    if difference.mean is None:
        return "no value in both runs"
    digits = n_digits(metric, difference.mean)
    unit = f" {metric.unit}" if metric.unit else ""
    text = f"{difference.mean:+.{digits}f}{unit}"
    if difference.ci95 is None:
        return text
    low, high = difference.ci95
    return f"{text} [{low:+.{digits}f}, {high:+.{digits}f}]"


def n_digits(metric: Metric, value: float) -> int:
    """Decimals that a difference bears: enough that a small one is not printed as zero."""
    usual = 3 if metric.upper == 1.0 else 2
    return usual + 1 if abs(value) < 2 * 10**-usual else usual


def _foreground(difference: Difference, comparison: Comparison, metric: Metric) -> str:
    names = [n for n in comparison.class_names if n not in comparison.region_names]
    n_classes = len(names)
    over = names[0] if n_classes == 1 else f"mean over {n_classes} classes"
    b, a = difference.run, difference.baseline
    numbers = format_difference(difference, metric)
    count = f"n = {difference.n}"
    if difference.n_patients != difference.n:
        count += f" cases of {difference.n_patients} patients"
    if difference.verdict == "too small":
        return (
            f"No statement on {b} against {a} is possible: n too small, {difference.n_patients} "
            f"of at least {MIN_PATIENTS_FOR_TEST} patients. The mean difference in {metric.title} "
            f"({over}) is {numbers}, {count}; look at the single cases."
        )
    test = format_p(difference.p_holm) + (", Holm" if len(comparison.foreground) > 1 else "")
    if difference.verdict == "not shown":
        return _not_shown(difference, metric, over=over, brackets=f"{numbers} ({count}, {test})")
    return (
        f"{b} is {difference.verdict} than {a} in {metric.title} ({over}): {numbers} "
        f"({count}, {test})."
    )


def _not_shown(difference: Difference, metric: Metric, *, over: str, brackets: str) -> str:
    """Neither claim a difference nor equality, and say why the numbers may look otherwise."""
    runs = f"{difference.run} and {difference.baseline}"
    if difference.p_holm is not None and difference.p_holm <= ALPHA:
        return (
            f"No difference between {runs} can be claimed in {metric.title} ({over}): where both "
            f"have a value it is {brackets}, but structures that only one of them missed or "
            "hallucinated have none, and it is gone when these count as the worst "
            f"({_with_failures(difference, metric)})."
        )
    text = f"No difference between {runs} was shown in {metric.title} ({over}): {brackets}."
    if _leaves_out_zero(difference):
        return (
            f"{text} This does not prove them equal; nor does the interval alone, which leaves out "
            "0, prove them different: it is not corrected, and too narrow for few patients."
        )
    if difference.ci95 is None or difference.ci95[0] == difference.ci95[1]:
        return f"{text} Every case has the same difference: that says little about other patients."
    return (
        f"{text} This does not prove them equal: the interval holds the differences that these "
        "cases leave possible."
    )


def _left_out(difference: Difference) -> str:
    """Say in the sentence itself that one run has values the other lacks."""
    if not difference.n_only_baseline + difference.n_only_run:
        return ""
    return (
        f" Not in this difference, because the other run has none: {difference.n_only_baseline} "
        f"values of {difference.baseline} and {difference.n_only_run} of {difference.run}."
    )


def is_undone_by_failures(difference: Difference) -> bool:
    """Whether the sign of a difference changes when failures without a value count."""
    counted = difference.mean_with_failures
    return difference.mean is not None and counted is not None and counted * difference.mean <= 0


def _with_failures(difference: Difference, metric: Metric) -> str:
    counted = difference.model_copy(update={"mean": difference.mean_with_failures, "ci95": None})
    return format_difference(counted, metric)


def _leaves_out_zero(difference: Difference) -> bool:
    return difference.ci95 is not None and not (difference.ci95[0] <= 0 <= difference.ci95[1])


def _powerless(comparison: Comparison) -> list[str]:
    """Say when no result whatsoever could pass the correction over classes."""
    n_tests = _n_tests(comparison.classes)
    n_patients = max((d.n_patients for d in comparison.classes), default=0)
    # Of two sided p values: both patterns of equal signs, or the observed one of all drawn.
    is_exact = n_patients <= MAX_PATIENTS_FOR_EXACT
    smallest = 2 / 2**n_patients if is_exact else 1 / (N_SIGN_FLIPS + 1)
    if n_tests * smallest <= ALPHA:
        return []
    return [
        f"With {n_patients} patients and {n_tests} tests by class, no corrected p can be below "
        f"{min(1.0, n_tests * smallest):.2g}: for single classes this comparison cannot show a "
        "difference, however large. Read their intervals, and compare more cases."
    ]


def _classes(differences: Sequence[Difference], metric: Metric, *, n_tests: int) -> str:
    parts = []
    for verdict in ("better", "worse"):
        named = [d for d in differences if d.verdict == verdict]
        parts += [f"{verdict} for {_listed(named, metric)}"] if named else []
    rest = [d for d in differences if d.verdict in ("not shown", "too small")]
    if rest:
        parts.append(f"no difference shown for {_listed(rest, metric)}")
    return f"By class, Holm over {n_tests} tests: {'; '.join(parts)}."


def _n_tests(differences: Sequence[Difference]) -> int:
    return sum(d.p is not None for d in differences)


def _listed(differences: Sequence[Difference], metric: Metric) -> str:
    shown = [
        f"{d.class_name} ({format_difference(d, metric)}, "
        + ("n too small" if d.p_holm is None else format_p(d.p_holm))
        + ")"
        for d in differences[:MAX_CLASSES]
    ]
    n_more = len(differences) - len(shown)
    return ", ".join(shown) + (f" and {n_more} more" if n_more else "")


def _ranking(comparison: Comparison) -> str:
    ranking = comparison.rankings[0]
    winners = [place for place, rank in enumerate(ranking.ranks) if rank == 1]
    names = [comparison.runs[place].label for place in winners]
    if len(names) > 1:
        return f"{' and '.join(names)} share the first rank by their means."
    text = f"{names[0]} ranks first by its mean"
    if not ranking.frequencies[winners[0]]:
        return f"{text}."
    share = ranking.frequencies[winners[0]][0]
    settled = "" if share >= SETTLED else ": other patients could give another winner"
    tau = "" if ranking.kendall_tau is None else f"; Kendall's tau {ranking.kendall_tau:.2f}"
    return f"{text}, in {100 * share:.0f} % of the resamples of patients{settled}{tau}."


def _small_sample(difference: Difference) -> str:
    """Give Student's interval where the bootstrap is known to be too narrow."""
    low, high = difference.t95 or (0.0, 0.0)
    return (
        f"{difference.run}: with {difference.n_patients} patients the bootstrap interval is too "
        f"narrow (benchmarks/coverage.py); Student's t interval of the mean difference is "
        f"[{low:+.3f}, {high:+.3f}]. Look at every case."
    )


def _disagreement(difference: Difference) -> str | None:
    """Say where the mean and the ranks of the same differences speak differently."""
    if difference.p is None or difference.p_wilcoxon is None:
        return None
    if (difference.p <= ALPHA) == (difference.p_wilcoxon <= ALPHA):
        return None
    return (
        f"{difference.run} is better in {difference.n_wins} and worse in {difference.n_losses} "
        f"cases (Wilcoxon {format_p(difference.p_wilcoxon)}), while the test of the mean says "
        f"{format_p(difference.p)}: a few cases with large changes decide the mean. Look at them "
        "in the table of all cases."
    )


def _unpaired(comparison: Comparison) -> list[str]:
    """Values that only one of the two runs has would otherwise vanish without a word."""
    notes = []
    advice = ""
    if comparison.metric in PENALIZED:
        advice = f" '--metric {PENALIZED[comparison.metric]}' counts them."
    for d in comparison.classes:
        if d.n_only_baseline + d.n_only_run == 0:
            continue
        notes.append(
            f"{d.class_name}: values without a counterpart in the other run, {d.n_only_baseline} "
            f"of {d.baseline} and {d.n_only_run} of {d.run}, are in no difference: policy "
            f"'{comparison.policy}' gives a structure no value that is rightly absent, and no "
            f"distance to one that is missed.{advice} If failures count as the worst possible "
            f"value, the difference is {_with_failures(d, metric_named(comparison.metric))}."
        )
    return notes[:MAX_CLASSES]
