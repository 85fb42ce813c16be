"""`comparison.json`: what was compared with what, and what the statistics allow to say."""

from typing import Literal

from pydantic import Field

from pipeline.artifacts import Artifact
from pipeline.core.config import StrictModel

Verdict = Literal["better", "worse", "not shown", "too small"]
Bounds = tuple[float, float]


class ComparedRun(StrictModel):
    """One run and its mean."""

    label: str
    file: str = Field(description="the table of scores it was compared by")
    description: str = Field(description="which of its scores these are")
    mean: float | None = Field(description="foreground mean of the metric")
    ci95: Bounds | None
    n_missed: int = Field(description="structures of the reference without any predicted voxel")
    n_hallucinated: int = Field(description="predicted structures that the reference lacks")
    mlflow_run_id: str | None = None


class Difference(StrictModel):
    """One run against the baseline, in one class or in the foreground mean."""

    run: str
    baseline: str
    class_name: str | None = Field(description="None for the mean over classes")
    mean_baseline: float | None = Field(description="over the cases with a value in both runs")
    mean_run: float | None = Field(description="over the same cases")
    n: int = Field(description="cases with a value in both runs")
    n_patients: int
    n_only_baseline: int = Field(description="values the run lacks; they are in no difference")
    n_only_run: int = Field(description="values the baseline lacks")
    mean: float | None = Field(description="run minus baseline")
    mean_with_failures: float | None = Field(
        description="the same if a structure that was missed or hallucinated and has no value "
        "counts as the worst possible one, and one that is rightly absent as the best"
    )
    median: float | None = Field(description="over cases")
    ci95: Bounds | None = Field(description="of the mean, paired bootstrap over patients")
    t95: Bounds | None = Field(description="Student t interval, for fewer than 20 patients")
    p: float | None = Field(description="sign-flip permutation test of the mean, two-sided")
    p_holm: float | None = Field(description="corrected for the number of tests of its family")
    is_exact: bool = Field(description="all sign patterns were counted")
    p_wilcoxon: float | None = Field(description="second opinion, not corrected")
    n_wins: int = Field(description="cases in which the run is better")
    n_ties: int
    n_losses: int
    rank_biserial: float | None = Field(description="effect size in [-1, 1], 1: always better")
    verdict: Verdict


class RunRanking(StrictModel):
    """Ranks of more than two runs, and how firm they are."""

    method: Literal["aggregate_then_rank", "rank_then_aggregate"]
    values: tuple[float, ...] = Field(description="mean score, or mean rank, per run")
    ranks: tuple[int, ...]
    frequencies: tuple[tuple[float, ...], ...] = Field(
        description="share of resamples in which a run took rank 1, 2, ..."
    )
    kendall_tau: float | None = Field(description="mean over resamples, against this ranking")
    kendall_tau_low: float | None = Field(description="2.5 % quantile")


class Excluded(StrictModel):
    """What was left out because not every run has it."""

    label: str
    case_ids: tuple[str, ...]
    class_names: tuple[str, ...]


class Comparison(Artifact):
    """The whole result; the first run is the baseline."""

    metric: str
    policy: str
    n_cases: int
    n_patients: int
    class_names: tuple[str, ...]
    region_names: tuple[str, ...] = Field(
        description="those of class_names that unite classes; in no foreground mean"
    )
    n_bootstrap: int
    seed: int
    runs: tuple[ComparedRun, ...]
    foreground: tuple[Difference, ...] = Field(description="one per run after the first")
    classes: tuple[Difference, ...] = Field(description="one per run after the first and class")
    rankings: tuple[RunRanking, ...] = Field(description="for more than two runs")
    excluded: tuple[Excluded, ...]
    conclusion: str
    notes: tuple[str, ...]
