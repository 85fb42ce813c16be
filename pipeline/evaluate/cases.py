"""Reading and scoring every pair of files; one that cannot be scored does not stop the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from pipeline.artifacts import FailedCase
from pipeline.core.parallel import Outcome, map_cases
from pipeline.core.task import Task
from pipeline.core.workspace import write_text
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.pairs import CasePair
from pipeline.evaluate.score import score_case, score_unpredicted
from pipeline.io.load import load_volume
from pipeline.metrics.lesion import LesionRule
from pipeline.metrics.measure import Measures
from pipeline.metrics.scores import CaseScores, case_scores_from_json, case_scores_to_json

# Starting worker processes costs seconds; below this much compressed data they do not pay.
PARALLEL_FROM_BYTES = 200_000_000

# Raise this when a score changes its meaning, so that kept ones are not used again.
SCORE_VERSION = 3
_SETTINGS_OF_A_CASE = {
    *("surfaces", "tolerances_mm", "multi", "min_lesion_mm3", "lesion_dilation_voxels"),
    *("regions", "max_corner_displacement_voxels"),
}

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


def score_pairs(
    pairs: Sequence[CasePair], task: Task, config: EvaluateConfig, cache_dir: Path
) -> ScoredCases:
    """Score every pair of files, or read what was scored before.

    Scores depend on the two files, the classes and what is measured; they are kept by the hash of
    those, so that another policy, more resamples or an interrupted evaluation cost no voxel again.

    Args:
        pairs: Prediction and reference per case.
        task: Says which value is which class.
        config: How to score.
        cache_dir: Where scores are kept between evaluations.

    Returns:
        Scores and failures, in the order of the pairs.
    """
    work = ScoreWork(task, config, cache_dir)
    outcomes = map_cases(
        work, pairs, description="scoring", n_jobs=config.n_jobs or _fitting_n_jobs(pairs)
    )
    cases = tuple(o.result for o in outcomes if o.result is not None)
    failures = (_failure(o) for o in outcomes)
    return ScoredCases(cases, tuple(f for f in failures if f is not None))


@dataclass(frozen=True)
class ScoreWork:
    """Scores one pair of files; picklable, so that worker processes can do it.

    Args:
        task: Says which value is which class.
        config: How to score.
        cache_dir: Where scores are kept.
    """

    task: Task
    config: EvaluateConfig
    cache_dir: Path

    def __call__(self, pair: CasePair) -> CaseScores:
        """Read the scores of a pair, or make and keep them.

        Raises:
            DataError: If the two cannot be compared.
        """
        file = self.cache_dir / f"{self._key(pair)}.json"
        try:
            return replace(
                case_scores_from_json(file.read_text(encoding="utf-8")), case_id=pair.case_id
            )
        except (OSError, ValueError):
            scores = self._score(pair)
            write_text(file, case_scores_to_json(scores), durable=False)
            return scores

    def _key(self, pair: CasePair) -> str:
        # What decides about averages and pages is not in the scores of a case.
        settings = self.config.model_dump_json(include=_SETTINGS_OF_A_CASE)
        digest = xxhash.xxh3_128(
            f"{SCORE_VERSION} {settings} {self.task.model_dump_json()} {pair.unannotated}".encode()
        )
        for file in (pair.reference, pair.prediction, self._probabilities_file(pair)):
            if file is not None and file.is_file():
                digest.update(file.read_bytes())
            digest.update(b"|")
        return digest.hexdigest()

    def _probabilities_file(self, pair: CasePair) -> Path | None:
        folder = self.config.probabilities
        if folder is None or pair.prediction is None:
            return None
        return folder / pair.prediction.name

    def _score(self, pair: CasePair) -> CaseScores:
        measures = measures_of(self.config)
        _, reference = load_volume(pair.reference, root=pair.reference.parent, role="label")
        if pair.prediction is None:
            return score_unpredicted(
                reference,
                self.task,
                case_id=pair.case_id,
                measures=measures,
                unannotated=pair.unannotated,
            )
        _, prediction = load_volume(pair.prediction, root=pair.prediction.parent, role="label")
        probabilities = None
        file = self._probabilities_file(pair)
        if file is not None:
            _, probabilities = load_volume(file, root=file.parent, role="image")
        return score_case(
            prediction,
            reference,
            self.task,
            case_id=pair.case_id,
            max_displacement_voxels=self.config.max_corner_displacement_voxels,
            measures=measures,
            probabilities=probabilities,
            unannotated=pair.unannotated,
        )


def measures_of(config: EvaluateConfig) -> Measures:
    """What the configuration asks to measure beyond overlap."""
    return Measures(
        tolerances_mm=config.tolerances_mm,
        lesion_classes=config.multi,
        lesion_rule=LesionRule(config.lesion_dilation_voxels, config.min_lesion_mm3),
        regions=config.regions,
        has_surfaces=config.surfaces,
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
