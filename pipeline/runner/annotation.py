"""What section `task` of the configuration says about the references of an evaluation."""

import logging
from dataclasses import replace
from pathlib import Path

from pipeline.artifacts import ModelInfo, Task
from pipeline.core.task import TaskConfig
from pipeline.evaluate.inputs import EvaluationInput
from pipeline.ingest.resolve import resolve_task
from pipeline.ingest.unannotated import with_listed_cases
from pipeline.io.discover import DatasetFolder

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


def configured_task(found: Task, config: TaskConfig) -> Task:
    """Classes, voxels to ignore and regions as configured, where references alone were read.

    Args:
        found: What the references, or a dataset.json beside them, say.
        config: Section `task`; what it leaves open stays as found. Channels mean nothing here.

    Returns:
        The task to score by.

    Raises:
        ConfigError: If the section contradicts itself or names what the references do not have.
    """
    said = (config.classes, config.ignore, config.background, config.regions)
    if all(part is None for part in said):
        return found
    others = {*(config.ignore or ()), *(config.background or ())}
    # Without a dataset.json every value is a class, also those that are declared to be none.
    values = {
        c.name: c.source_values for c in found.classes if not others.issuperset(c.source_values)
    }
    folder = DatasetFolder(
        root=Path(),
        name="",
        layout="",
        reason="",
        cases=(),
        problems=(),
        channel_names=(),
        modality_names=(),
        class_values=values,
        ignore_values=found.ignore_values,
        regions=found.regions,
    )
    of_labels = config.model_copy(update={"channels": None, "modality": None})
    return resolve_task(of_labels, folder, n_channels=0, found_values=())


def warn_if_undeclared(source: EvaluationInput, info: ModelInfo) -> None:
    """Remind of declarations that the training had and this evaluation has not."""
    if info.n_annotated_cases and not source.unannotated and not source.absent_is_unannotated:
        logger.warning(
            "some training cases were not annotated for %s; if that holds for these references "
            "too, declare it in task.unannotated (--config), else what is missing there counts "
            "as absent",
            ", ".join(info.n_annotated_cases),
        )
