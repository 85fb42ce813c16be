"""One YAML file describes one experiment: the task and a section per stage."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pipeline.audit.config import AuditConfig
from pipeline.core.config import StrictModel, load_config
from pipeline.core.parallel_config import ParallelConfig
from pipeline.core.task import TaskConfig
from pipeline.evaluate.config import EvaluateConfig
from pipeline.infer.config import InferConfig
from pipeline.ingest.config import IngestConfig
from pipeline.tracking.config import TrackingConfig
from pipeline.train.config import TrainConfig


class Experiment(StrictModel):
    """All configuration. Every section and every key has a default."""

    task: TaskConfig = Field(default_factory=TaskConfig, description="channels and classes")
    ingest: IngestConfig = Field(default_factory=IngestConfig, description="reading the dataset")
    audit: AuditConfig = Field(default_factory=AuditConfig, description="checking the labels")
    train: TrainConfig = Field(default_factory=TrainConfig, description="planning and training")
    infer: InferConfig = Field(default_factory=InferConfig, description="predicting")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="scoring")
    tracking: TrackingConfig = Field(default_factory=TrackingConfig, description="MLflow")
    parallel: ParallelConfig = Field(
        default_factory=ParallelConfig, description="where the work on single cases runs"
    )


def load_experiment(file: Path | None, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply overrides.

    Args:
        file: YAML file; None for all defaults.
        overrides: Assignments such as "train.epochs=5".

    Returns:
        The validated experiment.

    Raises:
        ConfigError: If something in it is not understood.
    """
    return load_config(Experiment, file, overrides)


def experiment_schema() -> str:
    """JSON schema of an experiment file, for completion in editors."""
    schema = Experiment.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Voxline experiment"
    return json.dumps(schema, indent=1) + "\n"
