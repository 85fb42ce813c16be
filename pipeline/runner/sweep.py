"""`voxline train --sweep`: every combination of a small grid, side by side on the same cases."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.artifacts import Findings, ModelCard, read_artifact
from pipeline.core.errors import (
    EXIT_DATA_ERRORS,
    EXIT_DONE,
    ConfigError,
    DataError,
    TrainingError,
    UsageError,
    VoxlineError,
)
from pipeline.core.workspace import Workspace, write_text
from pipeline.reporting.scores import format_number
from pipeline.runner.grid import (
    Grid,
    Setting,
    as_text,
    folder_name,
    read_grid,
    setting_name,
    with_setting,
)
from pipeline.runner.group_page import PAGE, GroupPage, Member, write_group_page
from pipeline.runner.request import Request
from pipeline.runner.training import Group, Label, cost_of, group_key, group_run, train_one

logger = logging.getLogger(__name__)

OPTIMISTIC = (
    "The best of {k} was chosen on the same {n} validation cases that score it here, so its Dice "
    "is optimistic: confirm it on cases kept back (voxline evaluate), or on other folds (--fold cv)"
)


@dataclass(frozen=True)
class Trial:
    """How one combination ended.

    Args:
        setting: What was set.
        training: Where it lies and what it left.
    """

    setting: Setting
    training: Member

    @property
    def card(self) -> ModelCard | None:
        """What the training left; None if it failed."""
        return self.training.card

    @property
    def dice(self) -> float | None:
        """Final mean foreground Dice."""
        summary = self.training.summary
        return summary.mean_foreground_dice if summary else None

    @property
    def n_cases(self) -> int:
        """Validation cases that were scored."""
        summary = self.training.summary
        return summary.n_cases if summary else 0

    @property
    def label(self) -> str:
        """The setting in one line."""
        return ", ".join(f"{key}={as_text(value)}" for key, value in self.setting.items())


def plan_sweep(request: Request, text: str) -> tuple[Grid, list[tuple[Setting, Request]]]:
    """Read a grid and validate every combination; nothing is trained or written.

    Args:
        request: What the user asked for.
        text: The grid, see `read_grid`.

    Returns:
        The grid; each combination with the request that asks for it.

    Raises:
        ConfigError: If the grid or one of its combinations is not valid.
        UsageError: If the fold keeps no cases back.
    """
    if request.experiment.train.fold == "all":
        raise UsageError(
            "fold 'all' keeps no cases back, so there is no Dice to rank by",
            where="--sweep, train.fold",
            fix="choose a fold, such as --fold 0",
        )
    grid = read_grid(text)
    return grid, [
        (chosen, with_setting(request, chosen, grid.where)) for chosen in grid.combinations
    ]


def run_sweep(request: Request, text: str) -> int:
    """Train every combination of a grid, and rank them by their final Dice.

    Ingest, audit and prepared cases are shared. What is finished is not trained again, and a
    combination whose training breaks down does not stop the others.

    Args:
        request: What the user asked for; ingest and audit are up to date.
        text: The grid, see `read_grid`.

    Returns:
        Exit status: that of data errors if a training failed.

    Raises:
        ConfigError: If the grid or one of its combinations is not valid.
        DataError: If the audit found errors, which concern every combination.
        UsageError: If the fold keeps no cases back.
    """
    grid, asked = plan_sweep(request, text)
    _refuse_audit_errors(request.workspace)
    folder = request.workspace.root / "sweeps" / grid.name
    trials: list[Trial] = []
    for number, (setting, combination) in enumerate(asked, 1):
        place = replace(request.workspace, train_root=folder / folder_name(setting) / "train")
        logger.info("combination %d of %d: %s", number, len(asked), place.stage_dir("train").parent)
        trials.append(_try(combination, place, setting))
        # After each: whoever stops a long sweep can look at what there is.
        write_text(folder / "sweep.csv", _csv(_ranked(trials)))
        _write_page(folder, _ranked(trials), len(asked))
    ranked = _ranked(trials)
    _record(request, folder, ranked)
    _show(ranked, folder)
    return EXIT_DONE if all(trial.card for trial in trials) else EXIT_DATA_ERRORS


def _try(request: Request, place: Workspace, setting: Setting) -> Trial:
    folder = place.fold_dir(request.experiment.train.fold)
    texts = {key.removeprefix("train."): as_text(value) for key, value in setting.items()}
    name = setting_name(setting)
    label = Label(name, {f"sweep/{key}": text for key, text in texts.items()})
    try:
        return Trial(setting, Member(name, folder, train_one(request, place, label)))
    except (TrainingError, ConfigError, DataError) as error:
        if not _can_go_on():
            raise
        _report_failure(error)
        return Trial(setting, Member(name, folder, None, error.what))


def _report_failure(error: VoxlineError) -> None:
    """Say why a combination failed, and how to change that; divergence needs no traceback."""
    logger.error("this combination failed, going on with the next: %s", error)


def _refuse_audit_errors(workspace: Workspace) -> None:
    """Say once, and not for every combination, what stops them all."""
    from pipeline.train.select import refuse_errors

    refuse_errors(read_artifact(workspace.findings_file, Findings, made_by="audit"))


def _can_go_on() -> bool:
    """Whether another training can begin; not so when several processes lost step half-way."""
    from pipeline.train.ranks import present_ranks

    ranks = present_ranks()
    return ranks is None or ranks.can_be_told


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=_rank, reverse=True)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Best first, those without a score behind, failed ones last."""
    return trial.card is not None, -1.0 if trial.dice is None else trial.dice


def _record(request: Request, folder: Path, ranked: Sequence[Trial]) -> None:
    """Put the runs below one in MLflow, also those that failed."""
    done = [trial for trial in ranked if trial.card is not None]
    group = Group(
        stage="sweep",
        folder=folder,
        name=f"sweep-{folder.name}",
        cards=[trial.card for trial in done if trial.card is not None],
        folders=[trial.training.folder for trial in ranked],
    )
    if not done or group_key(folder) == group.key:
        return
    with group_run(request, group) as tracker:
        best = done[0]
        info = group.cards[0].info
        tracker.log_dataset(name=info.dataset_name, digest=info.dataset_digest, context="train")
        results = {"sweep/best_dice_mean": best.dice, "sweep/n_combinations": len(ranked)}
        tracker.log_metrics(results | cost_of(group.cards))
        keys = list(best.setting)
        rows = [[*(as_text(trial.setting[key]) for key in keys), trial.dice] for trial in ranked]
        tracker.log_table("sweep", [*keys, "dice_mean"], rows)
        for name in ("sweep.csv", PAGE):
            tracker.log_file(folder / name, headline=True)
        note = OPTIMISTIC.format(k=len(ranked), n=best.n_cases)
        tracker.set_tags(
            {"description": f"**Best: {best.label}**, Dice {format_number(best.dice)}. {note}."}
        )


def _write_page(folder: Path, ranked: Sequence[Trial], n_asked: int) -> None:
    best = ranked[0]
    keys = ", ".join(key.removeprefix("train.") for key in best.setting)
    dataset = f" on {best.card.info.dataset_name}" if best.card else ""
    done = f"{len(ranked)} of {n_asked}" if len(ranked) < n_asked else f"all {n_asked}"
    about = GroupPage(
        title=f"Sweep over {keys}{dataset}",
        subtitle=f"{done} combinations, best first; everything else is the same",
        dice=best.dice,
        dice_name="Best mean foreground Dice",
        note=f"{OPTIMISTIC.format(k=len(ranked), n=best.n_cases)}." if best.card else "",
    )
    write_group_page(folder, about, [trial.training for trial in ranked])


def _csv(ranked: Sequence[Trial]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    keys = list(ranked[0].setting)
    classes = list(
        dict.fromkeys(
            name
            for trial in ranked
            if trial.training.summary
            for name in trial.training.summary.classes
        )
    )
    about = ("dice_mean", "n_cases", *(f"dice_{name}" for name in classes))
    rows.writerow([*keys, *about, "n_steps", "training_minutes", "folder", "failed"])
    for trial in ranked:
        summary, lies_in = trial.training.summary, trial.training.folder
        of_classes = [summary.classes[name].dice.mean if summary else None for name in classes]
        cost = (trial.card.n_steps, trial.card.training_minutes) if trial.card else ("", "")
        settings = [as_text(trial.setting[key]) for key in keys]
        cells = [trial.dice, trial.n_cases, *of_classes]
        place = f"{lies_in.parent.parent.name}/train/{lies_in.name}"
        rows.writerow([*settings, *cells, *cost, place, trial.training.message])
    return text.getvalue()


def _show(ranked: Sequence[Trial], folder: Path) -> None:
    table = Table(
        title=f"{len(ranked)} combinations by final mean foreground Dice",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for key in ranked[0].setting:
        table.add_column(escape(key.removeprefix("train.")), overflow="fold")
    for name in ("Dice", "n", "steps", "min"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in ranked:
        cost = (
            (str(trial.card.n_steps), f"{trial.card.training_minutes:.1f}")
            if trial.card
            else ("failed", "")
        )
        settings = (escape(as_text(value)) for value in trial.setting.values())
        table.add_row(*settings, format_number(trial.dice), str(trial.n_cases), *cost)
    console = Console(soft_wrap=True)
    console.print(table)
    if ranked[0].card is not None:
        note = OPTIMISTIC.format(k=len(ranked), n=ranked[0].n_cases)
        console.print(f"{note}.", markup=False, highlight=False)
        console.print(
            f"Best: {ranked[0].training.folder / 'best.pt'}", markup=False, highlight=False
        )
    console.print(f"Table: {folder / 'sweep.csv'}", markup=False, highlight=False)
    console.print(f"Report: {folder / PAGE}", markup=False, highlight=False)
