"""Reading and scoring every pair of files; one that cannot be scored does not stop the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.artifacts import FailedCase
from pipeline.core.parallel import Outcome, map_cases
from pipeline.core.task import Task
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.pairs import CasePair
from pipeline.evaluate.score import score_case, score_unpredicted
from pipeline.io.load import load_volume
from pipeline.metrics.scores import CaseScores

# Starting worker processes costs seconds; below this much compressed data they do not pay.
PARALLEL_FROM_BYTES = 200_000_000

MISSING_PREDICTION = "there is no prediction for this case; its structures count as missed"


@dataclass(frozen=True)
class ScoredCases:
    """What became of all pairs.

    Args:
        cases: Scores, also of cases without a prediction.
        failed: Cases without a prediction, and cases that could not be scored at all.
    """

    cases: tuple[CaseScores, ...]
    failed: tuple[FailedCase, ...]


def score_pairs(pairs: Sequence[CasePair], task: Task, config: EvaluateConfig) -> ScoredCases:
    """Score every pair of files.

    Args:
        pairs: Prediction and reference per case.
        task: Says which value is which class.
        config: How to score.

    Returns:
        Scores and failures, in the order of the pairs.
    """
    outcomes = map_cases(
        partial(_score_pair, task=task, max_displacement=config.max_corner_displacement_voxels),
        pairs,
        description="scoring",
        n_jobs=config.n_jobs or _fitting_n_jobs(pairs),
    )
    cases = tuple(o.result for o in outcomes if o.result is not None)
    failures = (_failure(o) for o in outcomes)
    return ScoredCases(cases, tuple(f for f in failures if f is not None))


def _score_pair(pair: CasePair, *, task: Task, max_displacement: float) -> CaseScores:
    _, reference = load_volume(pair.reference, root=pair.reference.parent, role="label")
    if pair.prediction is None:
        return score_unpredicted(reference, task, case_id=pair.case_id)
    _, prediction = load_volume(pair.prediction, root=pair.prediction.parent, role="label")
    return score_case(
        prediction,
        reference,
        task,
        case_id=pair.case_id,
        max_displacement_voxels=max_displacement,
    )


def _failure(outcome: Outcome[CasePair, CaseScores]) -> FailedCase | None:
    case_id = outcome.item.case_id
    if outcome.error is not None:
        where = f" ({outcome.error.where})" if outcome.error.where else ""
        return FailedCase(
            case_id=case_id,
            message=f"not scored: {outcome.error.what}{where}",
            fix=outcome.error.fix,
        )
    if outcome.item.prediction is None:
        return FailedCase(
            case_id=case_id,
            message=MISSING_PREDICTION,
            fix="predict it again, or remove its label file if it is not part of the test set",
        )
    return None


def _fitting_n_jobs(pairs: Sequence[CasePair]) -> int:
    files = [pair.reference for pair in pairs]
    files += [pair.prediction for pair in pairs if pair.prediction is not None]
    n_bytes = sum(file.stat().st_size for file in files if file.exists())
    # 0 asks map_cases for every core.
    return 0 if n_bytes > PARALLEL_FROM_BYTES else 1
