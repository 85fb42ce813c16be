"""What a training works on: cases, device, plan, and whether it was begun before."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Literal

import torch

from pipeline.artifacts import (
    CaseFingerprint,
    CaseRecord,
    DatasetManifest,
    Finding,
    Findings,
    Fingerprint,
    ModelCard,
    ModelInfo,
    Plan,
    Splits,
    Task,
    read_artifact,
)
from pipeline.core.errors import ConfigError, DataError, MissingInputError, UsageError
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import load_state
from pipeline.models.device import choose_device, number_format, set_arithmetic
from pipeline.models.monai_loss import refusal_of
from pipeline.train.advice import answer_advice, read_advice
from pipeline.train.config import LossConfig, TrainConfig
from pipeline.train.early_stop import reasons_without_validation
from pipeline.train.fit import fit_plan
from pipeline.train.growth import with_growth
from pipeline.train.learner import build_loss
from pipeline.train.plan import make_plan
from pipeline.train.transfer import warm_start_digest

logger = logging.getLogger(__name__)

# Knobs that change how a training runs, not what comes out of it.
# The model to begin with is in the key by its content, not by its place.
_NOT_IN_KEY = {"checkpoint_minutes", "warm_start"}
MAX_CLASSES = 255
TRAINING_FILES = ("last.pt", "best.pt", "model_card.json")
MAX_LISTED_FINDINGS = 10


@dataclass(frozen=True)
class Training:
    """One planned training.

    Args:
        config: The user's knobs.
        info: Plan, task and origin, as the model file will hold them.
        train_records: Cases to train on.
        validation_records: Cases to validate on; empty for fold "all".
        device: Where to train.
        run_key: Same key, same result: hash of data, plan and configuration.
        status: "new", "started" or "finished" in this work folder.
        findings: What the audit found; the preflight and the guard point at it.
        rows: Fingerprints of the training cases.
        groups: Case id to patient, for the intervals of the validation.
    """

    config: TrainConfig
    info: ModelInfo
    train_records: tuple[CaseRecord, ...]
    validation_records: tuple[CaseRecord, ...]
    device: torch.device
    run_key: str
    status: Literal["new", "started", "finished"]
    findings: tuple[Finding, ...] = ()
    rows: tuple[CaseFingerprint, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.info.plan


def select_training(config: TrainConfig, workspace: Workspace) -> Training:
    """Read what ingest and audit left, choose cases and device, and plan.

    Args:
        config: The user's knobs.
        workspace: Work folder after ingest and audit.

    Returns:
        The planned training.

    Raises:
        DataError: If the audit found errors that are not waived, or there are too many classes.
        ConfigError: If the loss asks for what regions do not have.
        UsageError: If the fold does not exist or a GPU is asked for that is not there.
    """
    dataset = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    findings = read_artifact(workspace.findings_file, Findings, made_by="audit")
    refuse_errors(findings)
    splits = read_artifact(workspace.splits_file, Splits, made_by="audit")
    fingerprint = read_artifact(workspace.fingerprint_file, Fingerprint, made_by="audit")
    refuse_task(dataset.task, config, workspace)
    usable = tuple(case.case_id for case in fingerprint.cases)
    train_ids, validation_ids = _fold_ids(splits, usable, config.fold)
    records = {record.case_id: record for record in dataset.ready_cases}
    rows = {row.case_id: row for row in fingerprint.cases}
    device = choose_device(config.device)
    # Before the probe, which measures what training will do.
    set_arithmetic(device, is_deterministic=config.deterministic, is_mixed=config.amp)
    make = partial(make_plan, [rows[i] for i in train_ids], dataset.task, config, device.type)
    probe_file = workspace.stage_dir("train") / "probe.json"
    begun = _begun_plan(workspace, config.fold)
    plan = fit_plan(make, dataset.task, config, device, probe_file, begun=begun)
    plan = with_growth(plan, config)
    answers = answer_advice(read_advice(workspace.stage_dir("audit") / "advice.json"), config, plan)
    answers += reasons_without_validation(config, len(validation_ids))
    reasons = (*plan.reasons, _numbers(config, device), *answers)
    plan = plan.model_copy(update={"reasons": reasons})
    info = ModelInfo(
        task=dataset.task,
        plan=plan,
        dataset_name=dataset.name,
        dataset_digest=dataset.digest,
        fold=config.fold,
        training_images=tuple(
            image.content_hash for i in train_ids if (image := records[i].image) is not None
        ),
        voxline_version=version("voxline"),
        n_annotated_cases=_n_annotated([records[i] for i in train_ids]),
    )
    if config.loss.kind == "monai":
        refuse_monai_loss(config.loss, info)
    used = [records[i] for i in (*train_ids, *validation_ids)]
    begun_with = warm_start_digest(config, workspace)
    run_key = _run_key(config, info, used, len(train_ids), begun_with)
    return Training(
        config=config,
        info=info,
        train_records=tuple(records[i] for i in train_ids),
        validation_records=tuple(records[i] for i in validation_ids),
        device=device,
        run_key=run_key,
        status=_status(workspace, config.fold, run_key),
        findings=findings.findings,
        rows=tuple(rows[i] for i in train_ids),
        groups=splits.groups,
    )


def _begun_plan(workspace: Workspace, fold: str) -> Plan | None:
    """The plan of a training of this fold that left a checkpoint; it may be another one's."""
    folder = workspace.fold_dir(fold)
    if not (folder / "last.pt").is_file() or not (folder / "plan.json").is_file():
        return None
    try:
        return read_artifact(folder / "plan.json", Plan, made_by="train")
    except MissingInputError:
        # Of another version, or damaged: then it is no training that could go on here.
        return None


def _numbers(config: TrainConfig, device: torch.device) -> str:
    """The number format of a training, and why."""
    numbers = number_format(device, is_mixed=config.amp)
    if not config.amp:
        return f"numbers: {numbers}, as configured (train.amp)"
    kind = "GPU" if device.type == "cuda" else "CPU"
    if numbers == "float32":
        return f"numbers: {numbers}, because this {kind} has no instructions for bfloat16"
    why = f"which this {kind} computes with" if numbers == "bfloat16" else "as it has no bfloat16"
    return f"numbers: convolutions in {numbers}, {why}; weights and sums in float32"


def refuse_task(task: Task, config: TrainConfig, workspace: Workspace) -> None:
    """Stop where the task is more than training can do, or contradicts the loss.

    Raises:
        DataError: If there are too many classes.
        ConfigError: If the loss asks for what regions do not have.
    """
    # Labels are kept in one byte, and voxels to be ignored need a number of their own.
    most = MAX_CLASSES - bool(task.ignore_values)
    if len(task.classes) > most:
        raise DataError(
            f"the task has {len(task.classes)} classes, more than {most}",
            where=str(workspace.dataset_file),
            fix="name the classes to train in task.classes and the others in task.background",
        )
    if task.regions and config.loss.class_weights:
        raise ConfigError(
            "class_weights cannot be used with task.regions: each region is learned for itself",
            where="train.loss.class_weights",
            fix="take class_weights out, or train classes instead of regions",
        )
    if task.regions and config.loss.include_background:
        raise ConfigError(
            "the network of task.regions has no output for the background",
            where="train.loss.include_background",
            fix="leave train.loss.include_background at null",
        )


def refuse_monai_loss(config: LossConfig, info: ModelInfo) -> None:
    """Stop before any data is prepared if a loss of MONAI cannot be made or used.

    Raises:
        ConfigError: If it does not exist, or does not fit its arguments, the task or the labels.
    """
    build_loss(info.plan, info.task, config)
    if info.n_annotated_cases:
        raise refusal_of(str(config.name), "cases in which some classes were not annotated")


def refuse_errors(findings: Findings) -> None:
    """Stop before any training time is spent on data with errors.

    Raises:
        DataError: Listing the errors that are not waived.
    """
    errors = [f for f in findings.findings if f.severity == "error" and f.waived is None]
    if not errors:
        return
    lines = [_finding_line(f) for f in errors[:MAX_LISTED_FINDINGS]]
    if len(errors) > MAX_LISTED_FINDINGS:
        lines.append(f"... and {len(errors) - MAX_LISTED_FINDINGS} more in audit/report.html")
    raise DataError(
        f"the audit found {len(errors)} error(s); training on them would waste your time",
        where="\n         ".join(lines),
        fix="repair the files, or waive a finding by check, case and reason in audit.waivers",
    )


def _finding_line(finding: Finding) -> str:
    case = f"{finding.case_id}: " if finding.case_id else ""
    return f"{finding.check_id} {case}{finding.message}"


def _fold_ids(
    splits: Splits, usable: tuple[str, ...], fold: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if fold == "all" and usable:
        return tuple(sorted(usable)), ()
    if not splits.folds:
        raise DataError(
            f"there are no folds: {splits.method}",
            where="audit",
            fix="add cases of other patients, or train on all of them with --fold all",
        )
    if int(fold) >= len(splits.folds):
        raise UsageError(
            f"there is no fold {fold}: the cases make {len(splits.folds)} folds",
            where="train.fold",
            fix=f"use 0 to {len(splits.folds) - 1}, or all",
        )
    chosen = splits.folds[int(fold)]
    return chosen.train, chosen.validation


def _n_annotated(records: Sequence[CaseRecord]) -> dict[str, int]:
    open_classes = dict.fromkeys(name for record in records for name in record.unannotated)
    return {name: sum(name not in r.unannotated for r in records) for name in open_classes}


def _run_key(
    config: TrainConfig,
    info: ModelInfo,
    used: Sequence[CaseRecord],
    n_train: int,
    begun_with: str | None,
) -> str:
    ids = [record.case_id for record in used]
    # Not part of the digest of the data, which is of the files alone.
    unannotated = {record.case_id: record.unannotated for record in used if record.unannotated}
    parts = (
        config.model_dump_json(exclude=_NOT_IN_KEY),
        info.plan.model_dump_json(exclude={"reasons", "peak_memory_mb"}),
        info.task.model_dump_json(),
        info.dataset_digest,
        ",".join(ids[:n_train]),
        ",".join(ids[n_train:]),
        *([json.dumps(unannotated)] if unannotated else []),
        *([begun_with] if begun_with else []),
    )
    return hashlib.blake2b("|".join(parts).encode(), digest_size=8).hexdigest()


def _status(workspace: Workspace, fold: str, run_key: str) -> Literal["new", "started", "finished"]:
    folder = workspace.fold_dir(fold)
    card_file, last_file = folder / "model_card.json", folder / "last.pt"
    if card_file.is_file() and (folder / "best.pt").is_file():
        card = read_artifact(card_file, ModelCard, made_by="train")
        if card.run_key == run_key:
            return "finished"
    if not last_file.is_file():
        return "new"
    state = load_state(last_file, torch.device("cpu"))
    return "started" if state["run_key"] == run_key else "new"
