"""Which table of scores each run is compared by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.errors import MissingInputError, UsageError
from pipeline.metrics.score_table import read_scores_csv
from pipeline.metrics.scores import CaseScores

Kind = Literal["evaluate", "validation", "table"]

TABLE_NAME = "scores.csv"


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores that was found.

    Args:
        file: The CSV file.
        kind: Scores of a data set, of the validation fold of a training, or a table from elsewhere.
        dataset: Name of the data set or fold; empty for a table from elsewhere.
        work: Work folder it lies in, None outside of one.
    """

    file: Path
    kind: Kind
    dataset: str
    work: Path | None

    @property
    def description(self) -> str:
        """What was taken, for people."""
        match self.kind:
            case "evaluate":
                return f"scores on {self.dataset}"
            case "validation":
                return f"validation cases of {self.dataset}"
            case _:
                return "table of scores"


@dataclass(frozen=True)
class RunScores:
    """One run to compare.

    Args:
        label: Short name, different for every run.
        table: Where its scores come from.
        cases: The scores.
    """

    label: str
    table: ScoreTable
    cases: tuple[CaseScores, ...]


def read_runs(names: Sequence[str]) -> tuple[RunScores, ...]:
    """Find and read the table of scores of every run.

    Args:
        names: Work folders, folders with a scores.csv, or such files; ":NAME" behind a work folder
            chooses the data set or fold. Work folders without it are compared on the newest data
            set that all of them were scored on, else on the fold that all were validated on.

    Returns:
        The runs, in the order of the names.

    Raises:
        UsageError: If there are fewer than two, or they share no data set.
        MissingInputError: If there is no table of scores at one of them.
        DataError: If a table cannot be read.
    """
    if len(names) < 2:
        raise UsageError(
            "there is nothing to compare with",
            where="command line",
            fix="name two or more runs: voxline compare A B",
        )
    tables = _choose([_tables_of(name) for name in names], names)
    labels = unique_labels(_places(tables))
    return tuple(
        RunScores(label, table, read_scores_csv(table.file))
        for label, table in zip(labels, tables, strict=True)
    )


def _places(tables: Sequence[ScoreTable]) -> list[Path]:
    """What names the runs: work folders, or the data where one work folder has two tables."""
    places = [table.work or table.file.parent for table in tables]
    if len(set(places)) == len({table.file for table in tables}):
        return places
    return [place / table.dataset for place, table in zip(places, tables, strict=True)]


def has_table(name: str) -> bool:
    """Whether a name leads to a table of scores at all."""
    folder, _ = split_name(name)
    return bool(_find_tables(folder))


def unique_labels(folders: Sequence[Path]) -> list[str]:
    """Name folders by as few of their last parts as tell them apart.

    Args:
        folders: May hold the same folder twice.

    Returns:
        One label per folder, all different.
    """
    for n_parts in range(1, max(len(folder.parts) for folder in folders) + 1):
        labels = ["/".join(folder.parts[-n_parts:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{folder.name} ({place})" for place, folder in enumerate(folders, start=1)]


def _tables_of(name: str) -> list[ScoreTable]:
    folder, wanted = split_name(name)
    tables = _find_tables(folder)
    if not tables:
        raise MissingInputError(
            "there are no scores of this run" if folder.exists() else "there is no such run",
            where=name,
            fix="name a work folder that was evaluated, a folder with a scores.csv, a folder of "
            "predictions together with --ref, or the id of an MLflow run",
        )
    chosen = [table for table in tables if wanted in ("", table.dataset)]
    if not chosen:
        known = ", ".join(table.dataset for table in tables)
        raise UsageError(
            f"this run has no scores on '{wanted}'", where=name, fix=f"there are scores on: {known}"
        )
    return chosen


def split_name(name: str) -> tuple[Path, str]:
    """Folder and data set of "folder:dataset"; a path that exists is never cut."""
    if Path(name).exists() or ":" not in name:
        return Path(name).resolve(), ""
    folder, _, dataset = name.rpartition(":")
    return Path(folder).resolve(), dataset


def _find_tables(folder: Path) -> list[ScoreTable]:
    if folder.is_file():
        return [_placed(folder)]
    if (folder / TABLE_NAME).is_file():
        return [_placed(folder / TABLE_NAME)]
    evaluated = sorted(folder.glob(f"evaluate/*/{TABLE_NAME}"))
    validated = sorted(folder.glob(f"train/fold_*/validation/{TABLE_NAME}"))
    return [_placed(file) for file in (*evaluated, *validated)]


def _placed(file: Path) -> ScoreTable:
    """Tell from where a table lies what it is about."""
    above = file.parents
    if file.name == TABLE_NAME and len(above) > 3:
        if above[1].name == "evaluate":
            return ScoreTable(file, "evaluate", above[0].name, above[2])
        if above[0].name == "validation" and above[2].name == "train":
            return ScoreTable(file, "validation", above[1].name, above[3])
    return ScoreTable(file, "table", "", None)


def _choose(found: Sequence[list[ScoreTable]], names: Sequence[str]) -> list[ScoreTable]:
    """One table per run, all on the same data where that can be told."""
    if all(len(tables) == 1 for tables in found):
        return [tables[0] for tables in found]
    named = [{(t.kind, t.dataset) for t in tables} for tables in found if tables[0].kind != "table"]
    common = set.intersection(*named)
    if not common:
        lists = "; ".join(
            f"{name}: {', '.join(t.description for t in tables)}"
            for name, tables in zip(names, found, strict=True)
        )
        raise UsageError(
            "these runs were not scored on the same data",
            where=lists,
            fix="run 'voxline evaluate --data FOLDER' for each with the same folder",
        )

    def preference(key: tuple[Kind, str]) -> tuple[bool, float]:
        times = [t.file.stat().st_mtime for tables in found for t in tables if _key(t) == key]
        return key[0] == "evaluate", max(times)

    best = max(common, key=preference)
    return [next((t for t in tables if _key(t) == best), tables[0]) for tables in found]


def _key(table: ScoreTable) -> tuple[Kind, str]:
    return table.kind, table.dataset
