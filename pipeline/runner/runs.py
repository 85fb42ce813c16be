"""Commands about recorded runs: list them, and register the model of one."""

import csv
import logging
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.artifacts import ModelCard, read_artifact
from pipeline.core.errors import EXIT_DONE, MissingInputError
from pipeline.runner.request import RUNS_DIR, Request, with_model
from pipeline.tracking.listing import MEAN, RunLine, list_runs
from pipeline.tracking.package import save_mlflow_model
from pipeline.tracking.registry import register_model
from pipeline.tracking.session import find_target
from pipeline.tracking.state import read_state

logger = logging.getLogger(__name__)

# A pipe has no width; there the table must not wrap.
PIPE_WIDTH = 220
_MAX_CLASSES = 4
_COLUMNS = ("run_id", "name", "status", "started_at", "dataset", "loss", "budget", "scored_on")
_COSTS = ("cost/training_min", "cost/peak_memory_mb", "cost/gpu_hours")


def run_runs(request: Request, *, as_csv: bool) -> int:
    """Print the recorded runs as a table, or as CSV for other programs."""
    folder = RUNS_DIR if request.work is None else request.work
    lines = list_runs(folder, request.experiment.tracking)
    if as_csv:
        _write_csv(lines)
        return EXIT_DONE
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(runs_table(lines))
    return EXIT_DONE


def runs_table(lines: list[RunLine]) -> Table:
    """Lay out the runs for a terminal, newest first.

    Args:
        lines: The runs.

    Returns:
        A table; "scored on" says where the Dice values come from, which differ in worth.
    """
    names = _class_names(lines)[:_MAX_CLASSES]
    table = Table(title=f"{len(lines)} runs", title_justify="left")
    for name in ("Run", "Started", "Status", "Data", "Loss", "Budget", "Scored on"):
        table.add_column(name, overflow="fold")
    for name in ("Dice", *names, "Train min", "Memory GB", "GPU h"):
        table.add_column(name, justify="right")
    table.add_column("Id")
    for line in lines:
        minutes, memory_mb, gpu_hours = (line.metrics.get(key) for key in _COSTS)
        table.add_row(
            line.name,
            f"{line.started_at:%Y-%m-%d %H:%M}",
            line.status.lower(),
            line.dataset,
            line.params.get("loss", ""),
            line.budget,
            {"final": "fold", "val": "fold (rounds)"}.get(line.scored_on, line.scored_on),
            *(_fixed(line.dice.get(name), 4) for name in (MEAN, *names)),
            _fixed(minutes, 1),
            _fixed(None if memory_mb is None else memory_mb / 1000, 1),
            _fixed(gpu_hours, 2),
            line.run_id[:8],
        )
    return table


def run_register(request: Request, model: Path | None, name: str | None, alias: str | None) -> int:
    """Register a trained model, and let an alias such as "champion" point to it."""
    request, model_file = with_model(request, model)
    card_file = model_file.with_name("model_card.json")
    if not card_file.is_file():
        raise MissingInputError(
            "the model has no model_card.json beside it",
            where=str(model_file),
            fix="finish its training, or name a best.pt inside a work folder",
        )
    card = read_artifact(card_file, ModelCard, made_by="train")
    target = find_target(request.experiment.tracking, request.workspace)
    state = read_state(target.folder)
    dice = card.validation.mean_foreground_dice if card.validation else None
    with tempfile.TemporaryDirectory(prefix="voxline-") as folder:
        n_channels = len(card.info.task.channels)
        save_mlflow_model(Path(folder), model_file, n_channels=n_channels, card_file=card_file)
        registration = register_model(
            target,
            Path(folder),
            name=name or card.info.dataset_name,
            run_id=card.info.mlflow_run_id if state is not None else None,
            alias=alias,
            tags={
                "dataset_digest": card.info.dataset_digest,
                "fold": card.info.fold,
                "validation_dice": "none" if dice is None else f"{dice:.4f}",
                "voxline_version": card.info.voxline_version,
            },
        )
    logger.info("registered %s, version %s", registration.name, registration.version)
    sys.stdout.write(f"{registration.uri}\n")
    return EXIT_DONE


def _class_names(lines: list[RunLine]) -> list[str]:
    names = dict.fromkeys(name for line in lines for name in line.dice)
    return [name for name in names if name != MEAN]


def _fixed(value: float | None, n_digits: int) -> str:
    return "" if value is None else f"{value:.{n_digits}f}"


def _write_csv(lines: list[RunLine]) -> None:
    names = [MEAN, *_class_names(lines)]
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow([*_COLUMNS, *(f"dice_{name}" for name in names), *_COSTS])
    for line in lines:
        about = (line.run_id, line.name, line.status, line.started_at.isoformat(), line.dataset)
        asked = (line.params.get("loss", ""), line.budget, line.scored_on)
        scores = (line.dice.get(name, "") for name in names)
        rows.writerow([*about, *asked, *scores, *(line.metrics.get(key, "") for key in _COSTS)])
