"""`report.html` of a training: its curves while it runs, then also scores and pictures."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipeline.artifacts import Finding, Findings, ModelCard, ModelInfo, Summary, read_artifact
from pipeline.core.log import format_duration
from pipeline.core.workspace import write_text
from pipeline.reporting.curves import CurveChart, Line, curve_chart
from pipeline.reporting.page import render_page
from pipeline.reporting.pictures import as_data_uri, as_small_data_uri, class_color
from pipeline.reporting.scores import dice_cell, dice_columns_and_rows, format_number
from pipeline.train.disk import try_to_write, write_patiently
from pipeline.train.meters import MEASURED
from pipeline.train.state import LoopParts, LoopState

PAGE = "report.html"
# More lines in a chart, or columns in a table, cannot be told apart; history.csv has them all.
MAX_CLASSES = 12
RENEWED_EVERY_S = 60
_ACCENT, _INK = "#2a7fc1", "var(--ink)"
_COMPONENT_COLORS = ("#d98032", "#3f9b6b", "#8a63b5", "#b5526e")
# Columns of the history below train/ that are no part of the loss.
_NO_LOSS = MEASURED | {"train/learning_rate", "train/gradient_norm", "train/n_skipped"}


def write_page(parts: LoopParts, state: LoopState, card: ModelCard | None = None) -> None:
    """Write the page of a training; while it runs, a full disk costs a warning.

    Args:
        parts: What is trained.
        state: Where training is.
        card: The result; None while training runs.
    """
    file = parts.folder / PAGE
    write = partial(write_text, file, render_training(parts, state, card))
    if card is None:
        try_to_write(write, file)
    else:
        write_patiently(write, file)


def render_training(parts: LoopParts, state: LoopState, card: ModelCard | None) -> str:
    """Render the page.

    Args:
        parts: What is trained; the folder has findings and pictures.
        state: Rounds so far.
        card: The result; None while training runs.

    Returns:
        A self-contained HTML page.
    """
    info, summary = (card.info if card else parts.info), (card.validation if card else None)
    findings = list(_findings(parts.folder))
    return render_page(
        "train.html.j2",
        {
            "title": f"Training on {info.dataset_name}",
            "subtitle": _subtitle(parts),
            "verdict": _verdict(state, summary, findings, is_done=card is not None),
            "renewed_every_s": None if card else RENEWED_EVERY_S,
            "cards": _cards(parts, state, card),
            "scores": None if summary is None else dice_columns_and_rows(summary),
            "has_cases": bool(parts.cases),
            "charts": _charts(parts, state),
            "n_hidden_classes": max(0, len(parts.class_names) - MAX_CLASSES),
            "findings": findings,
            "pictures": _pictures(parts.folder / "pictures", is_done=card is not None),
            "rounds": _round_table(parts, state),
            "reasons": info.plan.reasons,
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


def _charts(parts: LoopParts, state: LoopState) -> list[CurveChart]:
    dice = [_line(state, "val/dice_smoothed", "pooled, averaged over rounds", _INK)]
    # Where not all fit, those that are worst: of them one wants to know.
    newest = state.history[-1] if state.history else {}
    names = sorted(parts.class_names, key=lambda name: newest.get(f"val/dice_{name}", 0.0))
    shown = set(names[:MAX_CLASSES])
    dice += [
        _line(state, f"val/dice_{name}", name, class_color(index))
        for index, name in enumerate(parts.class_names, 1)
        if name in shown
    ]
    loss = [_line(state, "train/loss", "loss", _INK)]
    loss += [
        _line(state, key, key.removeprefix("train/").replace("_", " "), color)
        for key, color in zip(_components(state), _COMPONENT_COLORS, strict=False)
    ]
    charts = (
        curve_chart("Dice on whole validation volumes", dice, "step"),
        curve_chart("Loss, mean of each round", loss, "step"),
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


def _components(state: LoopState) -> list[str]:
    """Parts of the loss; none where it has only one."""
    names = {
        name
        for row in state.history
        for name in row
        if name.startswith("train/") and name != "train/loss" and name not in _NO_LOSS
    }
    return sorted(names) if len(names) > 1 else []


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
    for file in sorted(folder.glob("*_step*.png")):
        of_case.setdefault(file.stem.rpartition("_step")[0], []).append(file)
    draw = as_small_data_uri if is_done else as_data_uri
    return [
        {
            "case_id": case_id,
            "steps": [
                {"step": int(file.stem.rpartition("_step")[2]), "uri": draw(file.read_bytes())}
                for file in reversed(files if is_done else files[-1:])
            ],
        }
        for case_id, files in of_case.items()
    ]


def _round_table(parts: LoopParts, state: LoopState) -> dict[str, object]:
    names = parts.class_names[:MAX_CLASSES] if parts.cases else ()
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
        for row in state.history
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
