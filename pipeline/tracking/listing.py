"""The recorded runs as rows: what `voxline runs` prints and the UI shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.core.errors import MissingInputError, VoxlineError
from pipeline.tracking.config import TrackingConfig
from pipeline.tracking.location import artifacts_dir, prepare_environment, public_uri
from pipeline.tracking.ui import find_store

# Scores on data of their own say more than those on the validation fold, and these more than a
# value of the last round; a run shows the first kind it has.
_SCORE_GROUPS = ("test", "final", "val")
_DICE = re.compile(r"^(test|final|val)/dice_(.+)$")
MEAN = "mean"


@dataclass(frozen=True)
class RunLine:
    """One training (or scoring) as one row.

    Args:
        run_id: MLflow's id.
        name: Name of the run.
        status: RUNNING, FINISHED, FAILED or KILLED.
        started_at: UTC.
        dataset: Name and digest of the data it used; empty if none was recorded.
        params: Knobs, such as "loss".
        scored_on: "test", "final" (validation fold, best checkpoint), "val", or "".
        dice: Mean Dice by class name; the foreground mean is under "mean".
        metrics: Every recorded number, last value.
    """

    run_id: str
    name: str
    status: str
    started_at: datetime
    dataset: str
    params: Mapping[str, str]
    scored_on: str
    dice: Mapping[str, float]
    metrics: Mapping[str, float]

    @property
    def budget(self) -> str:
        """Length of the training as it was asked for."""
        units = (("budget_minutes", "min"), ("epochs", "epochs"), ("steps", "steps"))
        found = (f"{self.params[key]} {unit}" for key, unit in units if key in self.params)
        return next(found, "")


def list_runs(folder: Path, config: TrackingConfig) -> list[RunLine]:
    """Read the runs that people compare, newest first, at most 200 of them.

    Args:
        folder: A work folder, or the folder that holds work folders.
        config: Where runs are recorded.

    Returns:
        One row per parent run.

    Raises:
        MissingInputError: If nothing has been recorded.
        VoxlineError: If the store does not answer.
    """
    uri = find_store(folder, config)
    prepare_environment()
    from mlflow.entities import Run  # takes seconds

    from pipeline.tracking.store import CLIENT_ERRORS, open_store
    from pipeline.tracking.view import parent_runs

    def line_of(run: Run) -> RunLine:
        inputs = run.inputs.dataset_inputs if run.inputs else []
        datasets = dict.fromkeys(f"{i.dataset.name} {i.dataset.digest}" for i in inputs)
        scored_on, dice = best_scores(run.data.metrics)
        return RunLine(
            run_id=str(run.info.run_id),
            name=str(run.info.run_name),
            status=str(run.info.status),
            started_at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            dataset=", ".join(datasets),
            params=dict(run.data.params),
            scored_on=scored_on,
            dice=dice,
            metrics=dict(run.data.metrics),
        )

    try:
        store = open_store(uri, config.experiment, artifacts_dir(uri, folder.resolve()))
        lines = [line_of(run) for run in parent_runs(store)]
    except CLIENT_ERRORS as error:
        raise VoxlineError(
            f"the runs cannot be read: {error}",
            where=public_uri(uri),
            fix="check tracking.uri and MLFLOW_TRACKING_URI, and whether that server runs",
        ) from error
    if not lines:
        raise MissingInputError(
            f"no runs in experiment '{config.experiment}'",
            where=public_uri(uri),
            fix="run 'voxline train' first",
        )
    return lines


def best_scores(metrics: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """Pick the most telling Dice values of a run.

    Args:
        metrics: Every recorded number.

    Returns:
        Where they come from ("test", "final", "val" or ""), and Dice by class name.
    """
    groups: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        match = _DICE.match(key)
        if match:
            groups.setdefault(match.group(1), {})[match.group(2)] = value
    for name in _SCORE_GROUPS:
        if name in groups:
            return name, groups[name]
    return "", {}
