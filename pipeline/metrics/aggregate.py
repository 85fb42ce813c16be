"""From scores of cases to numbers about a data set, with their uncertainty and their counts."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy import stats

from pipeline.artifacts import ClassSummary, Interval, Summary
from pipeline.core.seeds import generator_for
from pipeline.metrics.overlap import OverlapScores
from pipeline.metrics.policy import POLICIES, EmptyPolicy, policy_named
from pipeline.metrics.scores import CaseScores

# Below this number of values an interval would only pretend to know something.
MIN_CASES_FOR_INTERVAL = 3
# Bounds the memory of the resampling: 2**22 float64 are 32 MB.
BOOTSTRAP_BATCH_VALUES = 2**22


def summarize(
    cases: Sequence[CaseScores],
    class_names: Sequence[str],
    *,
    policy: str = "strict",
    n_bootstrap: int = 10_000,
    seed: int = 0,
) -> Summary:
    """Average scores over cases, per class and over all classes.

    Args:
        cases: Scored cases; n_cases of the result counts these.
        class_names: Foreground classes in index order.
        policy: Empty-mask policy of the class averages, see metrics/policy.py.
        n_bootstrap: Resamples for the confidence intervals; 0 for none.
        seed: Makes the intervals reproducible.

    Returns:
        The summary, with the foreground mean under every policy.

    Raises:
        ConfigError: If there is no such policy.
    """
    chosen = policy_named(policy)
    classes: dict[str, ClassSummary] = {}
    for name in class_names:
        scores = [s for case in cases if (s := case.of_class(name)) is not None]
        classes[name] = _class_summary(scores, chosen, n_bootstrap, seed)
    return Summary(
        policy=chosen.name,
        n_cases=len(cases),
        classes=classes,
        mean_foreground_dice=mean_foreground_dice(cases, class_names, chosen),
        mean_foreground_dice_policies={
            p.name: mean_foreground_dice(cases, class_names, p) for p in POLICIES
        },
    )


def interval(
    values: Sequence[float | None], *, n_bootstrap: int, rng: np.random.Generator
) -> Interval:
    """Describe a list of scores: mean, median, 95 % interval of the mean, and counts.

    Args:
        values: Scores; None are counted as undefined.
        n_bootstrap: Resamples of cases; 0 gives no interval.
        rng: Random numbers for the resampling.

    Returns:
        The description; mean and median are None if no value is defined.
    """
    defined = np.array([v for v in values if v is not None], dtype=np.float64)
    n_undefined = len(values) - defined.size
    if not defined.size:
        return Interval(mean=None, median=None, ci95=None, n=0, n_undefined=n_undefined)
    return Interval(
        mean=float(defined.mean()),
        median=float(np.median(defined)),
        ci95=_mean_ci95(defined, n_bootstrap, rng),
        n=int(defined.size),
        n_undefined=n_undefined,
    )


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
    scores: Sequence[OverlapScores], policy: EmptyPolicy, n_bootstrap: int, seed: int
) -> ClassSummary:
    statuses = [s.status for s in scores]

    def describe(values: list[float | None]) -> Interval:
        # The same resamples of cases for every metric and class keep the columns comparable.
        return interval(values, n_bootstrap=n_bootstrap, rng=generator_for(seed, "bootstrap"))

    return ClassSummary(
        dice=_filled(describe([policy.value(s.dice) for s in scores]), policy),
        iou=_filled(describe([policy.value(s.iou) for s in scores]), policy),
        volume_error_ml=describe(
            [None if s.status == "absent" else s.volume_error_ml for s in scores]
        ),
        n_missed=statuses.count("missed"),
        n_hallucinated=statuses.count("hallucinated"),
        n_absent=statuses.count("absent"),
    )


def _filled(described: Interval, policy: EmptyPolicy) -> Interval:
    """Put the policy's stand-in where a class has no value at all; n stays 0."""
    if described.n or policy.mean_without_values is None:
        return described
    return described.model_copy(update={"mean": policy.mean_without_values})


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None


def _mean_ci95(
    values: Float64[np.ndarray, "case"], n_bootstrap: int, rng: np.random.Generator
) -> tuple[float, float] | None:
    """BCa bootstrap interval of the mean; percentile where BCa has no answer.

    Source:
        Efron 1987 (bias-corrected and accelerated bootstrap), by scipy.stats.bootstrap.
    """
    if values.size < MIN_CASES_FOR_INTERVAL or n_bootstrap < 1:
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            # scipy warns where BCa is degenerate; the finite check below handles it.
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            result = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=n_bootstrap,
                batch=max(1, BOOTSTRAP_BATCH_VALUES // values.size),
                vectorized=True,
                confidence_level=0.95,
                method=method,
                rng=rng,
            )
        low, high = (float(x) for x in result.confidence_interval)
        if np.isfinite(low) and np.isfinite(high):
            return low, high
    return None
