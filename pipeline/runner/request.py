"""What the user asked for, and which work folder and model that means."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.errors import MissingInputError, UsageError
from pipeline.core.parallel_config import Part, parse_part
from pipeline.core.workspace import SEED_MARK, Workspace, write_text
from pipeline.experiment import Experiment, load_experiment
from pipeline.io.layouts.table import LIST_SUFFIXES

logger = logging.getLogger(__name__)

RUNS_DIR = Path("runs")
# Remembers the work folder trained last, so that `make evaluate DATA=...` finds its model.
LAST_TRAINED = ".last_trained"
# Asks for every fold, one after the other.
EVERY_FOLD = "cv"


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


@dataclass(frozen=True)
class Many:
    """Which trainings one command asks for; None everywhere asks for the configured one.

    Args:
        folds: "cv" for every fold, or some of them: "0,2,4" or "0..4".
        n_seeds: Trainings of the configured fold, with the configured seed and those after it.
        sweep: Grid over the configuration, or the YAML file that holds it.
    """

    folds: str | None = None
    n_seeds: int | None = None
    sweep: str | None = None

    @property
    def is_one(self) -> bool:
        """Nothing but the configured training is asked for."""
        return self.folds is None and self.sweep is None and self.n_seeds in (None, 1)


def split_folds(fold: str | None) -> tuple[str | None, str | None]:
    """Tell a choice of several folds from the name of one.

    Args:
        fold: As given with --fold.

    Returns:
        The choice of several, for `Many`; and the one fold, for `train.fold`.
    """
    if fold is not None and (fold == EVERY_FOLD or "," in fold or ".." in fold):
        return fold, None
    return None, fold


def make_request(
    data: Path | None, work: Path | None, config: Path | None, overrides: Sequence[str]
) -> Request:
    """Validate a command line; nothing is created yet.

    Raises:
        ConfigError: If the configuration is not understood.
        UsageError: If the dataset folder does not exist.
    """
    experiment = load_experiment(config, overrides)
    is_list = data is not None and data.is_file() and data.suffix.lower() in LIST_SUFFIXES
    if data is not None and not data.is_dir() and not is_list:
        raise UsageError(
            "the dataset is a file, neither a folder nor a .csv, .tsv or .json list"
            if data.exists()
            else "there is no such dataset folder",
            where=str(data),
            fix="check the path given as --data (or DATA=)",
        )
    is_work_given = work is not None
    if work is None and data is not None:
        work = RUNS_DIR / (data.resolve().stem if is_list else data.resolve().name)
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


def refuse_pseudonyms(request: Request) -> None:
    """For commands that read folders of label files, not datasets.

    Raises:
        UsageError: If pseudonyms were asked for.
    """
    if request.experiment.ingest.pseudonymize:
        raise UsageError(
            "label files on their own are shown under their own names",
            where="--pseudonymize (ingest.pseudonymize)",
            fix="leave it out, or give the whole dataset with --data",
        )


def take_part(request: Request) -> tuple[Part | None, Request]:
    """Separate the part that was asked for from the rest of the request.

    For stages that work in parts: many parts run at once, so they leave MLflow to the run that
    gathers them.

    Args:
        request: What the user asked for.

    Returns:
        The part, None for all cases; and the request for `stage_run`, for a part without tracking.
    """
    experiment = request.experiment
    if experiment.parallel.part is None:
        return None, request
    rest = experiment.model_copy(
        update={
            "parallel": experiment.parallel.model_copy(update={"part": None}),
            "tracking": experiment.tracking.model_copy(update={"enabled": False}),
        }
    )
    return parse_part(experiment.parallel.part), replace(request, experiment=rest)


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


def with_models(request: Request, models: Sequence[Path]) -> tuple[Request, tuple[Path, ...]]:
    """Find the models whose answers are to be averaged: one, those named, or those of all folds.

    Args:
        request: What the user asked for.
        models: Model files, if named.

    Returns:
        The request with its work folder settled (that of the first model), and the model files.

    Raises:
        MissingInputError: If there is no model, or not more than one for an ensemble.
        UsageError: If models are named and the folds are asked for as well.
    """
    is_ensemble = request.experiment.infer.ensemble
    if models and is_ensemble:
        raise UsageError(
            "models are named, and those of all folds are asked for as well",
            where="--model, --ensemble",
            fix="give --model several times, or --ensemble alone",
        )
    if not is_ensemble:
        request, first = with_model(request, models[0] if models else None)
        return request, (first, *models[1:])
    request, _ = with_model(request, None)
    folds = {fold: file for fold, file in _models(request.workspace).items() if fold != "all"}
    if len(folds) < 2:
        raise MissingInputError(
            f"an ensemble needs the models of two folds or more, there are {len(folds)}",
            where=str(request.workspace.stage_dir("train")),
            fix="train other folds (voxline train --fold 1 ...), or leave --ensemble out",
        )
    logger.info("models: folds %s", ", ".join(folds))
    return request, tuple(folds.values())


def _models(workspace: Workspace) -> Mapping[str, Path]:
    """The model of each fold; repetitions with other seeds are used only where they are named."""
    files = sorted(workspace.stage_dir("train").glob("fold_*/best.pt"))
    names = {file.parent.name.removeprefix("fold_"): file for file in files}
    return {name: file for name, file in names.items() if SEED_MARK not in name}


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
