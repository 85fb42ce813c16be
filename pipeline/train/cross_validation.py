"""From several trainings to one result: folds pooled case by case, seeds side by side."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipeline.artifacts import ModelCard, Summary, Task
from pipeline.core.artifact import Artifact
from pipeline.core.config import StrictModel
from pipeline.core.errors import DataError
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.regions import unions_of
from pipeline.metrics.score_table import read_scores_csv
from pipeline.metrics.scores import CaseScores
from pipeline.train.config import TrainConfig

# What may differ between folds that are pooled: the fold, and how often progress is saved.
_NOT_COMPARED = {"fold", "checkpoint_minutes"}
MAX_NAMED_CASES = 5


@dataclass(frozen=True)
class FoldResult:
    """One finished training of a fold.

    Args:
        folder: Where it lies.
        card: What it left.
        config: The knobs it was trained with.
        case_ids: Validation cases of the fold.
    """

    folder: Path
    card: ModelCard
    config: TrainConfig
    case_ids: tuple[str, ...]


class Spread(StrictModel):
    """A score over trainings that differ in their seed only."""

    values: tuple[float | None, ...] = Field(description="one per training; null: undefined")
    n_seeds: int = Field(description="trainings in which the score is defined")
    mean: float | None
    sd: float | None = Field(description="sample standard deviation; null below two trainings")
    min: float | None
    max: float | None


class SeedSummary(Artifact):
    """`seeds_fold_0/summary.json`: how much of a result is chance."""

    fold: str
    seeds: tuple[int, ...]
    n_cases: int = Field(description="validation cases, the same for all seeds")
    mean_foreground_dice: Spread
    classes: dict[str, Spread] = Field(description="mean Dice of the final validation")


def pool_folds(
    folds: Sequence[FoldResult], groups: Mapping[str, str]
) -> tuple[Summary, tuple[CaseScores, ...]]:
    """Pool the validation scores of folds: every case once, scored by the model that never saw it.

    Args:
        folds: Finished trainings of the same data with the same configuration.
        groups: Case id to patient, for the intervals.

    Returns:
        The averages over all cases, and the scores of the cases in order of their ids.

    Raises:
        DataError: If the folds are not of one experiment, or their scores are not of their cases.
        MissingInputError: If the scores of a fold are not there.
    """
    for fold in folds[1:]:
        _refuse_other(folds[0], fold)
    scores = [case for fold in folds for case in _scores_of(fold)]
    n_times = Counter(case.case_id for case in scores)
    twice = sorted(case_id for case_id, n in n_times.items() if n > 1)
    if twice:
        raise DataError(
            f"{len(twice)} case(s) are validation cases of more than one fold",
            where=", ".join(twice[:MAX_NAMED_CASES]),
            fix="audit the dataset again and train the folds again",
        )
    ordered = tuple(sorted(scores, key=lambda case: case.case_id))
    return summarize_cases(ordered, folds[0].card.info.task, groups), ordered


def summarize_cases(cases: Sequence[CaseScores], task: Task, groups: Mapping[str, str]) -> Summary:
    """Average over validation cases; the foreground mean is that of classes, without regions.

    Args:
        cases: Their scores.
        task: Classes, and regions, which stand beside them.
        groups: Case id to patient, for the intervals.

    Returns:
        The averages.
    """
    summary = summarize(cases, task.class_names, groups=groups)
    regions = tuple(unions_of(task))
    of_regions = summarize(cases, regions, groups=groups).classes if regions else {}
    return summary.model_copy(update={"classes": {**summary.classes, **of_regions}})


def spread_of_seeds(cards: Mapping[int, ModelCard]) -> SeedSummary:
    """Compare trainings of one fold that differ in their seed.

    Args:
        cards: What each seed left, with validation scores.

    Returns:
        Mean, standard deviation and range of the final Dice.

    Raises:
        DataError: If the trainings are not of one fold of one dataset.
    """
    facts = {
        (card.info.fold, card.info.dataset_digest, card.validation and card.validation.n_cases)
        for card in cards.values()
    }
    summaries = [card.validation for card in cards.values() if card.validation is not None]
    if len(facts) != 1 or not summaries:
        raise DataError(
            "the trainings are not of one fold of one dataset with validation cases",
            where=f"seeds {', '.join(map(str, cards))}",
            fix="train them again with one command: voxline train --seeds N",
        )
    return SeedSummary(
        fold=next(iter(cards.values())).info.fold,
        seeds=tuple(cards),
        n_cases=summaries[0].n_cases,
        mean_foreground_dice=spread([summary.mean_foreground_dice for summary in summaries]),
        classes={
            name: spread([summary.classes[name].dice.mean for summary in summaries])
            for name in summaries[0].classes
        },
    )


def spread(values: Sequence[float | None]) -> Spread:
    """Describe a few values; None are left out and not counted.

    Args:
        values: One per training.

    Returns:
        Mean, sample standard deviation and range.
    """
    known = [value for value in values if value is not None]
    return Spread(
        values=tuple(values),
        n_seeds=len(known),
        mean=statistics.fmean(known) if known else None,
        sd=statistics.stdev(known) if len(known) > 1 else None,
        min=min(known, default=None),
        max=max(known, default=None),
    )


def _refuse_other(first: FoldResult, other: FoldResult) -> None:
    """Scores of different experiments have no common mean."""
    one, two = first.card.info, other.card.info
    configs = [f.config.model_dump_json(exclude=_NOT_COMPARED) for f in (first, other)]
    facts = {
        "data": (one.dataset_digest, two.dataset_digest),
        "task": (one.task, two.task),
        "configuration": (configs[0], configs[1]),
    }
    different = [name for name, (a, b) in facts.items() if a != b]
    if different:
        raise DataError(
            f"folds {one.fold} and {two.fold} cannot be pooled: different {', '.join(different)}",
            where=f"{first.folder}, {other.folder}",
            fix="train all folds with one command: voxline train --fold cv",
        )


def _scores_of(fold: FoldResult) -> tuple[CaseScores, ...]:
    file = fold.folder / "validation" / "scores.csv"
    scores = read_scores_csv(file)
    if {case.case_id for case in scores} != set(fold.case_ids):
        raise DataError(
            f"the scores of fold {fold.card.info.fold} are not those of its validation cases",
            where=str(file),
            fix=f"remove {fold.folder} and train this fold again",
        )
    return scores
