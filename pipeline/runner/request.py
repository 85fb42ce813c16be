"""What the user asked for, and which work folder and model that means."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import MissingInputError, UsageError
from pipeline.core.workspace import Workspace, write_text
from pipeline.experiment import Experiment, load_experiment

logger = logging.getLogger(__name__)

RUNS_DIR = Path("runs")
# Remembers the work folder trained last, so that `make evaluate DATA=...` finds its model.
LAST_TRAINED = ".last_trained"


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Args:
        data: Dataset folder, if given.
        work: Work folder, if given or implied by the data.
        experiment: Validated configuration.
        is_work_given: The user named the work folder; no other one may stand in for it.
    """

    data: Path | None
    work: Path | None
    experiment: Experiment
    is_work_given: bool = False

    @property
    def workspace(self) -> Workspace:
        """The work folder.

        Raises:
            UsageError: If neither a dataset nor a work folder was given.
        """
        if self.work is None:
            raise UsageError(
                "no dataset and no work folder given",
                where="command line",
                fix="add --data FOLDER (or make ... DATA=FOLDER)",
            )
        return Workspace(self.work)


def make_request(
    data: Path | None, work: Path | None, config: Path | None, overrides: Sequence[str]
) -> Request:
    """Validate a command line; nothing is created yet.

    Raises:
        ConfigError: If the configuration is not understood.
        UsageError: If the dataset folder does not exist.
    """
    experiment = load_experiment(config, overrides)
    if data is not None and not data.is_dir():
        raise UsageError(
            "there is no such dataset folder",
            where=str(data),
            fix="check the path given as --data (or DATA=)",
        )
    is_work_given = work is not None
    if work is None and data is not None:
        work = RUNS_DIR / data.resolve().name
    return Request(
        data.resolve() if data is not None else None,
        work.resolve() if work is not None else None,
        experiment,
        is_work_given,
    )


def needed_data(request: Request) -> Path:
    """The dataset folder.

    Raises:
        UsageError: If none was given.
    """
    if request.data is None:
        raise UsageError(
            "no dataset folder given",
            where="command line",
            fix="add --data FOLDER (or make ... DATA=FOLDER)",
        )
    return request.data


def remember_trained(workspace: Workspace) -> None:
    """Note that this work folder holds the newest model."""
    write_text(workspace.root.parent / LAST_TRAINED, workspace.root.name + "\n")


def with_trained_work(request: Request) -> Request:
    """The request itself, or with the work folder trained last if its own holds no model."""
    if request.is_work_given or (request.work is not None and _models(request.workspace)):
        return request
    pointer = RUNS_DIR / LAST_TRAINED
    if not pointer.is_file():
        return request
    work = (RUNS_DIR / pointer.read_text(encoding="utf-8").strip()).resolve()
    logger.info("using the work folder trained last: %s", work)
    return Request(request.data, work, request.experiment)


def _models(workspace: Workspace) -> Mapping[str, Path]:
    files = sorted(workspace.stage_dir("train").glob("fold_*/best.pt"))
    return {file.parent.name.removeprefix("fold_"): file for file in files}


def find_model(workspace: Workspace, experiment: Experiment) -> Path:
    """The model of a work folder: of all cases if there is one, else of the configured fold.

    Raises:
        MissingInputError: If nothing has been trained there.
    """
    models = _models(workspace)
    if not models:
        raise MissingInputError(
            "there is no trained model in the work folder",
            where=str(workspace.root),
            fix="run 'voxline train' first, or give --work or --model",
        )
    # A model of all cases has seen the most; then the fold that is configured.
    for fold in ("all", experiment.train.fold, *models):
        if fold in models:
            logger.info("model: %s", models[fold])
            return models[fold]
    raise MissingInputError("no model found", where=str(workspace.root))
