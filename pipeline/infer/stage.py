"""Predict every image of a folder: the table of contents of the stage."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts import ModelInfo, PredictionRecord, Predictions, SourceStamp, read_artifact
from pipeline.core.errors import VoxlineError
from pipeline.core.log import progress_bar
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import write_json
from pipeline.infer.config import InferConfig
from pipeline.infer.predict import on_native_grid, predict_ras
from pipeline.io.channels import load_image
from pipeline.io.discover import CaseFiles, DatasetFolder
from pipeline.io.nifti import write_nifti
from pipeline.io.pairing import stamp_file
from pipeline.io.store import array_hash
from pipeline.models.checkpoint import Model, load_model
from pipeline.models.device import choose_device, use_all_cores

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenModel:
    """A model and the file it came from."""

    file: Path
    model: Model

    @property
    def info(self) -> ModelInfo:
        """Task, plan and origin."""
        return self.model.info


def open_model(file: Path, config: InferConfig) -> OpenModel:
    """Load a model onto the configured device.

    Args:
        file: Written by the train stage.
        config: Device.

    Returns:
        The model with the name of its file.

    Raises:
        CheckpointError: If the file is not a model.
        UsageError: If a GPU is asked for that is not there.
    """
    use_all_cores()
    return OpenModel(file, load_model(file, choose_device(config.device)))


def infer(
    config: InferConfig, opened: OpenModel, folder: DatasetFolder, out_dir: Path, tracker: Tracker
) -> Predictions:
    """Predict every case; one that fails is named and does not stop the others.

    Cases predicted before by the same model from the same files are not predicted again.

    Args:
        config: Windows.
        opened: From `open_model`.
        folder: Images to predict.
        out_dir: Gets predictions/<case_id>.nii.gz and predictions.json.
        tracker: Gets counts and cost.

    Returns:
        One record per case.
    """
    model = opened.model
    known = _known(out_dir, model, config)
    kept = {
        case.case_id: record
        for case in folder.cases
        if (record := _still_valid(known.get(case.case_id), case, folder, out_dir)) is not None
    }
    records = dict(kept)

    def predictions() -> Predictions:
        return Predictions(
            dataset_name=folder.name,
            model_file=str(opened.file),
            model_digest=model.digest,
            overlap=config.overlap,
            cases=tuple(records[c.case_id] for c in folder.cases if c.case_id in records),
        )

    with progress_bar("predict", len(folder.cases), done=len(kept)) as bar:
        for case in folder.cases:
            if case.case_id in kept:
                continue
            records[case.case_id] = _predict(model, case, folder, out_dir, config)
            write_json(out_dir / "predictions.json", predictions())
            bar.advance(1, case.case_id)
    write_json(out_dir / "predictions.json", predictions())
    _report(predictions(), len(kept), tracker)
    return predictions()


def _known(out_dir: Path, model: Model, config: InferConfig) -> dict[str, PredictionRecord]:
    """Records of an earlier run that agrees; predictions of another model are put aside."""
    file, folder = out_dir / "predictions.json", out_dir / "predictions"
    if not file.is_file():
        return {}
    earlier = read_artifact(file, Predictions, made_by="infer")
    if earlier.model_digest != model.digest:
        aside = out_dir / f"predictions_of_{earlier.model_digest[:8]}"
        if folder.is_dir() and not aside.exists():
            folder.rename(aside)
            logger.info("predictions of another model are kept in %s", aside)
        return {}
    if earlier.overlap != config.overlap:
        return {}
    return {r.case_id: r for r in earlier.cases if r.status == "done"}


def _still_valid(
    record: PredictionRecord | None, case: CaseFiles, folder: DatasetFolder, out_dir: Path
) -> PredictionRecord | None:
    if record is None or record.file is None or record.sources != _stamps(case, folder):
        return None
    return record if (out_dir / "predictions" / record.file).is_file() else None


def _stamps(case: CaseFiles, folder: DatasetFolder) -> tuple[SourceStamp, ...]:
    return tuple(stamp_file(file, folder.root) for file in case.images)


def _predict(
    model: Model, case: CaseFiles, folder: DatasetFolder, out_dir: Path, config: InferConfig
) -> PredictionRecord:
    started_s = time.monotonic()
    # Taken first: a file that is replaced meanwhile will be predicted again.
    sources = _stamps(case, folder)
    name = f"{case.case_id}.nii.gz"
    try:
        image = load_image(case.images, root=folder.root)
        label = predict_ras(
            model, image.volume, overlap=config.overlap, window_batch=config.window_batch
        )
        write_nifti(
            out_dir / "predictions" / name,
            on_native_grid(label, image.native, model.info.task),
            like=image.facts,
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        (out_dir / "predictions" / name).unlink(missing_ok=True)
        return PredictionRecord(
            case_id=case.case_id,
            status="failed",
            message=f"not enough memory for this case: {error}",
            fix="use --device cpu, or a machine with more memory",
        )
    except VoxlineError as error:
        # What an earlier run left under this name must not pass for this model's answer.
        (out_dir / "predictions" / name).unlink(missing_ok=True)
        return PredictionRecord(
            case_id=case.case_id, status="failed", message=error.what, fix=error.fix
        )
    counts = np.bincount(label.array.reshape(-1), minlength=len(model.info.task.classes) + 1)
    return PredictionRecord(
        case_id=case.case_id,
        status="done",
        file=name,
        seconds=round(time.monotonic() - started_s, 3),
        n_class_voxels=tuple(int(n) for n in counts[1:]),
        seen_in_training=array_hash(image.volume.array) in model.info.training_images,
        sources=sources,
    )


def _report(predictions: Predictions, n_kept: int, tracker: Tracker) -> None:
    done = [r for r in predictions.cases if r.status == "done"]
    failed = [r for r in predictions.cases if r.status == "failed"]
    seen = [r.case_id for r in done if r.seen_in_training]
    logger.info("predicted %d cases, kept %d, failed %d", len(done) - n_kept, n_kept, len(failed))
    for record in failed:
        logger.error("failed: %s: %s (fix: %s)", record.case_id, record.message, record.fix)
    if seen:
        logger.warning(
            "%d of %d cases were trained on, their scores will flatter the model: %s",
            len(seen),
            len(done),
            ", ".join(seen[:5]),
        )
    metrics = {
        "infer/n_cases": len(done),
        "infer/n_failed": len(failed),
        "infer/n_seen_in_training": len(seen),
        "infer/seconds_per_case": sum(r.seconds or 0.0 for r in done) / max(1, len(done)),
    }
    tracker.log_metrics(metrics, headline=False)
