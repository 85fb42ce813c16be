"""`report.html` of a training: its curves while it runs, then also scores and pictures."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipeline.artifacts import Finding, Findings, ModelCard, ModelInfo, Summary, read_artifact
from pipeline.core.errors import VoxlineError
from pipeline.core.log import format_duration
from pipeline.core.workspace import write_text
from pipeline.metrics.regions import unions_of
from pipeline.models.loss_kinds import OVERLAP, VOXELWISE
from pipeline.reporting.curves import LINE_COLORS, STEEP_START, CurveChart, Line, curve_chart
from pipeline.reporting.page import render_page
from pipeline.reporting.pictures import (
    CLASS_COLORS,
    as_data_uri,
    as_small_data_uri,
    class_color,
)
from pipeline.reporting.scores import dice_cell, dice_columns_and_rows, format_number
from pipeline.train.disk import try_to_write
from pipeline.train.idle import idle_keys
from pipeline.train.state import LoopParts, LoopState

logger = logging.getLogger(__name__)

PAGE = "report.html"
# More lines in a chart, or columns in a table, cannot be told apart; history.csv has them all.
MAX_CLASSES = 12
RENEWED_EVERY_S = 60
# A long table takes longer to write than a round may lose; that of the finished training has all.
MAX_ROUNDS_WHILE_RUNNING = 50
_ACCENT, _INK = LINE_COLORS[0], "var(--ink)"


def write_page(
    parts: LoopParts, state: LoopState, card: ModelCard | None = None, *, stopped: str = ""
) -> None:
    """Write the page of a training; what goes wrong with it costs a warning, not the training.

    Args:
        parts: What is trained.
        state: Where training is.
        card: The result; None while training runs.
        stopped: Why it does not run any more, without a result.
    """
    file = parts.folder / PAGE
    try:
        page = render_training(parts, state, card, stopped)
    except Exception as error:  # noqa: BLE001  # a file beside it that somebody removed or tore
        logger.warning("no new page of this training: %s: %s", type(error).__name__, error)
        return
    try_to_write(partial(write_text, file, page), file)


@contextmanager
def page_of_a_stop(parts: LoopParts, state: LoopState) -> Iterator[None]:
    """Write on the page why a training ended without a result.

    Args:
        parts: What is trained.
        state: Where training is.
    """
    try:
        yield
    except VoxlineError as error:
        write_page(parts, state, stopped=error.what)
        raise


def render_training(
    parts: LoopParts, state: LoopState, card: ModelCard | None, stopped: str = ""
) -> str:
    """Render the page.

    Args:
        parts: What is trained; the folder has findings and pictures.
        state: Rounds so far.
        card: The result; None while training runs.
        stopped: Why it does not run any more, without a result.

    Returns:
        A self-contained HTML page.
    """
    is_running = card is None and not stopped
    info, summary = (card.info if card else parts.info), (card.validation if card else None)
    findings = list(_findings(parts.folder))
    return render_page(
        "train.html.j2",
        {
            "title": f"Training on {info.dataset_name}",
            "subtitle": _subtitle(parts),
            "verdict": _verdict(state, summary, findings, is_done=card is not None),
            "stopped": stopped,
            "renewed_every_s": RENEWED_EVERY_S if is_running else None,
            "cards": _cards(parts, state, card),
            "scores": None if summary is None else dice_columns_and_rows(summary),
            "has_cases": bool(parts.cases),
            "charts": _charts(parts, state),
            "n_hidden_classes": max(0, len(_names(parts)) - MAX_CLASSES),
            "findings": findings,
            "pictures": _pictures(parts.folder / "pictures", is_done=card is not None),
            "rounds": _round_table(parts, state, is_running=is_running),
            "reasons": (*info.plan.reasons, *idle_keys(parts.config)),
            "facts": _facts(parts, info),
        },
    )


def _subtitle(parts: LoopParts) -> str:
    fold, n_train = parts.config.fold, parts.info.plan.n_train_cases
    if not parts.cases:
        return f"on all {n_train} cases, seed {parts.config.seed}; none is held out"
    return (
        f"fold {fold}, seed {parts.config.seed}: trained on {n_train} cases, validated on "
        f"{len(parts.cases)} others"
    )


def _verdict(
    state: LoopState, summary: Summary | None, findings: Sequence[Finding], *, is_done: bool
) -> dict[str, str]:
    n_open = sum(f.severity != "info" and f.waived is None for f in findings)
    warned = f", {n_open} warnings" if n_open > 1 else ", 1 warning" if n_open else ""
    kind = "warn" if n_open else "info"
    if not is_done:
        return {"kind": kind, "text": f"round {state.pace.round} of {state.pace.n_rounds}{warned}"}
    if summary is None or summary.mean_foreground_dice is None:
        return {"kind": kind, "text": f"trained{warned}"}
    dice = format_number(summary.mean_foreground_dice)
    return {"kind": kind, "text": f"mean Dice {dice}{warned}"}


def _cards(parts: LoopParts, state: LoopState, card: ModelCard | None) -> list[dict[str, str]]:
    cards: list[dict[str, str]] = []
    if card is not None and card.validation is not None:
        dice = format_number(card.validation.mean_foreground_dice)
        note = f"{card.validation.n_cases} cases, whole volumes"
        cards.append({"label": "Mean foreground Dice", "value": dice, "note": note})
    elif parts.cases:
        n_watched = min(len(parts.cases), state.n_validation_cases)
        cards.append(
            {
                "label": "Dice so far, pooled",
                "value": format_number(state.smoothed_dice),
                "note": f"{n_watched} cases, averaged over rounds",
            }
        )
    cards.append({"label": "Steps", "value": f"{state.step:,}"})
    cards.append({"label": "Training time", "value": format_duration(state.elapsed_s)})
    if state.n_skipped:
        note = "values that were not finite"
        cards.append({"label": "Skipped steps", "value": str(state.n_skipped), "note": note})
    if card is None:
        now = datetime.now(UTC)
        cards.append({"label": "As of", "value": f"{now:%H:%M}", "note": f"{now:%Y-%m-%d}, UTC"})
    else:
        cards.append({"label": "Weights", "value": f"{card.n_parameters:,}"})
    return cards


def _names(parts: LoopParts) -> tuple[str, ...]:
    """Classes, and regions that unite several."""
    return (*parts.class_names, *unions_of(parts.info.task))


def _charts(parts: LoopParts, state: LoopState) -> list[CurveChart]:
    dice = [_line(state, "val/dice_smoothed", "pooled, averaged over rounds", _INK)]
    # Where not all fit, those that are worst: of them one wants to know.
    newest = state.history[-1] if state.history else {}
    names = _names(parts)
    worst = sorted(names, key=lambda name: newest.get(f"val/dice_{name}", 0.0))[:MAX_CLASSES]
    shown = [name for name in names if name in worst]
    dice += [
        _line(state, f"val/dice_{name}", name, color)
        for name, color in zip(shown, _class_lines(len(names)), strict=False)
    ]
    loss = [_line(state, "train/loss", "loss", _INK)]
    kind = parts.learner.loss_config.kind
    if kind in OVERLAP and kind in VOXELWISE:
        parts_of_loss = (("dice_loss", "overlap"), ("cross_entropy", "per voxel"))
        loss += [
            _line(state, f"train/{key}", name, color)
            for (key, name), color in zip(parts_of_loss, LINE_COLORS[1:], strict=False)
        ]
    charts = (
        curve_chart("Dice on whole validation volumes", dice, "step", steep=STEEP_START),
        curve_chart("Loss, mean of each round", loss, "step", steep=STEEP_START),
        curve_chart(
            "Learning rate", [_line(state, "train/learning_rate", "rate", _ACCENT)], "step"
        ),
        curve_chart(
            "Gradient norm before clipping, mean of each round",
            [_line(state, "train/gradient_norm", "norm", _ACCENT)],
            "step",
            is_log=True,
        ),
    )
    return [chart for chart in charts if chart is not None]


def _class_lines(n_names: int) -> tuple[str, ...]:
    """The colors of the pictures, as long as no two classes share one."""
    if n_names <= len(CLASS_COLORS):
        return tuple(class_color(index) for index in range(1, n_names + 1))
    return LINE_COLORS


def _line(state: LoopState, key: str, name: str, color: str) -> Line:
    points = tuple((float(row["step"]), float(row[key])) for row in state.history if key in row)
    return Line(name, color, points)


def _findings(folder: Path) -> Iterator[Finding]:
    """What preflight and guard have said."""
    for name in ("preflight.json", "guard.json"):
        if (folder / name).is_file():
            yield from read_artifact(folder / name, Findings, made_by="train").findings


def _pictures(folder: Path, *, is_done: bool) -> list[dict[str, object]]:
    """The predictions of each case over time; while training runs, the newest alone.

    Shrinking a picture takes longer than a round of a small training may lose.
    """
    of_case: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*_step*.png"), key=_step_of):
        of_case.setdefault(file.stem.rpartition("_step")[0], []).append(file)
    draw = as_small_data_uri if is_done else as_data_uri
    return [
        {
            "case_id": case_id,
            "steps": [
                {"step": _step_of(file), "uri": draw(file.read_bytes())}
                for file in reversed(files if is_done else files[-1:])
            ],
        }
        for case_id, files in of_case.items()
    ]


def _step_of(file: Path) -> int:
    return int(file.stem.rpartition("_step")[2])


def _round_table(parts: LoopParts, state: LoopState, *, is_running: bool) -> dict[str, object]:
    names = _names(parts)[:MAX_CLASSES] if parts.cases else ()
    keys = [("step", "Step"), ("train/elapsed_min", "Minutes")]
    if parts.cases:
        keys.append(("val/dice_pooled", "Dice, pooled"))
    keys += [(f"val/dice_{name}", f"Dice {name}") for name in names]
    keys += [
        ("train/loss", "Loss"),
        ("train/learning_rate", "Learning rate"),
        ("train/gradient_norm", "Gradient norm"),
        ("train/samples_per_s", "Patches/s"),
        ("train/peak_memory_mb", "Memory, MB"),
    ]
    columns = [{"name": name, "is_number": True} for _, name in keys]
    rows = [
        [dice_cell(row.get(key)) if "/dice_" in key else row.get(key) for key, _ in keys]
        for row in state.history[-MAX_ROUNDS_WHILE_RUNNING if is_running else 0 :]
    ]
    return {"columns": columns, "rows": rows}


def _facts(parts: LoopParts, info: ModelInfo) -> list[tuple[str, str]]:
    plan = info.plan
    channels = ", ".join(f"{c.name} ({c.modality})" for c in info.task.channels)
    return [
        ("Dataset", f"{info.dataset_name}, {info.dataset_digest}"),
        ("Channels", channels),
        ("Structures", ", ".join(info.task.class_names)),
        ("Network", f"{plan.network.name or plan.network.kind}"),
        ("Loss", parts.config.loss.name or parts.config.loss.kind),
        ("Optimizer", f"{parts.config.optimizer.kind}, learning rate {plan.learning_rate:g}"),
        ("Patch and batch", f"{' x '.join(map(str, plan.patch_size))} voxels, {plan.batch_size}"),
        ("Numbers", f"{info.number_format} on {plan.device}"),
        ("MLflow run", info.mlflow_run_id or "not tracked"),
    ]
