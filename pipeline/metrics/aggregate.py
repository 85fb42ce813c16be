"""From scores of cases to numbers about a data set, with their uncertainty and their counts."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from pipeline.artifacts import ClassSummary, Interval, Summary
from pipeline.core.seeds import generator_for
from pipeline.metrics.bootstrap import (
    MAX_PATIENTS_FOR_T,
    Resamples,
    draw_resamples,
    mean_intervals,
    t_interval,
)
from pipeline.metrics.policy import POLICIES, EmptyPolicy, policy_named
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.values import MetricName, metric_value

# Below this number of patients an interval would only pretend to know something.
MIN_CASES_FOR_INTERVAL = 3
# Shown only where at least one case has them.
OPTIONAL_METRICS: tuple[MetricName, ...] = (
    *("hd95_mm", "nsd", "assd_mm", "hd95_penalized_mm"),
    *("precision", "recall", "volume_error_percent", "lesion_f1"),
)


def summarize(
    cases: Sequence[CaseScores],
    class_names: Sequence[str],
    *,
    policy: str = "strict",
    n_bootstrap: int = 10_000,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Summary:
    """Average scores over cases, per class and over all classes.

    Args:
        cases: Scored cases; n_cases of the result counts these.
        class_names: Foreground classes in index order.
        policy: Empty-mask policy of the class averages, see metrics/policy.py.
        n_bootstrap: Resamples for the confidence intervals; 0 for none.
        seed: Makes the intervals reproducible.
        groups: Case id to patient; intervals resample patients with all their cases. A case that
            is not named, and every case without it, is a patient of its own.

    Returns:
        The summary, with the foreground mean under every policy.

    Raises:
        ConfigError: If there is no such policy.
    """
    chosen = policy_named(policy)
    # One set of draws for all classes and metrics: their intervals stay comparable.
    resamples = draw_resamples(
        patients_of(cases, groups), n_resamples=n_bootstrap, rng=generator_for(seed, "bootstrap")
    )
    return Summary(
        policy=chosen.name,
        n_cases=len(cases),
        classes={name: _class_summary(cases, name, chosen, resamples) for name in class_names},
        mean_foreground_dice=mean_foreground_dice(cases, class_names, chosen),
        mean_foreground_dice_policies={
            p.name: mean_foreground_dice(cases, class_names, p) for p in POLICIES
        },
    )


def patients_of(cases: Sequence[CaseScores], groups: Mapping[str, str] | None) -> list[str]:
    """Name the patient of every case; a case that is not named is a patient of its own."""
    # The prefixes keep a case from joining the patient that happens to carry its id.
    known = groups or {}
    return [
        f"patient {known[c.case_id]}" if c.case_id in known else f"case {c.case_id}" for c in cases
    ]


def interval(
    values: Sequence[float | None],
    *,
    n_bootstrap: int,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
) -> Interval:
    """Describe a list of scores: mean, median, 95 % interval of the mean, and counts.

    Args:
        values: Scores; None are counted as undefined.
        n_bootstrap: Resamples of patients; 0 gives no bootstrap interval.
        rng: Random numbers for the resampling.
        groups: Patient of every value; None if every value is a patient.

    Returns:
        The description; mean and median are None if no value is defined.
    """
    names = [str(place) for place in range(len(values))] if groups is None else groups
    resamples = draw_resamples(names, n_resamples=n_bootstrap, rng=rng)
    table = np.array(values, dtype=np.float64).reshape(len(values), 1)
    return _describe(table, resamples, n_scored=len(values))[0]


def mean_foreground_dice(
    cases: Sequence[CaseScores], class_names: Sequence[str], policy: EmptyPolicy
) -> float | None:
    """One number for all foreground classes.

    Args:
        cases: Scored cases.
        class_names: Foreground classes.
        policy: What empty masks count, and in which order to average.

    Returns:
        The mean, None if the policy leaves it undefined.
    """
    table = _dice_table(cases, class_names, policy)
    if policy.average_first == "cases":
        means = [_mean(row) for row in table]
    else:
        means = [_mean(list(column)) for column in zip(*table, strict=True)]
    if policy.empty_class == "undefined" and (not means or None in means):
        return None
    mean = _mean(means)
    return policy.mean_without_values if mean is None else mean


def _dice_table(
    cases: Sequence[CaseScores], class_names: Sequence[str], policy: EmptyPolicy
) -> list[list[float | None]]:
    """Dice under a policy, one row per case, one column per class."""
    table: list[list[float | None]] = []
    for case in cases:
        scores = [case.of_class(name) for name in class_names]
        table.append([None if s is None else policy.value(s.dice) for s in scores])
    return table


def _class_summary(
    cases: Sequence[CaseScores], name: str, policy: EmptyPolicy, resamples: Resamples
) -> ClassSummary:
    statuses = [s.status for case in cases if (s := case.of_class(name)) is not None]

    # All metrics of a class share one pass over the resamples.
    metrics: tuple[MetricName, ...] = ("dice", "iou", "volume_error_ml", *OPTIONAL_METRICS)
    values = [[metric_value(case, name, metric, policy) for metric in metrics] for case in cases]
    table = np.array(values, dtype=np.float64).reshape(len(cases), len(metrics))
    described = dict(zip(metrics, _describe(table, resamples, n_scored=len(statuses)), strict=True))
    optional = {metric: described[metric] for metric in OPTIONAL_METRICS}
    return ClassSummary(
        dice=_filled(described["dice"], policy),
        iou=_filled(described["iou"], policy),
        volume_error_ml=described["volume_error_ml"],
        n_missed=statuses.count("missed"),
        n_hallucinated=statuses.count("hallucinated"),
        n_absent=statuses.count("absent"),
        n_not_annotated=sum(name in case.not_annotated for case in cases),
        **{metric: found for metric, found in optional.items() if found.n},
    )


def _describe(
    table: Float64[np.ndarray, "case column"], resamples: Resamples, *, n_scored: int
) -> list[Interval]:
    """Describe every column; of the scored cases those without a value are undefined."""
    bounds = mean_intervals(table, resamples)
    return [
        _described(table[:, column], resamples, bounds[column], n_scored=n_scored)
        for column in range(table.shape[1])
    ]


def _described(
    values: Float64[np.ndarray, "case"],
    resamples: Resamples,
    bounds: tuple[float, float] | None,
    *,
    n_scored: int,
) -> Interval:
    is_known = np.isfinite(values)
    defined = values[is_known]
    n_undefined = n_scored - int(defined.size)
    if not defined.size:
        return Interval(mean=None, median=None, ci95=None, n=0, n_undefined=n_undefined)
    n_patients = int(np.unique(resamples.group_of_case[is_known]).size)
    is_enough = n_patients >= MIN_CASES_FOR_INTERVAL
    is_few = n_patients <= MAX_PATIENTS_FOR_T
    return Interval(
        mean=float(defined.mean()),
        median=float(np.median(defined)),
        ci95=bounds if is_enough else None,
        n=int(defined.size),
        n_undefined=n_undefined,
        t95=t_interval(values[:, np.newaxis], resamples) if is_enough and is_few else None,
        n_patients=None if n_patients == defined.size else n_patients,
    )


def _filled(described: Interval, policy: EmptyPolicy) -> Interval:
    """Put the policy's stand-in where a class has no value at all; n stays 0."""
    if described.n or policy.mean_without_values is None:
        return described
    return described.model_copy(update={"mean": policy.mean_without_values})


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
