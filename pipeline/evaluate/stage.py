"""Stage `evaluate`: score predictions against references, case by case and class by class."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pipeline.artifacts import Summary
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.task import Task
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import write_json, write_text
from pipeline.evaluate.annotation import Unannotated
from pipeline.evaluate.attributes import CaseAttributes, read_attributes
from pipeline.evaluate.cases import ScoredCases, score_pairs
from pipeline.evaluate.class_csv import classes_csv
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gallery import picture_cases
from pipeline.evaluate.inputs import EvaluationInput as EvaluationInput
from pipeline.evaluate.inputs import input_from_folders as input_from_folders
from pipeline.evaluate.latex import latex_table
from pipeline.evaluate.methods import methods_text
from pipeline.evaluate.notes import annotation_notes
from pipeline.evaluate.pairs import Pairing, pair_cases
from pipeline.evaluate.per_class import sort_by_class
from pipeline.evaluate.ranking import case_dice, worst_first
from pipeline.evaluate.report import render_report
from pipeline.evaluate.spacings import read_spacings_mm
from pipeline.evaluate.table import class_table
from pipeline.evaluate.task import find_task
from pipeline.io.discover import list_volumes
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.policy import policy_named
from pipeline.metrics.regions import unions_of
from pipeline.metrics.score_table import write_scores_csv
from pipeline.metrics.subgroups import summarize_subgroups
from pipeline.metrics.values import metric_value

PIPE_WIDTH = 140

_log = logging.getLogger(__name__)


def evaluate(
    config: EvaluateConfig, source: EvaluationInput, out_dir: Path, tracker: Tracker
) -> Summary:
    """Score a folder of predictions and write what people and programs need of it.

    Files: scores.csv (case by class), classes.csv (every mean), summary.json, report.html,
    methods.txt and table.tex.

    Args:
        config: How to score.
        source: Predictions, references, and what is known about them.
        out_dir: Where the files go.
        tracker: Gets the headline numbers and files.

    Returns:
        The summary; `failed_cases` names every case without a prediction or without a score.

    Raises:
        VoxlineError: If nothing can be paired, or the classes cannot be found.
    """
    pairing = _with_annotations(
        pair_cases(list_volumes(source.prediction_dir), source.references), source
    )
    task = source.task or find_task(source.references)
    config = with_task_regions(config, task)
    check_names(config, task)
    scored = score_pairs(pairing.pairs, task, config, out_dir / "cases")
    attributes = read_attributes(config.attributes, frozenset(source.references))
    evaluation = Evaluation(
        dataset_name=source.dataset_name,
        class_names=task.class_names,
        config=config,
        cases=worst_first(scored.cases, policy_named(config.policy), task.class_names),
        summary=_summarize(scored, task, config, attributes),
        extra_predictions=pairing.extra_predictions,
        seen_in_training=tuple(c for c in source.seen_in_training if c in source.references),
        subgroups=summarize_subgroups(
            scored.cases,
            attributes.columns,
            task.class_names,
            policy=config.policy,
            n_bootstrap=config.n_bootstrap,
            seed=config.seed,
            groups=attributes.patients,
        ),
        n_patients=len(set(attributes.patients.values())) or None,
        ignored_values=task.ignore_values,
    )
    _write(evaluation, scored, pairing, source, task, out_dir)
    _show(evaluation)
    _warn(evaluation)
    for case_id in attributes.unknown:
        _log.warning("the table of case attributes names %s, which was not scored", case_id)
    _track(evaluation, out_dir, tracker)
    return evaluation.summary


def _with_annotations(pairing: Pairing, source: EvaluationInput) -> Pairing:
    """The same pairs, each knowing which of its classes nobody drew."""
    if not source.unannotated and not source.absent_is_unannotated:
        return pairing
    pairs = tuple(
        replace(
            pair,
            unannotated=Unannotated(
                source.unannotated.get(pair.case_id, ()), source.absent_is_unannotated
            ),
        )
        for pair in pairing.pairs
    )
    return replace(pairing, pairs=pairs)


def with_task_regions(config: EvaluateConfig, task: Task) -> EvaluateConfig:
    """Score the regions a network was trained on beside the classes, without being asked.

    Args:
        config: How to score; regions named there win.
        task: Classes and regions.

    Returns:
        The configuration with the regions that unite several classes.
    """
    return config.model_copy(update={"regions": {**unions_of(task), **config.regions}})


def check_names(config: EvaluateConfig, task: Task) -> None:
    """Make sure that every class the configuration names exists, and can be scored as asked.

    Raises:
        ConfigError: If one does not, a region has the name of a class, or probabilities are given
            for a task of regions.
    """
    if task.regions and config.probabilities is not None:
        raise ConfigError(
            "calibration is of classes, and this task has one probability per region",
            where="evaluate.probabilities",
            fix="set evaluate.probabilities to null",
        )
    known = {*task.class_names, *config.regions}
    named = [("tolerances_mm", name, known) for name in config.tolerances_mm]
    named += [("multi", name, set(task.class_names)) for name in config.multi]
    named += [
        (f"regions.{region}", name, set(task.class_names))
        for region, members in config.regions.items()
        for name in members
    ]
    for key, name, choices in named:
        if name not in choices:
            raise ConfigError(
                f"there is no class '{name}'",
                where=f"evaluate.{key}",
                fix=did_you_mean(name, sorted(choices)),
            )
    for region in config.regions:
        if region in task.class_names:
            raise ConfigError(
                f"'{region}' is a class and cannot be a region",
                where="evaluate.regions",
                fix="give the region another name",
            )


def _summarize(
    scored: ScoredCases, task: Task, config: EvaluateConfig, attributes: CaseAttributes
) -> Summary:
    def averages(names: Sequence[str]) -> Summary:
        return summarize(
            scored.cases,
            names,
            policy=config.policy,
            n_bootstrap=config.n_bootstrap,
            seed=config.seed,
            groups=attributes.patients,
        )

    summary = averages(task.class_names)
    # Regions have rows of their own; the foreground mean stays that of the classes.
    regions = averages(tuple(config.regions)).classes if config.regions else {}
    return summary.model_copy(
        update={"classes": {**summary.classes, **regions}, "failed_cases": scored.failed}
    )


def _write(
    evaluation: Evaluation,
    scored: ScoredCases,
    pairing: Pairing,
    source: EvaluationInput,
    task: Task,
    out_dir: Path,
) -> None:
    pair_of = {pair.case_id: pair for pair in pairing.pairs}
    worst = [pair_of[case.case_id] for case in evaluation.cases]
    pictures = picture_cases(worst, source.images, task, evaluation.config)
    # The default tolerance fits every grid; only those somebody gave can be too fine.
    is_given = evaluation.config.surfaces and bool(evaluation.config.tolerances_mm)
    spacings_mm = read_spacings_mm(source.references) if is_given else {}
    by_class = sort_by_class(evaluation.cases, tuple(evaluation.summary.classes))
    write_scores_csv(out_dir / "scores.csv", scored.cases)
    write_json(out_dir / "summary.json", evaluation.summary)
    write_text(out_dir / "report.html", render_report(evaluation, pictures, spacings_mm))
    write_text(out_dir / "methods.txt", methods_text(evaluation, by_class))
    write_text(out_dir / "classes.csv", classes_csv(evaluation))
    write_text(out_dir / "table.tex", latex_table(evaluation, by_class))


def _show(evaluation: Evaluation) -> None:
    # A pipe has no width; there the table must not wrap to the 80 columns rich assumes.
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(class_table(evaluation))


def _warn(evaluation: Evaluation) -> None:
    for note in annotation_notes(evaluation):
        _log.info("%s", note)
    for failed in evaluation.summary.failed_cases:
        _log.error("case %s: %s (fix: %s)", failed.case_id, failed.message, failed.fix)
    if evaluation.seen_in_training:
        _log.warning(
            "%d of these cases were in the training of the model: the scores are too good",
            len(evaluation.seen_in_training),
        )
    if evaluation.extra_predictions:
        _log.warning(
            "%d predictions have no reference and were not scored: %s",
            len(evaluation.extra_predictions),
            ", ".join(evaluation.extra_predictions[:5]),
        )


def _track(evaluation: Evaluation, out_dir: Path, tracker: Tracker) -> None:
    summary = evaluation.summary
    metrics: dict[str, float | None] = {"test/dice_mean": summary.mean_foreground_dice}
    for name, scores in summary.classes.items():
        metrics[f"test/dice_{name}"] = scores.dice.mean
        metrics[f"test_surface/hd95_mm_{name}"] = scores.hd95_mm.mean if scores.hd95_mm else None
        metrics[f"test_surface/nsd_{name}"] = scores.nsd.mean if scores.nsd else None
        metrics[f"test_counts/n_missed_{name}"] = scores.n_missed
        metrics[f"test_counts/n_hallucinated_{name}"] = scores.n_hallucinated
    tracker.log_metrics(metrics, headline=True)
    names = ("case_id", "dice_mean", *(f"dice_{name}" for name in evaluation.class_names))
    tracker.log_table("test cases", names, _table_rows(evaluation))
    for file in ("report.html", "summary.json", "scores.csv"):
        tracker.log_file(out_dir / file, headline=True)
    for file in ("classes.csv", "methods.txt", "table.tex"):
        tracker.log_file(out_dir / file)


def _table_rows(evaluation: Evaluation) -> list[list[str | float | None]]:
    policy, names = evaluation.policy, evaluation.class_names
    return [
        [
            case.case_id,
            case_dice(case, policy, names),
            *(metric_value(case, name, "dice", policy) for name in names),
        ]
        for case in evaluation.cases
    ]
