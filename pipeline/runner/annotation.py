"""Which classes nobody drew in the references of an evaluation, as the configuration declares."""

import logging
from dataclasses import replace

from pipeline.artifacts import ModelInfo, Task
from pipeline.core.task import TaskConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.ingest.unannotated import with_listed_cases

logger = logging.getLogger(__name__)


def with_annotation(source: EvaluationInput, task: Task, config: TaskConfig) -> EvaluationInput:
    """Tell an evaluation what section `task.unannotated` says about its references.

    Args:
        source: What is to be scored.
        task: Its classes.
        config: Section `task`; its lists may name cases of other data sets too.

    Returns:
        The same with the classes that are not to be scored.

    Raises:
        ConfigError: If a class is not known, or the CSV cannot be read.
    """
    resolved = with_listed_cases(config, task, source.references, is_complete=False)
    declared = resolved.unannotated
    listed = {
        case_id: tuple(name for name, ids in declared.cases.items() if case_id in ids)
        for case_id in source.references
    }
    return replace(
        source,
        unannotated={case_id: names for case_id, names in listed.items() if names},
        absent_is_unannotated=task.class_names if declared.absent == "all" else declared.absent,
    )


def warn_if_undeclared(source: EvaluationInput, info: ModelInfo) -> None:
    """Remind of declarations that the training had and this evaluation has not."""
    if info.n_annotated_cases and not source.unannotated and not source.absent_is_unannotated:
        logger.warning(
            "some training cases were not annotated for %s; if that holds for these references "
            "too, declare it in task.unannotated (--config), else what is missing there counts "
            "as absent",
            ", ".join(info.n_annotated_cases),
        )
