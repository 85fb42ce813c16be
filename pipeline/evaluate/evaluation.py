"""What an evaluation starts from and what it ends with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.artifacts import Summary
from pipeline.core.task import Task
from pipeline.evaluate.config import EvaluateConfig
from pipeline.metrics.policy import EmptyPolicy, policy_named
from pipeline.metrics.scores import CaseScores


@dataclass(frozen=True)
class EvaluationInput:
    """Predictions to score and what to score them against.

    Args:
        dataset_name: For reports.
        prediction_dir: Folder of label maps, with the values of the reference files.
        references: Case id to label file; every one is scored, with a prediction or without.
        task: Says which value is which class; None finds out from the references.
        images: Case id to image file, for pictures; may be empty.
        seen_in_training: Cases the model was trained on; their scores say little.
    """

    dataset_name: str
    prediction_dir: Path
    references: Mapping[str, Path]
    task: Task | None = None
    images: Mapping[str, Path] = field(default_factory=dict)
    seen_in_training: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Everything reports are made of.

    Args:
        dataset_name: For headings.
        class_names: Foreground classes in index order.
        config: How it was scored.
        cases: Scored cases, worst first.
        summary: Averages, counts and failures.
        extra_predictions: Prediction files without a reference.
    """

    dataset_name: str
    class_names: tuple[str, ...]
    config: EvaluateConfig
    cases: tuple[CaseScores, ...]
    summary: Summary
    extra_predictions: tuple[str, ...] = ()

    @property
    def policy(self) -> EmptyPolicy:
        """The empty-mask policy of all averages."""
        return policy_named(self.config.policy)

    @property
    def n_references(self) -> int:
        """Cases with a reference: scored ones and those that could not be."""
        scored = {case.case_id for case in self.cases}
        return len(scored.union(f.case_id for f in self.summary.failed_cases))

    @property
    def n_unscored(self) -> int:
        """References that are in no average."""
        return self.n_references - len(self.cases)
