"""`voxline train --sweep`: every combination of a small grid, side by side on the same cases."""

import csv
import io
import itertools
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.artifacts import ModelCard
from pipeline.core.config import validate_config
from pipeline.core.errors import EXIT_DATA_ERRORS, EXIT_DONE, ConfigError, TrainingError, UsageError
from pipeline.core.workspace import Workspace, write_text
from pipeline.experiment import Experiment
from pipeline.reporting.scores import format_number
from pipeline.runner.request import Request
from pipeline.runner.training import Group, Label, group_key, group_run, train_one

logger = logging.getLogger(__name__)

MAX_COMBINATIONS = 64
# Scores of other cases cannot be ranked with these, and other devices are no other method.
_NOT_SWEPT = ("train.fold", "train.device")
_LONGEST_NAME = 80
_NOT_IN_NAME = re.compile(r"[^\w.=+-]+")
OPTIMISTIC = (
    "The best of {k} was chosen on the same {n} validation cases that score it here, so its Dice "
    "is optimistic: confirm it on cases kept back (voxline evaluate), or on other folds (--fold cv)"
)

Setting = dict[str, JsonValue]


@dataclass(frozen=True)
class Grid:
    """Values to combine.

    Args:
        name: Name of the folder below sweeps/.
        values: Values per key of the configuration.
        where: Shown in errors.
    """

    name: str
    values: Mapping[str, Sequence[JsonValue]]
    where: str

    @property
    def combinations(self) -> list[Setting]:
        """Every combination; the last key changes fastest."""
        return [
            dict(zip(self.values, chosen, strict=True))
            for chosen in itertools.product(*self.values.values())
        ]


@dataclass(frozen=True)
class Trial:
    """How one combination ended.

    Args:
        setting: What was set.
        folder: Where its training lies.
        card: What it left; None if it failed.
        message: Why it failed.
    """

    setting: Setting
    folder: Path
    card: ModelCard | None
    message: str = ""

    @property
    def dice(self) -> float | None:
        """Final mean foreground Dice."""
        summary = self.card.validation if self.card else None
        return summary.mean_foreground_dice if summary else None

    @property
    def n_cases(self) -> int:
        """Validation cases that were scored."""
        summary = self.card.validation if self.card else None
        return summary.n_cases if summary else 0

    @property
    def label(self) -> str:
        """The setting in one line."""
        return ", ".join(f"{key}={_text(value)}" for key, value in self.setting.items())


def read_grid(text: str) -> Grid:
    """Read a grid from the command line or from a file.

    Args:
        text: Assignments "train.loss.kind=dice,dice_ce;train.seed=0,1", or a YAML file that maps
            keys to lists of values.

    Returns:
        The grid, of 1 to 64 combinations.

    Raises:
        ConfigError: If it cannot be read, has keys outside `train`, or is too large.
    """
    is_inline = "=" in text and not Path(text).is_file()
    given = _inline_values(text) if is_inline else _file_values(Path(text))
    where = "--sweep" if is_inline else text
    values = {key: _checked(key, listed, where) for key, listed in given.items()}
    n_combinations = math.prod(len(chosen) for chosen in values.values())
    if not values or n_combinations > MAX_COMBINATIONS:
        raise ConfigError(
            f"a sweep has 1 to {MAX_COMBINATIONS} combinations, not "
            f"{n_combinations if values else 0}",
            where=where,
            fix="take out values that matter less, or sweep one key after the other",
        )
    name = f"grid-{_digest(values)}" if is_inline else Path(text).stem
    return Grid(name, values, where)


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
        UsageError: If the fold keeps no cases back.
    """
    if request.experiment.train.fold == "all":
        raise UsageError(
            "fold 'all' keeps no cases back, so there is no Dice to rank by",
            where="--sweep, train.fold",
            fix="choose a fold, such as --fold 0",
        )
    grid = read_grid(text)
    # All of them before the first is trained: a typing error must not show up after hours.
    asked = [(setting, _with(request, setting, grid.where)) for setting in grid.combinations]
    folder = request.workspace.root / "sweeps" / grid.name
    trials = []
    for number, (setting, combination) in enumerate(asked, 1):
        place = replace(request.workspace, train_root=folder / folder_name(setting) / "train")
        logger.info("combination %d of %d: %s", number, len(asked), place.stage_dir("train").parent)
        trials.append(_try(combination, place, setting))
    ranked = sorted(trials, key=_rank, reverse=True)
    _record(request, folder, ranked)
    _show(ranked, folder)
    return EXIT_DONE if all(trial.card for trial in trials) else EXIT_DATA_ERRORS


def folder_name(setting: Setting) -> str:
    """A name for the folder of a combination: readable, short, and of this combination only."""
    text = ",".join(f"{key.rpartition('.')[2]}={_text(value)}" for key, value in setting.items())
    return f"{_NOT_IN_NAME.sub('_', text)[:_LONGEST_NAME]}-{_digest(setting)}"


def _try(request: Request, place: Workspace, setting: Setting) -> Trial:
    folder = place.fold_dir(request.experiment.train.fold)
    texts = {key.removeprefix("train."): _text(value) for key, value in setting.items()}
    name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in texts.items())
    label = Label(name, {f"sweep/{key}": value for key, value in texts.items()})
    try:
        return Trial(setting, folder, train_one(request, place, label))
    except TrainingError as error:
        logger.error("this combination failed, going on with the next: %s", error.what)  # noqa: TRY400  # expected: divergence is a result, a traceback says nothing
        return Trial(setting, folder, None, error.what)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Best first, those without a score behind, failed ones last."""
    return trial.card is not None, -1.0 if trial.dice is None else trial.dice


def _with(request: Request, setting: Setting, where: str) -> Request:
    """The request with one combination in its configuration, validated as a whole."""
    content: dict[str, Any] = request.experiment.model_dump(mode="json", exclude_unset=True)
    for key, value in setting.items():
        *parents, leaf = key.split(".")
        node = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return replace(request, experiment=validate_config(Experiment, content, where))


def _inline_values(text: str) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for assignment in filter(None, (part.strip() for part in text.split(";"))):
        key, separator, listed = assignment.partition("=")
        if not separator or key.strip() in values:
            raise ConfigError(
                f"cannot read '{assignment}', or its key stands there twice",
                where="--sweep",
                fix="write train.optimizer.learning_rate=1e-3,3e-3;train.loss.kind=dice,dice_ce",
            )
        # As a YAML list, so that commas inside brackets do not separate values.
        values[key.strip()] = _yaml(f"[{listed}]", "--sweep")
    return values


def _file_values(file: Path) -> dict[str, JsonValue]:
    try:
        content = _yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the grid cannot be read: {error}",
            where=str(file),
            fix="give a YAML file, or the grid itself: --sweep 'train.seed=0,1'",
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            "the grid is no mapping of keys to lists of values",
            where=str(file),
            fix="write one line per key: train.optimizer.learning_rate: [1e-3, 3e-3]",
        )
    return {str(key): values for key, values in content.items()}


def _checked(key: str, values: object, where: str) -> list[Any]:
    is_ours = key.startswith("train.") and key not in _NOT_SWEPT
    if not is_ours:
        raise ConfigError(
            f"'{key}' cannot be swept: all combinations share their cases and their device",
            where=where,
            fix="sweep keys of the section train, such as train.optimizer.learning_rate",
        )
    listed: list[Any] = values if isinstance(values, list) else []
    if not listed or len({json.dumps(value) for value in listed}) < len(listed):
        raise ConfigError(
            f"the values of '{key}' are no list of different values",
            where=where,
            fix=f"write {key}: [first, second]",
        )
    return listed


def _record(request: Request, folder: Path, ranked: Sequence[Trial]) -> None:
    """Write the table, and put the runs below one in MLflow."""
    write_text(folder / "sweep.csv", _csv(ranked))
    done = [trial for trial in ranked if trial.card is not None]
    group = Group(
        stage="sweep",
        folder=folder,
        name=f"sweep-{folder.name}",
        cards=[trial.card for trial in done if trial.card is not None],
        folders=[trial.folder for trial in done],
    )
    if not done or group_key(folder) == group.key:
        return
    with group_run(request, group) as tracker:
        best = done[0]
        info = group.cards[0].info
        tracker.log_dataset(name=info.dataset_name, digest=info.dataset_digest, context="train")
        tracker.log_metrics(
            {"sweep/best_dice_mean": best.dice, "sweep/n_combinations": len(ranked)}
        )
        keys = list(best.setting)
        rows = [[*(_text(trial.setting[key]) for key in keys), trial.dice] for trial in ranked]
        tracker.log_table("sweep", [*keys, "dice_mean"], rows)
        tracker.log_file(folder / "sweep.csv", headline=True)
        note = OPTIMISTIC.format(k=len(ranked), n=best.n_cases)
        tracker.set_tags(
            {"description": f"**Best: {best.label}**, Dice {format_number(best.dice)}. {note}."}
        )


def _csv(ranked: Sequence[Trial]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    keys = list(ranked[0].setting)
    classes = list(
        dict.fromkeys(
            name
            for trial in ranked
            if trial.card and trial.card.validation
            for name in trial.card.validation.classes
        )
    )
    about = ("dice_mean", "n_cases", *(f"dice_{name}" for name in classes))
    rows.writerow([*keys, *about, "n_steps", "training_minutes", "folder", "failed"])
    for trial in ranked:
        summary = trial.card.validation if trial.card else None
        of_classes = [summary.classes[name].dice.mean if summary else None for name in classes]
        cost = (trial.card.n_steps, trial.card.training_minutes) if trial.card else ("", "")
        settings = [_text(trial.setting[key]) for key in keys]
        cells = [trial.dice, trial.n_cases, *of_classes]
        place = f"{trial.folder.parent.parent.name}/train/{trial.folder.name}"
        rows.writerow([*settings, *cells, *cost, place, trial.message])
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
        settings = (escape(_text(value)) for value in trial.setting.values())
        table.add_row(*settings, format_number(trial.dice), str(trial.n_cases), *cost)
    console = Console(soft_wrap=True)
    console.print(table)
    if ranked[0].card is not None:
        note = OPTIMISTIC.format(k=len(ranked), n=ranked[0].n_cases)
        console.print(f"{note}.", markup=False, highlight=False)
        console.print(f"Best: {ranked[0].folder / 'best.pt'}", markup=False, highlight=False)
    console.print(f"Table: {folder / 'sweep.csv'}", markup=False, highlight=False)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _digest(content: object) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=3).hexdigest()


def _yaml(text: str, where: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(
            f"not valid YAML: {' '.join(str(error).split())}",
            where=where,
            fix="check brackets, quotes and indentation",
        ) from None
