"""Stage `evaluate`: score predictions against references, case by case and class by class."""

import logging
import sys
from pathlib import Path

from rich.console import Console

from pipeline.artifacts import Summary
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import write_json, write_text
from pipeline.evaluate.cases import score_pairs
from pipeline.evaluate.config import EvaluateConfig
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gallery import picture_cases
from pipeline.evaluate.inputs import EvaluationInput as EvaluationInput
from pipeline.evaluate.inputs import input_from_folders as input_from_folders
from pipeline.evaluate.methods import methods_text
from pipeline.evaluate.pairs import pair_cases
from pipeline.evaluate.ranking import worst_first
from pipeline.evaluate.report import render_report
from pipeline.evaluate.table import class_table
from pipeline.evaluate.task import find_task
from pipeline.io.discover import list_volumes
from pipeline.metrics.aggregate import summarize
from pipeline.metrics.policy import policy_named
from pipeline.metrics.scores import write_scores_csv

PIPE_WIDTH = 140

_log = logging.getLogger(__name__)


def evaluate(
    config: EvaluateConfig, source: EvaluationInput, out_dir: Path, tracker: Tracker
) -> Summary:
    """Score a folder of predictions and write scores.csv, summary.json, report.html, methods.txt.

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
    pairing = pair_cases(list_volumes(source.prediction_dir), source.references)
    task = source.task or find_task(source.references)
    scored = score_pairs(pairing.pairs, task, config)
    summary = summarize(
        scored.cases,
        task.class_names,
        policy=config.policy,
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
    ).model_copy(update={"failed_cases": scored.failed})
    evaluation = Evaluation(
        dataset_name=source.dataset_name,
        class_names=task.class_names,
        config=config,
        cases=worst_first(scored.cases, policy_named(config.policy)),
        summary=summary,
        extra_predictions=pairing.extra_predictions,
        seen_in_training=tuple(c for c in source.seen_in_training if c in source.references),
    )
    pair_of = {pair.case_id: pair for pair in pairing.pairs}
    worst = [pair_of[case.case_id] for case in evaluation.cases]
    pictures = picture_cases(worst, source.images, task, config)

    write_scores_csv(out_dir / "scores.csv", scored.cases)
    write_json(out_dir / "summary.json", summary)
    write_text(out_dir / "report.html", render_report(evaluation, pictures))
    write_text(out_dir / "methods.txt", methods_text(evaluation))
    _show(evaluation)
    _warn(evaluation)
    _track(summary, out_dir, tracker)
    return summary


def _show(evaluation: Evaluation) -> None:
    # A pipe has no width; there the table must not wrap to the 80 columns rich assumes.
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(class_table(evaluation))


def _warn(evaluation: Evaluation) -> None:
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


def _track(summary: Summary, out_dir: Path, tracker: Tracker) -> None:
    metrics = {f"test/dice_{name}": scores.dice.mean for name, scores in summary.classes.items()}
    tracker.log_metrics({"test/dice_mean": summary.mean_foreground_dice, **metrics}, headline=True)
    for name in ("report.html", "summary.json", "scores.csv"):
        tracker.log_file(out_dir / name, headline=True)
