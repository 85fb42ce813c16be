"""One training as the commands run it: planned, tracked, and described in MLflow."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from pipeline.artifacts import DatasetManifest, Finding, ModelCard, read_artifact
from pipeline.core.config import dump_yaml
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import TRACKING_PARENT, Workspace, put_aside, write_text
from pipeline.runner.around import result_key, stage_run
from pipeline.runner.request import Request
from pipeline.tracking.processes import cost_so_far

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Label:
    """What tells one training of many from the others in MLflow.

    Args:
        name: Put before the usual name of the run; empty for a training on its own.
        params: Knobs that are recorded beside the usual ones.
    """

    name: str = ""
    params: Mapping[str, str] = field(default_factory=dict)


def train_one(request: Request, workspace: Workspace, label: Label | None = None) -> ModelCard:
    """Train, go on with, or take up as it is, the training that the configuration asks for.

    Args:
        request: What the user asked for, for one fold.
        workspace: Its work folder; may keep the training elsewhere than the request does.
        label: Set for one training of many.

    Returns:
        Description and scores of the model.
    """
    # torch takes seconds to import: only from here on is it needed.
    from pipeline.train.select import select_training
    from pipeline.train.stage import train

    training = select_training(request.experiment.train, workspace)
    fold_dir = workspace.fold_dir(training.config.fold)
    if training.status == "finished":
        logger.info(
            "%s is trained already with this configuration", fold_dir.name.replace("_", " ")
        )
        return read_artifact(fold_dir / "model_card.json", ModelCard, made_by="train")
    name = run_name(request, training.plan.learning_rate)
    with stage_run(
        request,
        "train",
        folder=workspace.stage_dir("train"),
        run_name=f"{label.name}-{name}" if label and label.name else name,
        new_parent=training.status == "new" and _has_training(workspace),
        parent=tracking_parent(fold_dir) if training.status == "started" else None,
    ) as tracker:
        _log_dataset(workspace, tracker, "train")
        if label is not None:
            tracker.log_params(label.params)
        resolved = dump_yaml(request.experiment)
        card = train(training, workspace, tracker, waive_with(request), resolved=resolved).card
        _describe(tracker, card)
    return card


@dataclass(frozen=True)
class Group:
    """What stands above several trainings: their common result, and a parent run in MLflow.

    Args:
        stage: Its name among the stages.
        folder: Where its records go.
        name: Name of the MLflow run.
        cards: What the trainings left.
        folders: Where they lie.
    """

    stage: str
    folder: Path
    name: str
    cards: Sequence[ModelCard]
    folders: Sequence[Path]

    @property
    def key(self) -> str:
        """Same trainings, same key."""
        text = "|".join(card.run_key for card in self.cards)
        return blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def group_run(request: Request, group: Group) -> Iterator[Tracker]:
    """Record the common result of several trainings, and put their runs below it.

    Args:
        request: What the user asked for.
        group: The trainings.

    Yields:
        The tracker of the run above them.
    """
    known = tracking_parent(group.folder)
    below = [key for folder in group.folders if (key := tracking_parent(folder)) is not None]
    with stage_run(
        request,
        group.stage,
        folder=group.folder,
        key=group.key,
        run_name=f"{group.name}-{request.workspace.root.name}",
        new_parent=known is None,
        parent=known,
        members=below,
    ) as tracker:
        if tracker.parent_key is not None:
            write_text(group.folder / TRACKING_PARENT, tracker.parent_key)
        yield tracker


def cost_of(cards: Sequence[ModelCard]) -> dict[str, float]:
    """What several trainings took together, under the names that a single one has.

    Args:
        cards: What the trainings left.
    """
    on_gpu = (card.training_minutes for card in cards if card.info.plan.device == "cuda")
    minutes = sum(card.training_minutes for card in cards)
    return {"cost/training_min": minutes, "cost/gpu_hours": sum(on_gpu) / 60}


def shelve_other(group: Group, shelf: Path) -> None:
    """Put the common result of other trainings aside; nothing is ever overwritten.

    Args:
        group: The trainings of now.
        shelf: Folder for results of before.
    """
    if not group.folder.exists() or group_key(group.folder) in (group.key, ""):
        return
    target = put_aside(group.folder, shelf)
    logger.info("other trainings: the result of before is kept in %s", target)


def group_key(folder: Path) -> str:
    """Key of the trainings whose common result lies in a folder; empty if it is not complete."""
    return result_key(folder / "result.json")


def waive_with(request: Request) -> Callable[[Sequence[Finding]], tuple[Finding, ...]]:
    """One list of waivers holds for the audit and for the preflight of a training."""
    from pipeline.audit.waivers import apply_waivers

    waivers = request.experiment.audit.waivers
    return lambda findings: apply_waivers(findings, waivers)[0]


def tracking_parent(fold_dir: Path) -> str | None:
    """The MLflow parent run of a training, so that what follows from it lands there too."""
    file = fold_dir / TRACKING_PARENT
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def run_name(request: Request, rate: float) -> str:
    """What differs between runs comes first: the UI cuts names after about 15 characters."""
    train = request.experiment.train
    if train.steps is not None:
        length = f"{train.steps}steps"
    elif train.epochs is not None:
        length = f"{train.epochs:g}ep"
    else:
        length = f"{train.budget_minutes:g}min" if train.budget_minutes else "auto"
    parts = (train.loss.kind, length, f"lr{rate:g}", f"f{train.fold}", f"s{train.seed}")
    return f"{'-'.join(parts)}-{request.workspace.root.name}"


def _has_training(workspace: Workspace) -> bool:
    """Whether a training or a summary of several has taken the present parent run.

    Also one that broke down before its first checkpoint: two trainings in one run would mix.
    """
    folders = (workspace.root / "train", workspace.root / "sweeps")
    return any(any(folder.glob(f"**/{TRACKING_PARENT}")) for folder in folders)


def _log_dataset(workspace: Workspace, tracker: Tracker, context: str) -> None:
    manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    tracker.log_dataset(name=manifest.name, digest=manifest.digest, context=context)


def _describe(tracker: Tracker, card: ModelCard) -> None:
    """The result in words, shown on the run's page."""
    is_gpu = card.info.plan.device == "cuda"
    tracker.log_metrics(
        {
            "cost/training_min": card.training_minutes,
            "cost/n_steps": card.n_steps,
            "cost/gpu_hours": card.training_minutes / 60 if is_gpu else 0.0,
            "cost/peak_memory_mb": cost_so_far().peak_memory_mb,
        }
    )
    if card.validation is None:
        text = f"Trained on all {card.info.plan.n_train_cases} cases; no cases were held out."
    elif card.validation.mean_foreground_dice is None:
        text = f"No class could be scored on the {card.validation.n_cases} validation cases."
    else:
        per_class = ", ".join(
            f"{name} {c.dice.mean:.3f} (n={c.dice.n})"
            for name, c in card.validation.classes.items()
            if c.dice.mean is not None
        )
        text = (
            f"**Mean foreground Dice {card.validation.mean_foreground_dice:.4f}** on "
            f"{card.validation.n_cases} validation cases of fold {card.info.fold} (not trained on; "
            f"they also chose the checkpoint) after "
            f"{card.training_minutes:.1f} min: {per_class}."
        )
    tracker.set_tags({"description": text})
