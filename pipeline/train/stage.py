"""Train one network: the table of contents of the stage."""

import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from torch import nn

from pipeline.artifacts import (
    CaseRecord,
    CleanupRule,
    Findings,
    ModelCard,
    ModelInfo,
    Summary,
    read_artifact,
)
from pipeline.core.errors import InterruptedByUserError
from pipeline.core.interrupt import stop_requests
from pipeline.core.log import format_duration, progress_bar
from pipeline.core.seeds import generator_for
from pipeline.core.tracker import NullTracker, Tracker
from pipeline.core.workspace import TRACKING_PARENT, Workspace, write_json, write_text
from pipeline.metrics.policy import policy_named
from pipeline.metrics.score_table import write_scores_csv
from pipeline.metrics.scores import CaseScores
from pipeline.metrics.values import metric_value
from pipeline.models.checkpoint import load_model, update_model
from pipeline.models.describe import describe_model
from pipeline.models.device import number_format, set_arithmetic, use_all_cores
from pipeline.models.networks import count_parameters
from pipeline.train.cleanup import (
    MAX_TRAINING_REFERENCES,
    CleanupEvidence,
    Reference,
    choose_cleanup,
    evenly_spaced,
    read_reference,
)
from pipeline.train.cross_validation import summarize_cases
from pipeline.train.data import BatchSource
from pipeline.train.disk import write_patiently
from pipeline.train.early_stop import with_reason
from pipeline.train.findings import Waive, keep_all
from pipeline.train.fold_folder import archive, only_one
from pipeline.train.idle import idle_keys
from pipeline.train.kept_predictions import KeptPredictions, drop_kept
from pipeline.train.learner import Learner
from pipeline.train.loop import run_loop
from pipeline.train.meters import RoundMeter
from pipeline.train.oom import out_of_memory_named, with_memory_note
from pipeline.train.page import PAGE, page_of_a_stop, write_page
from pipeline.train.preflight import refuse_preflight_errors, run_preflight
from pipeline.train.prepare import PreparedCase, prepare_cases
from pipeline.train.ranges import training_ranges
from pipeline.train.ranks import Ranks, present_ranks, refuse_uneven
from pipeline.train.select import Training
from pipeline.train.state import LoopParts, LoopState
from pipeline.train.teamwork import follow_trainings, leading, predict_cases
from pipeline.train.transfer import begin_with_model, warm_start_param
from pipeline.train.validate import ValidationCase, Validator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves.

    Args:
        model_file: The model to use.
        card: Its description and validation scores.
        was_already_done: Nothing had to be trained.
    """

    model_file: Path
    card: ModelCard
    was_already_done: bool = False


def train(
    training: Training,
    workspace: Workspace,
    tracker: Tracker,
    waive: Waive = keep_all,
    *,
    resolved: str = "",
) -> TrainResult:
    """Check what reaches the loss, train, validate on whole volumes, write model and card.

    Args:
        training: From `select_training`.
        workspace: Work folder; writes below train/ only.
        tracker: Where curves and results are reported.
        waive: Marks the findings of the preflight that the user accepts.
        resolved: The whole configuration as YAML, kept beside the model; "" keeps none.

    Returns:
        Model file and card.

    Raises:
        DataError: If the preflight found errors that are not waived.
    """
    folder = workspace.fold_dir(training.config.fold)
    if training.status == "finished":
        card = read_artifact(folder / "model_card.json", ModelCard, made_by="train")
        return TrainResult(folder / "best.pt", card, was_already_done=True)
    if (ranks := present_ranks()) is not None:
        refuse_uneven(training.plan.batch_size, ranks)
    with only_one(folder), out_of_memory_named():
        if training.status == "new":
            archive(workspace, folder)
        if resolved:
            # That of the stage is the newest of all folds and seeds.
            write_text(folder / "config.resolved.yaml", resolved)
        _announce(training, workspace, folder, tracker)
        cases = _prepare(training, workspace)
        parts = _parts(training, workspace, cases, tracker)
        parts = _clear_for_start(training, parts, cases, waive)
        with (
            stop_requests() as is_stop_asked_here,
            leading(parts, training, workspace, is_stop_asked_here) as should_stop,
        ):
            state = run_loop(parts, should_stop)
            with page_of_a_stop(parts, state):
                return _finish(training, parts, state, should_stop)


def follow_leader(ranks: Ranks) -> int:
    """Take part in the trainings of the leading process, until it ends.

    Args:
        ranks: This process among those that train together.

    Returns:
        The exit status of the leader.
    """
    return follow_trainings(ranks, lambda t, w: _parts(t, w, _prepare(t, w), NullTracker()))


def check_only(training: Training, workspace: Workspace, waive: Waive = keep_all) -> Findings:
    """Check what would reach the loss, and train nothing.

    Args:
        training: From `select_training`.
        workspace: Work folder; gets the prepared cases and `train/preflight.json`.
        waive: Marks the findings that the user accepts.

    Returns:
        The findings.
    """
    cases = _prepare(training, workspace)
    parts = _parts(training, workspace, cases, NullTracker())
    train_cases = cases[: len(training.train_records)]
    file = workspace.stage_dir("train") / "preflight.json"
    return run_preflight(parts, train_cases, training.rows, file, waive)


def _clear_for_start(
    training: Training, parts: LoopParts, cases: Sequence[PreparedCase], waive: Waive
) -> LoopParts:
    """Run the preflight once, before the first step; later starts read what it found."""
    file = parts.folder / "preflight.json"
    if training.status == "new" or not file.is_file():
        train_cases = cases[: len(training.train_records)]
        found = run_preflight(parts, train_cases, training.rows, file, waive)
        refuse_preflight_errors(found)
        parts.tracker.log_file(file)
    else:
        found = read_artifact(file, Findings, made_by="train")
    return replace(parts, suspects=(*training.findings, *found.findings))


def _announce(training: Training, workspace: Workspace, folder: Path, tracker: Tracker) -> None:
    plan, config = training.plan, training.config
    for reason in plan.reasons:
        logger.info("plan: %s", reason)
    for line in idle_keys(config):
        logger.warning("configuration: %s", line)
    write_json(folder / "plan.json", plan)
    write_json(workspace.stage_dir("train") / "plan.json", plan)
    lengths = {name: getattr(config, name) for name in ("budget_minutes", "epochs", "steps")}
    tracker.log_params(
        {
            "loss": config.loss.name or config.loss.kind,
            "learning_rate": plan.learning_rate,
            "optimizer": config.optimizer.kind,
            **{name: value for name, value in lengths.items() if value is not None},
            "fold": config.fold,
            "seed": config.seed,
            "network": plan.network.name or plan.network.kind,
            "features": "-".join(map(str, plan.network.features)) or "as configured",
            "patch_size": "x".join(map(str, plan.patch_size)),
            "batch_size": plan.batch_size,
            "spacing_mm": "x".join(f"{s:g}" for s in plan.preprocessing.spacing_mm),
            "ema_decay": config.ema_decay,
            "mirror_axes": ",".join(map(str, plan.mirror_axes)) or "none",
            "n_train_cases": plan.n_train_cases,
            "device": plan.device,
            **warm_start_param(config),
        }
    )
    tracker.log_file(folder / "plan.json")
    if tracker.parent_key is not None:
        write_text(folder / TRACKING_PARENT, tracker.parent_key)


def _prepare(training: Training, workspace: Workspace) -> list[PreparedCase]:
    records = (*training.train_records, *training.validation_records)
    plan = training.plan
    return prepare_cases(records, plan.preprocessing, training.info.task, workspace)


def _parts(
    training: Training, workspace: Workspace, cases: Sequence[PreparedCase], tracker: Tracker
) -> LoopParts:
    config, plan, device = training.config, training.plan, training.device
    use_all_cores()
    set_arithmetic(device, is_deterministic=config.deterministic, is_mixed=config.amp)
    n_train = len(training.train_records)
    validation = [
        ValidationCase(record, prepared)
        for record, prepared in zip(training.validation_records, cases[n_train:], strict=True)
    ]
    order = generator_for(0, "validation order").permutation(len(validation))
    learner = Learner(plan, training.info.task, config, device)
    begin_with_model(learner, config, training.info, training.validation_records)
    logger.info(
        "network: %s weights; training on %d cases, validating on %d",
        f"{count_parameters(learner.network):,}",
        n_train,
        len(validation),
    )
    return LoopParts(
        config=config,
        info=_complete(training, tracker),
        learner=learner,
        source=BatchSource(cases[:n_train], plan, config, device),
        validator=Validator(
            plan,
            training.info.task,
            workspace.root,
            config.overlap,
            device,
            "auto" if config.amp else "float32",
        ),
        cases=[validation[i] for i in order],
        folder=workspace.fold_dir(config.fold),
        run_key=training.run_key,
        tracker=tracker,
        meter=RoundMeter(device),
    )


def _complete(training: Training, tracker: Tracker) -> ModelInfo:
    """Add to the model description what only the run and its cases tell."""
    ranges = training_ranges(training.rows, training.train_records, training.info.task)
    numbers = {name: version(name) for name in ("torch", "monai", "numpy", "scipy")}
    return training.info.model_copy(
        update={
            "mlflow_run_id": tracker.run_id,
            "training_ranges": ranges,
            "number_format": number_format(training.device, is_mixed=training.config.amp),
            "versions": {"python": platform.python_version(), **numbers},
        }
    )


def _finish(
    training: Training, parts: LoopParts, state: LoopState, should_stop: Callable[[], bool]
) -> TrainResult:
    """Score the best model on every validation case and write what training leaves."""
    model_file = parts.best_file
    summary: Summary | None = None
    evidence = CleanupEvidence(training.info.task)
    if parts.cases:
        model = load_model(model_file, training.device)
        scores = _final_scores(parts, model.network, evidence, should_stop)
        summary = _write_validation(training, parts, scores)
    info = with_reason(with_memory_note(parts.info, state), state)
    info = info.model_copy(update={"cleanup": _cleanup(training, parts, evidence)})
    text = describe_model(info, summary)
    write_patiently(partial(update_model, model_file, info, card=text), model_file)
    text_file, card_file = parts.folder / "model_card.md", parts.folder / "model_card.json"
    write_patiently(partial(write_text, text_file, text), text_file)
    parts.tracker.log_file(text_file)
    card = ModelCard(
        info=info,
        run_key=parts.run_key,
        n_parameters=count_parameters(parts.learner.network),
        n_steps=state.step,
        training_minutes=round(state.elapsed_s / 60, 3),
        validation=summary,
    )
    write_page(parts, state, card)
    if (parts.folder / PAGE).is_file():
        parts.tracker.log_file(parts.folder / PAGE, headline=True)
    # Last: with it a training counts as finished.
    write_patiently(partial(write_json, card_file, card), card_file)
    drop_kept(parts.folder / "validation")
    logger.info(
        "trained %d steps in %s; model: %s",
        state.step,
        format_duration(state.elapsed_s),
        model_file,
    )
    return TrainResult(model_file, card)


def _final_scores(
    parts: LoopParts,
    network: nn.Module,
    evidence: CleanupEvidence,
    should_stop: Callable[[], bool],
) -> list[CaseScores]:
    """Predict and score every validation case; the predictions also tell what to clean up."""
    kept = KeptPredictions(parts.folder / "validation", network)
    n_kept = kept.n_kept(len(parts.cases))
    scores, predictions = [], predict_cases(parts, network, n_kept)
    with progress_bar("final validation", len(parts.cases)) as bar:
        for index, case in enumerate(parts.cases):
            if should_stop():
                raise InterruptedByUserError(
                    "stopped during the final validation; training itself is complete",
                    where=str(parts.folder),
                    fix="run the same command again to finish it",
                )
            if index < n_kept and (known := kept.read(index)) is not None:
                prediction = known
            elif index < n_kept:
                prediction = parts.validator.predict(network, case)
            else:
                prediction = next(predictions)
                kept.keep(index, prediction)
            scores.append(parts.validator.compare(case, prediction=prediction))
            if parts.config.cleanup:
                evidence.add_prediction(prediction, _reference(parts, case.record))
            bar.advance()
    return scores


def _cleanup(
    training: Training, parts: LoopParts, evidence: CleanupEvidence
) -> tuple[CleanupRule, ...]:
    """Choose clean-up rules; what the classes look like, training references say too."""
    if not evidence.tallies:
        return ()
    for record in evenly_spaced(training.train_records, MAX_TRAINING_REFERENCES):
        evidence.add_reference(_reference(parts, record))
    rules = choose_cleanup(evidence)
    for rule in rules:
        logger.info(
            "clean-up: %s of %s, validation Dice %.3f to %.3f on %d cases",
            rule.kind.replace("_", " "),
            rule.class_name,
            rule.dice_before,
            rule.dice_after,
            rule.n_cases,
        )
    return rules


def _reference(parts: LoopParts, record: CaseRecord) -> Reference:
    return read_reference(record, parts.info.task, parts.validator.work_dir)


def _write_validation(
    training: Training, parts: LoopParts, scores: Sequence[CaseScores]
) -> Summary:
    folder = parts.folder / "validation"
    summary = summarize_cases(scores, training.info.task, training.groups)
    ordered = sorted(scores, key=lambda case: case.case_id)
    scores_file, summary_file = folder / "scores.csv", folder / "summary.json"
    write_patiently(partial(write_scores_csv, scores_file, ordered), scores_file)
    write_patiently(partial(write_json, summary_file, summary), summary_file)
    metrics = {"final/dice_mean": summary.mean_foreground_dice}
    metrics |= {f"final/dice_{name}": c.dice.mean for name, c in summary.classes.items()}
    parts.tracker.log_metrics(metrics)
    policy = policy_named(summary.policy)
    rows = [
        [case.case_id, *(metric_value(case, name, "dice", policy) for name in parts.class_names)]
        for case in ordered
    ]
    columns = ["case_id", *(f"dice_{name}" for name in parts.class_names)]
    parts.tracker.log_table("validation cases", columns, rows)
    parts.tracker.log_file(summary_file, headline=True)
    parts.tracker.log_file(scores_file, headline=True)
    return summary
