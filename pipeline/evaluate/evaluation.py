"""What an evaluation ends with."""

from dataclasses import dataclass

from pipeline.artifacts import Summary
from pipeline.evaluate.config import EvaluateConfig
from pipeline.metrics.policy import EmptyPolicy, policy_named
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.subgroups import Subgroup


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
        seen_in_training: Scored cases the model was trained on.
        subgroups: The same averages within groups of cases.
        n_patients: Patients behind the cases; None if every case counts as one.
        ignored_values: Values of the reference whose voxels were not scored.
    """

    dataset_name: str
    class_names: tuple[str, ...]
    config: EvaluateConfig
    cases: tuple[CaseScores, ...]
    summary: Summary
    extra_predictions: tuple[str, ...] = ()
    seen_in_training: tuple[str, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    n_patients: int | None = None
    ignored_values: tuple[int, ...] = ()

    @property
    def region_names(self) -> tuple[str, ...]:
        """Unions of classes that were scored beside the classes."""
        return tuple(self.config.regions)

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
