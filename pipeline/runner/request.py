"""What the user asked for, and which work folder and model that means."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
            "the dataset is a file, not a folder"
            if data.exists()
            else "there is no such dataset folder",
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
    try:
        write_text(RUNS_DIR / LAST_TRAINED, f"{workspace.root}\n")
    except OSError as error:
        logger.warning("cannot note the work folder trained last: %s", error)


def with_model(request: Request, model: Path | None) -> tuple[Request, Path]:
    """Find the model, and the work folder that results of using it belong to.

    A model that is named belongs to the work folder it lies in. Else it is the one of the work
    folder; where that was not named and holds none, the one trained last.

    Args:
        request: What the user asked for.
        model: Model file, if named.

    Returns:
        The request with its work folder settled, and the model file.

    Raises:
        MissingInputError: If there is no model.
    """
    if model is not None:
        folder = model.resolve().parent
        is_trained_here = folder.name.startswith("fold_") and folder.parent.name == "train"
        if request.is_work_given or not is_trained_here:
            return request, model
        return replace(request, work=folder.parent.parent), model
    has_model = request.work is not None and _models(Workspace(request.work))
    pointer = RUNS_DIR / LAST_TRAINED
    if not has_model and not request.is_work_given and pointer.is_file():
        work = Path(pointer.read_text(encoding="utf-8").strip())
        logger.info("using the work folder trained last: %s", work)
        request = replace(request, work=work)
    return request, _find_model(request.workspace, request.experiment)


def _models(workspace: Workspace) -> Mapping[str, Path]:
    files = sorted(workspace.stage_dir("train").glob("fold_*/best.pt"))
    return {file.parent.name.removeprefix("fold_"): file for file in files}


def _find_model(workspace: Workspace, experiment: Experiment) -> Path:
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
