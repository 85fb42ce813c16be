"""Begin a training with the weights of a finished one."""

import logging

import torch

from pipeline.artifacts import CaseRecord, ModelInfo
from pipeline.core.errors import ConfigError
from pipeline.core.workspace import Workspace
from pipeline.models.checkpoint import Model, load_model
from pipeline.models.warm_start import Amount, Transfer, digest_of, take_over
from pipeline.train.config import TrainConfig
from pipeline.train.learner import Learner

logger = logging.getLogger(__name__)


def warm_start_digest(config: TrainConfig, workspace: Workspace) -> str | None:
    """What identifies the model a training begins with: its content, wherever it lies.

    Args:
        config: Names the file.
        workspace: Work folder of the training.

    Returns:
        Its short hash; None if training begins with fresh weights.

    Raises:
        CheckpointError: If the file cannot be read.
        ConfigError: If this very training would overwrite it.
    """
    if config.warm_start is None:
        return None
    file, folder = config.warm_start.resolve(), workspace.fold_dir(config.fold).resolve()
    if file.is_relative_to(folder):
        raise ConfigError(
            "the model to begin with lies where this training writes its own",
            where=f"train.warm_start, {file}",
            fix="give another --work folder or fold, or copy the model elsewhere",
        )
    return digest_of(file)


def warm_start_param(config: TrainConfig) -> dict[str, str]:
    """The model a training begins with, for the tracker: by content, as its path may name people.

    Args:
        config: Names the file.

    Returns:
        One parameter; none if training begins with fresh weights.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    return {"warm_start": digest_of(config.warm_start)} if config.warm_start else {}


def begin_with_model(
    learner: Learner,
    config: TrainConfig,
    info: ModelInfo,
    validation_records: tuple[CaseRecord, ...],
) -> None:
    """Give a learner the fitting weights of `train.warm_start`, if that is set.

    Args:
        learner: Has not made a step.
        config: Names the model file.
        info: Plan and task of the training.
        validation_records: If that model was trained on one of them, a warning says so.

    Raises:
        CheckpointError: If the file is no model.
        ConfigError: If it is another architecture, or nothing fits.
    """
    if config.warm_start is None:
        return
    model = load_model(config.warm_start, torch.device("cpu"))
    transfer = take_over(learner.network, info, model, str(config.warm_start))
    learner.averaged.load_state_dict(learner.network.state_dict())
    _report(transfer)
    _warn_of_leaks(model, validation_records)
    _warn_of_other_images(model.info, info)


def _report(transfer: Transfer) -> None:
    logger.info(
        "warm start: taken over %s, in part %s, fresh %s; outputs taken over: %s; channels: %s",
        _words(transfer.whole),
        _words(transfer.partial),
        _words(transfer.fresh),
        ", ".join(transfer.shared_outputs) or "none",
        ", ".join(transfer.shared_channels) or "none",
    )
    if transfer.differences:
        logger.warning(
            "warm start: the networks differ in size (%s); a layer of another size begins fresh",
            "; ".join(transfer.differences),
        )


def _words(amount: Amount) -> str:
    return f"{amount.n_tensors} tensors ({amount.n_weights:,} weights)"


def _warn_of_leaks(model: Model, validation_records: tuple[CaseRecord, ...]) -> None:
    """A model that has seen a validation case makes its score too good."""
    seen = set(model.info.training_images)
    leaked = [
        record.case_id
        for record in validation_records
        if record.image is not None and record.image.content_hash in seen
    ]
    if leaked:
        logger.warning(
            "warm start: the model was trained on %d validation case(s) of this fold, %s first; "
            "validation Dice will be too high. Begin with a model of the same fold",
            len(leaked),
            leaked[0],
        )


def _warn_of_other_images(old: ModelInfo, new: ModelInfo) -> None:
    theirs, ours = old.plan.preprocessing, new.plan.preprocessing
    kinds = [[n.kind for n in p.normalizations] for p in (theirs, ours)]
    if kinds[0] != kinds[1]:
        logger.warning("warm start: images were normalized as %s there, %s here", *kinds)
    if theirs.spacing_mm != ours.spacing_mm:
        logger.info(
            "warm start: spacing was %s mm there and is %s mm here; train.spacing_mm can change it",
            theirs.spacing_mm,
            ours.spacing_mm,
        )
