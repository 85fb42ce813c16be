"""Several trainings with one command: the folds of a cross-validation, or seeds of one fold."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.artifacts import ModelCard, Splits, Summary, read_artifact
from pipeline.core.errors import EXIT_DONE, UsageError
from pipeline.core.tracker import Number, Tracker
from pipeline.core.workspace import write_json
from pipeline.metrics.score_table import write_scores_csv
from pipeline.reporting.scores import dice_table, format_number
from pipeline.runner.group_page import PAGE, GroupPage, Member, write_group_page
from pipeline.runner.request import EVERY_FOLD, Many, Request, remember_trained
from pipeline.runner.sweep import plan_sweep, run_sweep
from pipeline.runner.training import (
    Group,
    cost_of,
    group_key,
    group_run,
    shelve_other,
    train_one,
)
from pipeline.train.cross_validation import (
    FoldResult,
    SeedSummary,
    Spread,
    pool_folds,
    spread_of_seeds,
)

logger = logging.getLogger(__name__)


def run_many(request: Request, many: Many) -> int:
    """Train what is asked for, one after the other; what is finished is not trained again.

    Args:
        request: What the user asked for; ingest and audit are up to date.
        many: Which trainings.

    Returns:
        Exit status.

    Raises:
        UsageError: If the choices exclude each other, or a fold does not exist.
    """
    refuse_choices(request, many)
    if many.sweep is not None:
        return run_sweep(request, many.sweep)
    if many.folds is not None:
        splits = read_artifact(request.workspace.splits_file, Splits, made_by="audit")
        return _cross_validate(request, parse_folds(many.folds, len(splits.folds)), splits)
    return _repeat(request, many.n_seeds or 1)


def refuse_choices(request: Request, many: Many) -> None:
    """Stop before hours of ingest and audit where what is asked for cannot be trained.

    Args:
        request: What the user asked for.
        many: Which trainings.

    Raises:
        ConfigError: If a grid or one of its combinations is not valid.
        UsageError: If the choices exclude each other, or leave no Dice to compare.
    """
    seeds = "--seeds" if many.n_seeds not in (None, 1) else None
    given = [
        name
        for name in (many.folds and f"--fold {many.folds}", seeds, many.sweep and "--sweep")
        if name
    ]
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} cannot be combined",
            where="command line",
            fix="run one command for each",
        )
    if many.sweep is not None:
        plan_sweep(request, many.sweep)
    elif seeds and request.experiment.train.fold == "all":
        raise UsageError(
            "fold 'all' keeps no cases back, so there is no Dice to compare between seeds",
            where="--seeds, train.fold",
            fix="choose a fold, such as --fold 0",
        )


def parse_folds(text: str, n_folds: int) -> tuple[str, ...]:
    """Read a list of folds.

    Args:
        text: "cv", or folds and ranges: "0,2,4", "0..4".
        n_folds: Folds that the audit made.

    Returns:
        Their names in ascending order.

    Raises:
        UsageError: If it is no list of folds that exist.
    """
    if text == EVERY_FOLD:
        text = f"0..{n_folds - 1}"
    chosen: list[int] = []
    for item in text.split(","):
        first, _, last = item.strip().partition("..")
        if not (first.isdecimal() and (last.isdecimal() or item.strip() == first)):
            raise _no_folds(f"'{item.strip()}' is no fold that is scored", n_folds)
        highest = int(last or first)
        if highest >= n_folds:
            raise _no_folds(f"there is no fold {highest}: the cases make {n_folds} folds", n_folds)
        chosen += range(int(first), highest + 1)
    if not chosen or len(set(chosen)) < len(chosen):
        raise _no_folds("a fold is named twice, or none is", n_folds)
    return tuple(str(fold) for fold in sorted(chosen))


def with_train(request: Request, **changes: object) -> Request:
    """The same request with other values in its section `train`."""
    experiment = request.experiment
    train = experiment.train.model_copy(update=changes)
    return replace(request, experiment=experiment.model_copy(update={"train": train}))


def _no_folds(what: str, n_folds: int) -> UsageError:
    if not n_folds:
        return UsageError(
            "there are no folds to cross-validate",
            where="audit",
            fix="add cases of other patients, or train on all of them with --fold all",
        )
    return UsageError(
        what,
        where="--fold",
        fix=f"use one of 0 to {n_folds - 1}, a list such as 0,2 or 0..{n_folds - 1}, cv or all",
    )


def _cross_validate(request: Request, folds: Sequence[str], splits: Splits) -> int:
    """Train folds, and pool the scores of their validation cases."""
    workspace, results = request.workspace, list[FoldResult]()
    for number, fold in enumerate(folds, 1):
        logger.info("fold %s (%d of %d)", fold, number, len(folds))
        asked = with_train(request, fold=fold)
        card = train_one(asked, workspace)
        remember_trained(workspace)
        ids = splits.folds[int(fold)].validation
        folder = workspace.fold_dir(fold)
        results.append(FoldResult(folder, card, asked.experiment.train, ids))
    group = Group(
        stage="cross-validation",
        folder=workspace.stage_dir("train") / "cross_validation",
        name=f"cross-validation-f{','.join(folds)}",
        cards=[result.card for result in results],
        folders=[result.folder for result in results],
    )
    summary, scores = pool_folds(results, splits.groups)
    if group_key(group.folder) != group.key:
        shelve_other(group, workspace.stage_dir("train") / "archive")
        with group_run(request, group) as tracker:
            write_scores_csv(group.folder / "scores.csv", scores)
            write_json(group.folder / "summary.json", summary)
            _write_fold_page(group, summary, folds)
            _log_folds(tracker, request, group, summary, folds)
    title = (
        f"Cross-validation: Dice on {summary.n_cases} cases of {len(folds)} of "
        f"{len(splits.folds)} folds, each predicted by a model not trained on it"
    )
    console = Console(soft_wrap=True)
    console.print(dice_table(summary, title, worst={}))
    for row in _fold_rows(folds, group.cards):
        console.print(f"fold {row[0]}: {format_number(row[2])} (n={row[1]})", highlight=False)
    console.print(f"Scores: {group.folder}", markup=False, highlight=False)
    console.print(f"Report: {group.folder / PAGE}", markup=False, highlight=False)
    return EXIT_DONE


def _write_fold_page(group: Group, summary: Summary, folds: Sequence[str]) -> None:
    about = GroupPage(
        title=f"Cross-validation on {group.cards[0].info.dataset_name}",
        subtitle=f"folds {', '.join(folds)}, the same configuration",
        dice=summary.mean_foreground_dice,
        dice_name="Mean foreground Dice",
        note="Every case is scored once, by the model of the fold that did not train on it. The "
        "cases of a fold also chose its checkpoint.",
        pooled=summary,
    )
    write_group_page(group.folder, about, _members("fold", folds, group))


def _members(what: str, names: Sequence[object], group: Group) -> list[Member]:
    """The trainings of a group, told apart by their fold or seed."""
    return [
        Member(f"{what} {name}", folder, card)
        for name, folder, card in zip(names, group.folders, group.cards, strict=True)
    ]


def _fold_rows(
    folds: Sequence[str], cards: Sequence[ModelCard]
) -> list[tuple[str, int, float | None]]:
    """Fold, number of cases and mean foreground Dice."""
    return [
        (fold, card.validation.n_cases, card.validation.mean_foreground_dice)
        for fold, card in zip(folds, cards, strict=True)
        if card.validation is not None
    ]


def _log_folds(
    tracker: Tracker, request: Request, group: Group, summary: Summary, folds: Sequence[str]
) -> None:
    _log_knobs(tracker, request, group, {"fold": ",".join(folds)})
    rows = _fold_rows(folds, group.cards)
    metrics: dict[str, Number | None] = {"final/dice_mean": summary.mean_foreground_dice}
    metrics |= {f"final/dice_{name}": c.dice.mean for name, c in summary.classes.items()}
    metrics |= {"cross_validation/n_cases": summary.n_cases, **cost_of(group.cards)}
    tracker.log_metrics(metrics)
    tracker.log_table("folds", ["fold", "n_cases", "dice_mean"], rows)
    for name in ("summary.json", "scores.csv", PAGE):
        tracker.log_file(group.folder / name, headline=True)
    tracker.set_tags(
        {
            "description": f"**Cross-validation: mean foreground Dice "
            f"{format_number(summary.mean_foreground_dice)}** on {summary.n_cases} cases of folds "
            f"{', '.join(folds)}, each scored once, by the model of the fold that did not train "
            "on it (but chose its checkpoint with it)."
        }
    )


def _repeat(request: Request, n_seeds: int) -> int:
    """Train one fold with several seeds, and say how far the results lie apart."""
    workspace, train = request.workspace, request.experiment.train
    cards, folders = dict[int, ModelCard](), []
    for seed in range(train.seed, train.seed + n_seeds):
        logger.info("seed %d (%d of %d)", seed, len(cards) + 1, n_seeds)
        # The configured seed keeps the usual place, where evaluate and infer look for the model.
        place = workspace if seed == train.seed else replace(workspace, seed=seed)
        cards[seed] = train_one(with_train(request, seed=seed), place)
        folders.append(place.fold_dir(train.fold))
        remember_trained(workspace)
    group = Group(
        stage="seeds",
        folder=workspace.stage_dir("train") / f"seeds_fold_{train.fold}",
        name=f"{n_seeds}seeds-f{train.fold}",
        cards=list(cards.values()),
        folders=folders,
    )
    summary = spread_of_seeds(cards)
    if group_key(group.folder) != group.key:
        shelve_other(group, workspace.stage_dir("train") / "archive")
        with group_run(request, group) as tracker:
            write_json(group.folder / "summary.json", summary)
            _write_seed_page(group, summary)
            _log_seeds(tracker, request, group, summary)
    _show_seeds(summary, group.folder)
    return EXIT_DONE


def _write_seed_page(group: Group, summary: SeedSummary) -> None:
    found = summary.mean_foreground_dice
    about = GroupPage(
        title=f"{len(summary.seeds)} seeds on {group.cards[0].info.dataset_name}",
        subtitle=f"fold {summary.fold}, the same configuration and the same {summary.n_cases} "
        "validation cases",
        dice=found.mean,
        dice_name="Mean foreground Dice",
        note=f"Standard deviation over seeds {format_number(found.sd)}, from "
        f"{format_number(found.min)} to {format_number(found.max)}: a difference between two "
        "single trainings of this size can be chance.",
    )
    write_group_page(group.folder, about, _members("seed", summary.seeds, group))


def _log_seeds(tracker: Tracker, request: Request, group: Group, summary: SeedSummary) -> None:
    seeds = ",".join(map(str, summary.seeds))
    _log_knobs(tracker, request, group, {"fold": summary.fold, "seed": seeds})
    dice = {"mean": summary.mean_foreground_dice, **summary.classes}
    metrics: dict[str, Number | None] = {"seeds/n_seeds": len(summary.seeds)}
    for name, found in dice.items():
        for key in ("sd", "min", "max"):
            metrics[f"seeds/dice_{name}_{key}"] = getattr(found, key)
    # Beside single trainings in the table of runs: the mean over seeds is what to expect of one.
    metrics |= {f"final/dice_{name}": found.mean for name, found in dice.items()}
    tracker.log_metrics(metrics | cost_of(group.cards))
    values = zip(*(found.values for found in dice.values()), strict=True)
    rows = [[seed, *row] for seed, row in zip(summary.seeds, values, strict=True)]
    tracker.log_table("seeds", ["seed", *(f"dice_{name}" for name in dice)], rows)
    for name in ("summary.json", PAGE):
        tracker.log_file(group.folder / name, headline=True)
    found = summary.mean_foreground_dice
    tracker.set_tags(
        {
            "description": f"**Mean foreground Dice {format_number(found.mean)}, SD "
            f"{format_number(found.sd)}** over seeds {seeds} of fold {summary.fold} "
            f"({summary.n_cases} validation cases, the same for each)."
        }
    )


def _log_knobs(tracker: Tracker, request: Request, group: Group, chosen: Mapping[str, str]) -> None:
    """What the table of runs shows beside a training, for several together."""
    train, first = request.experiment.train, group.cards[0].info
    lengths = {name: getattr(train, name) for name in ("budget_minutes", "epochs", "steps")}
    given = {name: value for name, value in lengths.items() if value is not None}
    tracker.log_params({"loss": train.loss.kind, "seed": train.seed, **given, **chosen})
    tracker.log_dataset(name=first.dataset_name, digest=first.dataset_digest, context="train")


def _show_seeds(summary: SeedSummary, folder: Path) -> None:
    table = Table(
        title=f"Final Dice over {len(summary.seeds)} seeds, the same {summary.n_cases} validation "
        f"cases of fold {summary.fold}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("class", overflow="fold")
    for name in ("mean", "SD", "min", "max", "n seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in summary.classes.items():
        table.add_row(escape(name), *_cells(found))
    table.add_section()
    table.add_row("foreground mean", *_cells(summary.mean_foreground_dice))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"Scores: {folder}", markup=False, highlight=False)
    console.print(f"Report: {folder / PAGE}", markup=False, highlight=False)


def _cells(found: Spread) -> tuple[str, ...]:
    numbers = (found.mean, found.sd, found.min, found.max)
    return (*(format_number(number) for number in numbers), str(found.n_seeds))
