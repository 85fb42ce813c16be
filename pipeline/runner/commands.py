"""One function per command: run what is missing first, then the stage, and say how it ended."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import (
    DatasetManifest,
    Findings,
    Fingerprint,
    ModelInfo,
    Predictions,
    Splits,
    Summary,
    read_artifact,
)
from pipeline.core.errors import (
    EXIT_DATA_ERRORS,
    EXIT_DONE,
    EXIT_WARNINGS,
    DataError,
    MissingInputError,
    UsageError,
)
from pipeline.core.parallel_config import Part
from pipeline.core.workspace import Workspace, write_json
from pipeline.experiment import experiment_schema
from pipeline.io.discover import DatasetFolder
from pipeline.runner.around import result_key, stage_run
from pipeline.runner.ingests import ingest_dataset
from pipeline.runner.request import (
    RUNS_DIR,
    Many,
    Request,
    needed_data,
    refuse_pseudonyms,
    remember_trained,
    take_part,
    with_models,
)
from pipeline.runner.training import tracking_parent, train_one, waive_with

if TYPE_CHECKING:  # imports torch, which takes seconds
    from pipeline.infer.opened import OpenModel

logger = logging.getLogger(__name__)

VERDICT_STATUS = {"clean": EXIT_DONE, "warnings": EXIT_WARNINGS, "errors": EXIT_DATA_ERRORS}


def run_audit(request: Request) -> int:
    """Audit a dataset, ingesting it first where needed."""
    findings = audit_dataset(request)
    return VERDICT_STATUS[findings.verdict]


def audit_dataset(request: Request) -> Findings:
    """Ingest what is new and audit everything."""
    _ingest_again(request)
    return _audit(request)


def run_train(request: Request, many: Many | None = None, *, preflight_only: bool = False) -> int:
    """Train, after whatever stage is missing or stale; or only check what would be trained on."""
    is_one = many is None or many.is_one
    if preflight_only and not is_one:
        raise UsageError(
            "the preflight looks at one training",
            where="--preflight-only",
            fix="leave --seeds and --sweep out, and give one fold",
        )
    if many is not None and not is_one:
        return _train_many(request, many)
    workspace = request.workspace
    _ingest_again(request)
    _audit_if_stale(request)
    if preflight_only:
        return _show_preflight(request)
    card = train_one(request, workspace)
    # torch takes seconds to import: only from here on is it needed.
    from pipeline.train.report import show_result

    fold_dir = workspace.fold_dir(request.experiment.train.fold)
    show_result(card, fold_dir / "best.pt")
    remember_trained(workspace)
    return EXIT_DONE


def _train_many(request: Request, many: Many) -> int:
    from pipeline.runner.trainings import refuse_choices, run_many

    # Before ingest and audit, which may take hours.
    refuse_choices(request, many)
    _ingest_again(request)
    _audit_if_stale(request)
    return run_many(request, many)


def run_lr_find(request: Request, many: Many, *, preflight_only: bool = False) -> int:
    """Look for a learning rate, after whatever stage is missing or stale; nothing is trained."""
    if preflight_only or not many.is_one:
        raise UsageError(
            "the test of learning rates looks at one training",
            where="--lr-find",
            fix="leave --preflight-only, --seeds and --sweep out, and give one fold",
        )
    _ingest_again(request)
    _audit_if_stale(request)
    from pipeline.runner.lr_find import find_rate

    return find_rate(request)


def _show_preflight(request: Request) -> int:
    from pipeline.audit.terminal import print_findings
    from pipeline.train.select import select_training
    from pipeline.train.stage import check_only

    training = select_training(request.experiment.train, request.workspace)
    findings = check_only(training, request.workspace, waive_with(request))
    print_findings(findings)
    logger.info("only checked what would reach the loss in these cases; nothing was trained")
    return VERDICT_STATUS[findings.verdict]


def run_infer(request: Request, models: Sequence[Path]) -> int:
    """Predict a folder of images, or a part of it."""
    request, model_files = with_models(request, models)
    part, request = take_part(request)
    if part is not None:
        return _infer_part(request, model_files, part)
    _, _, predictions = _infer(request, model_files)
    has_failed = any(case.status == "failed" for case in predictions.cases)
    return EXIT_DATA_ERRORS if has_failed else EXIT_DONE


def run_evaluate(request: Request, models: Sequence[Path]) -> int:
    """Predict a labelled folder and score the predictions."""
    from pipeline.evaluate.inputs import EvaluationInput
    from pipeline.evaluate.stage import evaluate
    from pipeline.io.labels import plain_labels
    from pipeline.runner.annotation import warn_if_undeclared, with_annotation

    request, model_files = with_models(request, models)
    folder, info, predictions = _infer(request, model_files)
    out_dir = request.workspace.evaluate_dir(folder.name)
    references = plain_labels(folder.cases, root=folder.root, folder=out_dir / "references")
    if not references:
        raise DataError(
            "no labels to score against were found",
            where=str(request.data),
            fix="put them beside the images as labelsTr/ or labels/, or use 'voxline infer'",
        )
    given = EvaluationInput(
        dataset_name=folder.name,
        prediction_dir=request.workspace.infer_dir(folder.name) / "predictions",
        references=references,
        images={c.case_id: c.images[0] for c in folder.cases},
        task=info.task,
        seen_in_training=tuple(c.case_id for c in predictions.cases if c.seen_in_training),
    )
    given = with_annotation(given, info.task, request.experiment.task)
    warn_if_undeclared(given, info)
    parent = tracking_parent(model_files[0].parent)
    with stage_run(request, "evaluate", folder=out_dir, parent=parent) as tracker:
        summary = evaluate(request.experiment.evaluate, given, out_dir, tracker)
    return _score_status(summary)


def run_score(request: Request, pred: Path | None, ref: Path | None) -> int:
    """Score predictions of any origin against a folder of reference labels."""
    from pipeline.evaluate.inputs import input_from_folders
    from pipeline.evaluate.stage import evaluate
    from pipeline.evaluate.task import find_task
    from pipeline.io.discover import list_volumes
    from pipeline.runner.annotation import configured_task, with_annotation
    from pipeline.runner.labels import audit_against, loud_lines

    if pred is None or ref is None:
        raise UsageError(
            "scoring given predictions needs both folders",
            where="command line",
            fix="give --pred FOLDER and --ref FOLDER (make evaluate PRED=... REF=...)",
        )
    refuse_pseudonyms(request)
    work = request.work or (RUNS_DIR / "scores").resolve()
    request = Request(request.data, work, request.experiment)
    given = input_from_folders(
        pred.resolve(),
        ref.resolve(),
        out_root=request.workspace.stage_dir("evaluate"),
        layout=request.experiment.ingest.layout,
    )
    out_dir = request.workspace.evaluate_dir(given.dataset_name)
    with stage_run(request, "evaluate", folder=out_dir, run_name=f"scores-{pred.name}") as tracker:
        # Files of unknown origin: what is wrong with them belongs beside their scores.
        # The classes are found once, for both: without dataset.json that reads every reference.
        task = given.task or find_task(given.references)
        task = configured_task(task, request.experiment.task)
        given = with_annotation(replace(given, task=task), task, request.experiment.task)
        files = list_volumes(given.prediction_dir)
        findings = audit_against(
            files, given.prediction_dir, given.references, task, request.experiment.audit
        )
        write_json(out_dir / "predictions_audit.json", findings)
        for line in loud_lines(findings):
            logger.warning("predictions: %s", line)
        summary = evaluate(request.experiment.evaluate, given, out_dir, tracker)
    return _score_status(summary)


def run_ui(request: Request, port: int, *, open_browser: bool) -> int:
    """Serve the MLflow UI of a work folder, or of all of them, until interrupted."""
    from pipeline.tracking.ui import serve_ui

    folder = RUNS_DIR if request.work is None else request.work
    tracking = request.experiment.tracking
    return serve_ui(folder, port, open_browser=open_browser, config=tracking)


def print_schema() -> int:
    """Write the JSON schema of experiment files to stdout."""
    sys.stdout.write(experiment_schema())
    return EXIT_DONE


def _ingest_again(request: Request) -> None:
    """Ingest what is new; without --data, from the folder that was ingested before."""
    from pipeline.ingest.disguise import original_source

    if request.data is None:
        manifest = read_artifact(request.workspace.dataset_file, DatasetManifest, made_by="ingest")
        source = original_source(manifest.root) or manifest.source or manifest.root
        if not source.exists():
            logger.warning("the dataset folder is gone; going on with what was ingested")
            return
        request = with_layout(replace(request, data=source), manifest.layout_asked)
    ingest_dataset(request)


def with_layout(request: Request, layout: str) -> Request:
    """The same in the layout that was asked for with --data, where none is asked for now."""
    experiment = request.experiment
    if experiment.ingest.layout != "auto":
        return request
    ingest = experiment.ingest.model_copy(update={"layout": layout})
    return replace(request, experiment=experiment.model_copy(update={"ingest": ingest}))


def _is_readable(workspace: Workspace) -> bool:
    try:
        read_artifact(workspace.findings_file, Findings, made_by="audit")
        read_artifact(workspace.fingerprint_file, Fingerprint, made_by="audit")
        read_artifact(workspace.splits_file, Splits, made_by="audit")
    except MissingInputError:
        return False
    return True


def _audit(request: Request) -> Findings:
    from pipeline.audit.stage import audit

    with stage_run(request, "audit", key=_audit_key(request)) as tracker:
        return audit(request.experiment.audit, request.workspace, tracker)


def _audit_if_stale(request: Request) -> None:
    workspace = request.workspace
    result_file = workspace.stage_dir("audit") / "result.json"
    if not workspace.findings_file.is_file():
        reason = "there is no audit of these data yet"
    elif not _is_readable(workspace):
        reason = "a file of the last audit is damaged"
    elif result_key(result_file) != _audit_key(request):
        reason = "data or audit settings changed since the last audit"
    else:
        logger.info("audit is up to date")
        return
    logger.info("audit runs first: %s", reason)
    _audit(request)


def _infer(
    request: Request, model_files: Sequence[Path]
) -> tuple[DatasetFolder, ModelInfo, Predictions]:
    from pipeline.infer.stage import infer

    opened, folder = _open_for_inference(request, model_files)
    out_dir = request.workspace.infer_dir(folder.name)
    parent = tracking_parent(model_files[0].parent)
    parallel = request.experiment.parallel
    is_elsewhere = parallel.backend == "dask" or (parallel.n_jobs or 1) > 1
    with stage_run(request, "infer", folder=out_dir, parent=parent) as tracker:
        predictions = infer(
            request.experiment.infer, opened, folder, out_dir, tracker, is_elsewhere=is_elsewhere
        )
    return folder, opened.info, predictions


def _infer_part(request: Request, model_files: Sequence[Path], part: Part) -> int:
    from pipeline.infer.stage import infer_part

    opened, folder = _open_for_inference(request, model_files)
    out_dir = request.workspace.infer_dir(folder.name)
    # A folder of its own: the logs of parts that run at once must not mix.
    with stage_run(request, "infer", folder=out_dir / "parts" / part.name):
        n_failed = infer_part(request.experiment.infer, opened, folder, out_dir, part)
    return EXIT_DATA_ERRORS if n_failed else EXIT_DONE


def _open_for_inference(
    request: Request, model_files: Sequence[Path]
) -> "tuple[OpenModel, DatasetFolder]":
    from pipeline.infer.opened import open_model
    from pipeline.ingest.disguise import Naming, open_named
    from pipeline.ingest.folder import open_folder_for

    experiment, data = request.experiment, needed_data(request)
    opened = open_model([file.resolve() for file in model_files], experiment.infer)
    task = opened.info.task
    folder = open_named(
        Naming(request.workspace, is_wanted=experiment.ingest.pseudonymize),
        data,
        lambda: open_folder_for(task, experiment.ingest, data, experiment.task),
    )
    return opened, folder


def _audit_key(request: Request) -> str:
    manifest = read_artifact(request.workspace.dataset_file, DatasetManifest, made_by="ingest")
    facts = manifest.model_dump_json(exclude={"root", "source"})
    text = facts + request.experiment.audit.model_dump_json()
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _score_status(summary: Summary) -> int:
    return EXIT_DATA_ERRORS if summary.failed_cases else EXIT_DONE
