"""`report.html` of several trainings: their scores and curves side by side, with links to each."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import ModelCard, Summary
from pipeline.core.log import format_duration
from pipeline.core.workspace import write_text
from pipeline.reporting.curves import LINE_COLORS, STEEP_START, CurveChart, Line, curve_chart
from pipeline.reporting.page import render_page
from pipeline.reporting.scores import dice_cell, dice_columns_and_rows, format_number

PAGE = "report.html"
# More lines in a chart, or columns in a table, cannot be told apart.
MAX_LINES = MAX_CLASSES = 12
_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True)
class Member:
    """One training of several.

    Args:
        name: What tells it from the others.
        folder: Where it lies.
        card: What it left; None if it failed.
        message: Why it failed.
    """

    name: str
    folder: Path
    card: ModelCard | None
    message: str = ""

    @property
    def summary(self) -> Summary | None:
        """Scores of the final validation, if there are any."""
        return self.card.validation if self.card else None


@dataclass(frozen=True)
class GroupPage:
    """What the page says beyond its trainings.

    Args:
        title: Its heading.
        subtitle: What the trainings have in common.
        dice: The result of all together.
        dice_name: What that number is.
        note: How to read it.
        pooled: Scores over the cases of all trainings; None where the cases are the same.
    """

    title: str
    subtitle: str
    dice: float | None
    dice_name: str
    note: str
    pooled: Summary | None = None


def write_group_page(folder: Path, about: GroupPage, members: Sequence[Member]) -> Path:
    """Write the page.

    Args:
        folder: Where it goes; links are relative to it.
        about: Heading and common result.
        members: The trainings, in the order in which they are listed.

    Returns:
        The file.
    """
    n_failed = sum(member.card is None for member in members)
    text = format_number(about.dice)
    verdict = {"kind": "info", "text": f"Dice {text}"}
    if n_failed:
        verdict = {"kind": "warn", "text": f"{n_failed} of {len(members)} failed"}
    context = {
        "title": about.title,
        "subtitle": about.subtitle,
        "verdict": verdict,
        "cards": _cards(about, members),
        "note": about.note,
        "pooled": dice_columns_and_rows(about.pooled) if about.pooled else None,
        "members": _table(folder, members),
        "failed": [member for member in members if member.card is None],
        "charts": _charts(members),
        "n_drawn": MAX_LINES if len(members) > MAX_LINES else None,
        "n_more_classes": max(0, len(_class_names(members)) - MAX_CLASSES),
    }
    file = folder / PAGE
    write_text(file, render_page("group.html.j2", context))
    return file


def _cards(about: GroupPage, members: Sequence[Member]) -> list[dict[str, str]]:
    minutes = sum(member.card.training_minutes for member in members if member.card)
    cards = [{"label": about.dice_name, "value": format_number(about.dice)}]
    if about.pooled is not None:
        note = "each predicted by a model not trained on it"
        cards.append({"label": "Cases", "value": str(about.pooled.n_cases), "note": note})
    cards.append({"label": "Trainings", "value": str(len(members))})
    duration = format_duration(_SECONDS_PER_MINUTE * minutes)
    cards.append({"label": "Training time", "value": duration, "note": "together"})
    return cards


def _table(folder: Path, members: Sequence[Member]) -> dict[str, object]:
    names = _class_names(members)[:MAX_CLASSES]
    columns: list[dict[str, object]] = [{"name": "Training"}]
    columns += [{"name": name, "is_number": True} for name in ("Mean Dice", *names)]
    columns += [{"name": "n", "is_number": True, "help": "validation cases"}]
    columns += [{"name": "Steps", "is_number": True}, {"name": "Minutes", "is_number": True}]
    return {"columns": columns, "rows": [_row(folder, member, names) for member in members]}


def _class_names(members: Sequence[Member]) -> list[str]:
    scored = [member.summary for member in members if member.summary]
    return list(dict.fromkeys(name for summary in scored for name in summary.classes))


def _row(folder: Path, member: Member, names: Sequence[str]) -> list[object]:
    page, summary, card = member.folder / PAGE, member.summary, member.card
    # The page moves with its work folder.
    link = {"href": Path(os.path.relpath(page, folder)).as_posix()} if page.is_file() else {}
    classes = summary.classes if summary else {}
    return [
        {"text": member.name, **link},
        dice_cell(summary.mean_foreground_dice if summary else None),
        *(dice_cell(classes[name].dice.mean if name in classes else None) for name in names),
        summary.n_cases if summary else None,
        card.n_steps if card else {"text": "failed", "kind": "bad"},
        card.training_minutes if card else None,
    ]


def _charts(members: Sequence[Member]) -> list[CurveChart]:
    histories = [(member.name, _history(member.folder)) for member in members[:MAX_LINES]]
    charts = (
        _chart("Dice on whole validation volumes, pooled", histories, "val/dice_pooled"),
        _chart("Loss, mean of each round", histories, "train/loss"),
        _chart("Learning rate", histories, "train/learning_rate"),
    )
    return [chart for chart in charts if chart is not None]


def _chart(
    title: str, histories: Sequence[tuple[str, list[dict[str, str]]]], key: str
) -> CurveChart | None:
    lines = [
        Line(
            name,
            color,
            tuple((float(row["step"]), float(row[key])) for row in rows if row.get(key)),
        )
        for (name, rows), color in zip(histories, LINE_COLORS, strict=False)
    ]
    return curve_chart(title, lines, "step", steep=STEEP_START)


def _history(folder: Path) -> list[dict[str, str]]:
    """Rounds of a training; none if it failed before its first."""
    file = folder / "history.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
