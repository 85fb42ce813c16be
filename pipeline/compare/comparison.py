"""From tables of scores to differences with intervals, tests and ranks. No files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.compare.agreement import Agreed
from pipeline.compare.conclusion import ALPHA, conclude, is_undone_by_failures, notes_on
from pipeline.compare.result import (
    ComparedRun,
    Comparison,
    Difference,
    Excluded,
    RunRanking,
    Verdict,
)
from pipeline.compare.table import ValueTable, count_status, tabulate, values_to_rank
from pipeline.core.errors import DataError, UsageError
from pipeline.core.seeds import generator_for
from pipeline.metrics.aggregate import MIN_CASES_FOR_INTERVAL, patients_of
from pipeline.metrics.bootstrap import Resamples, column_mean, draw_resamples, mean_interval
from pipeline.metrics.paired import holm, paired_difference
from pipeline.metrics.policy import policy_named
from pipeline.metrics.ranking_stability import RankingMethod, rank_runs
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.values import METRICS, Metric, metric_named, metric_value

N_RANKING_RESAMPLES = 1_000
RANKING_METHODS: tuple[RankingMethod, ...] = ("aggregate_then_rank", "rank_then_aggregate")


@dataclass(frozen=True)
class CompareSettings:
    """How runs are compared; the metric is named before anybody looks at results.

    Args:
        metric: One of metrics/values.py that has a direction.
        policy: What empty masks count.
        n_bootstrap: Resamples of patients.
        seed: Makes intervals and drawn tests reproducible.
        groups: Case id to patient; None if every case is one.
    """

    metric: str = "dice"
    policy: str = "strict"
    n_bootstrap: int = 10_000
    seed: int = 0
    groups: Mapping[str, str] | None = None


@dataclass(frozen=True)
class _Work:
    """What every step below needs."""

    agreed: Agreed
    metric: Metric
    table: ValueTable
    resamples: Resamples
    settings: CompareSettings

    @property
    def is_higher_better(self) -> bool:
        return bool(self.metric.higher_is_better)


def compare_runs(agreed: Agreed, settings: CompareSettings) -> Comparison:
    """Compare every run with the first, per class and in the foreground mean.

    Args:
        agreed: Runs with the same cases.
        settings: Metric, policy and resampling.

    Returns:
        The comparison with its conclusion in words.

    Raises:
        UsageError: If the metric says nothing about better or worse.
        DataError: If a run has no value of the metric.
        ConfigError: If there is no such metric or policy.
    """
    metric, policy = check_metric(agreed, settings), policy_named(settings.policy)
    table = tabulate(agreed, metric, policy)
    patients = patients_of(agreed.runs[0].cases, settings.groups)
    rng = generator_for(settings.seed, "compare")
    resamples = draw_resamples(patients, n_resamples=settings.n_bootstrap, rng=rng)
    work = _Work(agreed, metric, table, resamples, settings)
    foreground = _with_verdicts(_foreground(work), metric)
    comparison = Comparison(
        metric=metric.name,
        policy=policy.name,
        n_cases=len(agreed.case_ids),
        n_patients=resamples.n_groups,
        class_names=agreed.class_names,
        region_names=agreed.region_names,
        n_bootstrap=settings.n_bootstrap,
        seed=settings.seed,
        runs=tuple(_run(work, place) for place in range(len(agreed.runs))),
        foreground=foreground,
        classes=_with_verdicts(_classes(work), metric),
        rankings=_rankings(work),
        excluded=tuple(
            Excluded(label=x.label, case_ids=x.case_ids, class_names=x.class_names)
            for x in agreed.left_out
        ),
        conclusion="",
        notes=(),
    )
    return comparison.model_copy(
        update={"conclusion": conclude(comparison), "notes": notes_on(comparison, agreed)}
    )


def check_metric(agreed: Agreed, settings: CompareSettings) -> Metric:
    """Refuse a metric that cannot compare these runs.

    Args:
        agreed: The runs.
        settings: Names metric and policy.

    Returns:
        The metric.

    Raises:
        UsageError: If the metric says nothing about better or worse.
        DataError: If a run has no value of the metric.
        ConfigError: If there is no such metric or policy.
    """
    metric, names = metric_named(settings.metric), agreed.class_names
    if metric.higher_is_better is None:
        known = ", ".join(m.name for m in METRICS if m.higher_is_better is not None)
        raise UsageError(
            f"{metric.title} has a sign, so more is neither better nor worse",
            where="--metric",
            fix=f"choose one of: {known}",
        )
    policy = policy_named(settings.policy)
    for run in agreed.runs:
        values = (metric_value(c, n, metric.name, policy) for c in run.cases for n in names)
        if all(value is None for value in values):
            raise DataError(
                f"{run.label} has no value of {metric.title}",
                where=str(run.table.file),
                fix="score it again with 'voxline evaluate', or choose another --metric",
            )
    _refuse_other_rules(agreed, metric)
    return metric


def _refuse_other_rules(agreed: Agreed, metric: Metric) -> None:
    """A surface Dice at 1 mm and one at 3 mm are two different metrics."""
    # Case by case: the default tolerance follows the spacing of the image.
    for cases in zip(*(run.cases for run in agreed.runs), strict=True):
        for name in agreed.class_names:
            rules = [_rule_of(case, name, metric) for case in cases]
            if len({rule for rule in rules if rule is not None}) > 1:
                raise DataError(
                    f"{metric.title} of '{name}' was not measured by one rule in these runs",
                    where=f"case {cases[0].case_id}: "
                    + ", ".join(
                        f"{run.label} {rule}" for run, rule in zip(agreed.runs, rules, strict=True)
                    ),
                    fix="score all runs with the same evaluate.tolerances_mm and min_lesion_mm3",
                )


def _rule_of(case: CaseScores, class_name: str, metric: Metric) -> str | None:
    if metric.name == "nsd":
        surface = case.surface_of(class_name)
        return None if surface is None else f"within {surface.tolerance_mm:g} mm"
    if metric.name.startswith("lesion"):
        lesion = case.lesion_of(class_name)
        return None if lesion is None else f"above {lesion.min_lesion_mm3:g} mm3"
    return None


def _run(work: _Work, place: int) -> ComparedRun:
    run = work.agreed.runs[place]
    values = work.table.only(work.agreed.foreground).values[place]
    classes = [work.agreed.class_names[column] for column in work.agreed.foreground]
    is_enough = work.resamples.n_groups >= MIN_CASES_FOR_INTERVAL
    return ComparedRun(
        label=run.label,
        file=str(run.table.file),
        description=run.table.description,
        mean=column_mean(values),
        ci95=mean_interval(values, work.resamples) if is_enough else None,
        n_missed=count_status(run, classes, "missed"),
        n_hallucinated=count_status(run, classes, "hallucinated"),
    )


def _foreground(work: _Work) -> list[Difference]:
    columns = work.agreed.foreground
    return [_difference(work, place, columns, None) for place in range(1, len(work.agreed.runs))]


def _classes(work: _Work) -> list[Difference]:
    return [
        _difference(work, place, [column], name)
        for place in range(1, len(work.agreed.runs))
        for column, name in enumerate(work.agreed.class_names)
    ]


def _difference(
    work: _Work, place: int, columns: Sequence[int], class_name: str | None
) -> Difference:
    table = work.table.only(columns)
    a, b = table.values[0], table.values[place]
    is_pair = np.isfinite(a) & np.isfinite(b)
    rng = generator_for(work.settings.seed, "sign flips")
    found = paired_difference(a, b, work.resamples, is_higher_better=work.is_higher_better, rng=rng)
    return Difference(
        run=work.agreed.runs[place].label,
        baseline=work.agreed.runs[0].label,
        class_name=class_name,
        mean_baseline=column_mean(np.where(is_pair, a, np.nan)),
        mean_run=column_mean(np.where(is_pair, b, np.nan)),
        n=found.n,
        n_patients=found.n_patients,
        n_only_baseline=found.n_only_a,
        n_only_run=found.n_only_b,
        mean=found.mean,
        mean_with_failures=column_mean(table.filled[place] - table.filled[0]),
        median=found.median,
        ci95=found.ci95,
        t95=found.t95,
        p=found.p_sign_flip,
        p_holm=None,
        is_exact=found.is_exact,
        p_wilcoxon=found.p_wilcoxon,
        n_wins=found.n_wins,
        n_ties=found.n_ties,
        n_losses=found.n_losses,
        rank_biserial=found.rank_biserial,
        verdict="too small" if found.is_too_small else "not shown",
    )


def _with_verdicts(differences: Sequence[Difference], metric: Metric) -> tuple[Difference, ...]:
    """Correct the p values of one family of tests, and say what each allows to say."""
    corrected = holm([d.p for d in differences])
    return tuple(
        d.model_copy(update={"p_holm": p, "verdict": _verdict(d, p, metric)})
        for d, p in zip(differences, corrected, strict=True)
    )


def _verdict(difference: Difference, p_holm: float | None, metric: Metric) -> Verdict:
    if p_holm is None or difference.mean is None:
        return difference.verdict
    # An advantage that is gone when failures without a value count is none.
    if p_holm > ALPHA or is_undone_by_failures(difference):
        return "not shown"
    return "better" if (difference.mean > 0) == metric.higher_is_better else "worse"


def _rankings(work: _Work) -> tuple[RunRanking, ...]:
    if len(work.agreed.runs) < 3:
        return ()
    table = work.table.only(work.agreed.foreground)
    values = values_to_rank(table)
    n = min(work.settings.n_bootstrap, N_RANKING_RESAMPLES)
    fewer = replace(work.resamples, counts=work.resamples.counts[:n])
    found = [
        rank_runs(values, fewer, method=method, is_higher_better=work.is_higher_better)
        for method in RANKING_METHODS
    ]
    return tuple(
        RunRanking(
            method=ranking.method,
            values=ranking.values,
            ranks=ranking.ranks,
            frequencies=ranking.frequencies,
            kendall_tau=ranking.kendall_tau,
            kendall_tau_low=ranking.kendall_tau_low,
        )
        for ranking in found
    )
