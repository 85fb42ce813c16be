"""What was predicted before: which of it still holds, and how it is found again.

Every case leaves a record of its own beside the predictions, written right after them. So parts
that run at once, worker processes and a run that was killed need nothing else to be gathered.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from pipeline.artifacts import (
    FileFacts,
    PredictionRecord,
    Predictions,
    SourceStamp,
    read_artifact,
)
from pipeline.core.errors import VoxlineError
from pipeline.core.workspace import atomic_write, write_json
from pipeline.infer.config import InferConfig
from pipeline.infer.opened import OpenModel
from pipeline.io.discover import CaseFiles
from pipeline.io.load import source_files
from pipeline.io.pairing import stamp_file

PREDICTIONS, PROBABILITIES, RECORDS = "predictions", "probabilities", "records"
EDITED = "predictions_edited"
OF_OTHER_IMAGES = "predictions_of_other_images"
PREDICTIONS_FILE = "predictions.json"
# Raise this when the same model and settings give other labels than before.
PREDICTION_VERSION = 1
# Content and place of an image.
ImageKey = tuple[str, str]


def settings_key(opened: OpenModel, config: InferConfig) -> str:
    """Hash of the model and of all settings that decide labels.

    The device is not among them: GPU and CPU differ in single voxels.

    Args:
        opened: The model.
        config: The settings.

    Returns:
        xxh3-64, hexadecimal.
    """
    parts: dict[str, object] = {
        "version": PREDICTION_VERSION,
        "model": opened.digest,
        "overlap": config.overlap,
        "mirror": opened.predictor.mirror_axes,
        "average": config.average if len(opened.files) > 1 else None,
        "crop": config.crop,
        "cleanup": config.cleanup,
        "backend": config.backend,
    }
    precision = opened.predictor.options.precision
    if precision != "auto":
        # Left out otherwise: predictions of before there was a choice hold.
        parts["precision"] = precision
    return xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True).encode())


def grid_hash(facts: FileFacts) -> str:
    """Hash of all that a prediction takes over from the header of its image."""
    place = (facts.affine, facts.sform, facts.qform, facts.sform_code, facts.qform_code)
    text = json.dumps([place, facts.pixdim_mm, facts.affine_source, facts.shape])
    return xxhash.xxh3_64_hexdigest(text.encode())


def file_hash(file: Path) -> str:
    """Hash of the bytes of a file; empty if it cannot be read."""
    try:
        return xxhash.xxh3_128_hexdigest(file.read_bytes())
    except OSError:
        return ""


def case_stamps(case: CaseFiles, root: Path) -> tuple[SourceStamp, ...]:
    """What tells that no file of an image has changed.

    Args:
        case: Its files; of a DICOM series every slice counts.
        root: Folder that names are relative to.
    """
    files = [file for image in case.images for file in source_files(image)]
    return tuple(stamp_file(file, root) for file in files)


@dataclass(frozen=True)
class Earlier:
    """Predictions of earlier runs that were made the same way.

    Args:
        out_dir: Folder of the dataset's predictions.
        settings: From `settings_key`.
        has_probabilities: Whether a prediction without probabilities is incomplete.
        has_dicom_seg: Whether one of a DICOM series without DICOM-SEG is.
        elsewhere: Prediction files by their image, also of datasets with other names.
    """

    out_dir: Path
    settings: str
    has_probabilities: bool
    has_dicom_seg: bool
    elsewhere: Mapping[ImageKey, tuple[Path, PredictionRecord]]

    def unchanged(
        self, case: CaseFiles, sources: tuple[SourceStamp, ...]
    ) -> PredictionRecord | None:
        """The record of a case whose files and prediction are as they were; reads no image."""
        record = self._own(case)
        return record if record is not None and record.sources == sources else None

    def of_image(
        self, case: CaseFiles, key: ImageKey, sources: tuple[SourceStamp, ...]
    ) -> PredictionRecord | None:
        """The record of the same image under whatever name; its prediction is copied here.

        Args:
            case: The case.
            key: Content and place of its image.
            sources: Its files as they are now.

        Returns:
            A record that holds for the case as it is now, or None.
        """
        own = self._own(case)
        if own is not None and (own.content_hash, own.grid_hash) == key:
            return own.model_copy(update={"sources": sources})
        file, record = self.elsewhere.get(key, (None, None))
        if file is None or record is None or not self._can_be_copied(case, record):
            return None
        content = file.read_bytes() if file.is_file() else b""
        if xxhash.xxh3_128_hexdigest(content) != record.file_hash:
            return None
        name = f"{case.case_id}.nii.gz"
        with atomic_write(self.out_dir / PREDICTIONS / name) as stream:
            stream.write(content)
        changes = {"case_id": case.case_id, "file": name, "sources": sources}
        return record.model_copy(update=changes)

    def _can_be_copied(self, case: CaseFiles, record: PredictionRecord) -> bool:
        # More than one file to copy: rare, and computing them again is never wrong.
        is_single = not record.probabilities_file and not record.dicom_seg_file
        return is_single and not self._needs_more(case, record)

    def _own(self, case: CaseFiles) -> PredictionRecord | None:
        record = read_record(self.out_dir, case.case_id)
        if record is None or record.file is None or not self._is_same_way(record):
            return None
        if self._needs_more(case, record):
            return None
        is_there = file_hash(self.out_dir / PREDICTIONS / record.file) == record.file_hash
        return record if is_there else None

    def _is_same_way(self, record: PredictionRecord) -> bool:
        return record.status == "done" and record.settings == self.settings

    def _needs_more(self, case: CaseFiles, record: PredictionRecord) -> bool:
        if self.has_probabilities and not _exists(
            self.out_dir / PROBABILITIES, record.probabilities_file
        ):
            return True
        # A message says why there is no DICOM-SEG; trying again would not change that.
        is_wanted = self.has_dicom_seg and is_dicom(case) and not record.message
        return is_wanted and not _exists(self.out_dir / PREDICTIONS, record.dicom_seg_file)


def is_dicom(case: CaseFiles) -> bool:
    """Whether an image is a DICOM series (a folder) or a single DICOM file."""
    first = case.images[0]
    return first.is_dir() or first.suffix.lower() == ".dcm"


def find_earlier(out_dir: Path, opened: OpenModel, config: InferConfig) -> Earlier:
    """Look up what earlier runs left, in the same folder and beside it.

    Args:
        out_dir: Folder of the dataset's predictions.
        opened: The model.
        config: The settings.

    Returns:
        What can be used again.
    """
    settings = settings_key(opened, config)
    found = {
        (record.content_hash, record.grid_hash): (folder / PREDICTIONS / record.file, record)
        for folder, record in _records_beside(out_dir)
        if record.settings == settings and record.file is not None
    }
    return Earlier(out_dir, settings, config.save_probabilities, config.dicom_seg == "auto", found)


def read_record(out_dir: Path, case_id: str) -> PredictionRecord | None:
    """The record of a case; None if there is none, or a damaged one."""
    try:
        text = (out_dir / RECORDS / f"{case_id}.json").read_text(encoding="utf-8")
        return PredictionRecord.model_validate_json(text)
    except (OSError, ValueError):
        return None


def write_record(out_dir: Path, record: PredictionRecord) -> None:
    """Keep the record of a case, for runs that come later."""
    write_json(out_dir / RECORDS / f"{record.case_id}.json", record, durable=False)


def put_aside(out_dir: Path, digest: str, case_ids: Sequence[str] | None = None) -> Path | None:
    """Move predictions of other models out of the way; nothing is deleted.

    Args:
        out_dir: Folder of the dataset's predictions.
        digest: Model whose predictions stay.
        case_ids: Cases to look at; None for all.

    Returns:
        Folder that predictions were moved to, the last one if several; None if none were.
    """
    aside = None
    for record in _records_of(out_dir):
        is_other = record.model_digest not in ("", digest) and record.file is not None
        if not is_other or (case_ids is not None and record.case_id not in case_ids):
            continue
        file = out_dir / PREDICTIONS / str(record.file)
        if file.is_file() and record.file_hash in ("", file_hash(file)):
            aside = out_dir / f"predictions_of_{record.model_digest[:8]}"
            aside.mkdir(exist_ok=True)
            file.replace(aside / file.name)
    return aside


def keep_edited(out_dir: Path, case_id: str) -> Path | None:
    """Move a prediction that somebody corrected by hand out of the way of a new one.

    Args:
        out_dir: Folder of the dataset's predictions.
        case_id: Case that will be predicted again.

    Returns:
        Where the file is now; None if it is as it was written, or not there.
    """
    record = read_record(out_dir, case_id)
    if record is None or record.file is None or not record.file_hash:
        return None
    file = out_dir / PREDICTIONS / record.file
    found = file_hash(file)
    if found in ("", record.file_hash):
        return None
    # The hash in the name: a second correction does not replace the first.
    kept = out_dir / EDITED / f"{case_id}.{found[:8]}.nii.gz"
    kept.parent.mkdir(exist_ok=True)
    return file.replace(kept)


def keep_of_other_image(out_dir: Path, case_id: str, key: ImageKey) -> Path | None:
    """Move the prediction of another image of the same name out of the way of a new one.

    Two folders of the same name share their predictions here, and a file may be replaced.

    Args:
        out_dir: Folder of the dataset's predictions.
        case_id: Case that is predicted now.
        key: Content and place of its image.

    Returns:
        Where the file is now; None if there is none, or it is of the same image.
    """
    record = read_record(out_dir, case_id)
    if record is None or record.file is None or not record.content_hash:
        return None
    file = out_dir / PREDICTIONS / record.file
    if (record.content_hash, record.grid_hash) == key or not file.is_file():
        return None
    kept = out_dir / OF_OTHER_IMAGES / f"{case_id}.{record.content_hash[:8]}.nii.gz"
    kept.parent.mkdir(exist_ok=True)
    return file.replace(kept)


def _records_beside(out_dir: Path) -> Iterator[tuple[Path, PredictionRecord]]:
    for file in sorted(out_dir.parent.glob(f"*/{PREDICTIONS_FILE}")):
        for record in _read_predictions(file):
            yield file.parent, record


def _records_of(out_dir: Path) -> Iterator[PredictionRecord]:
    """Records of single cases; of runs before 2026-11-21 those of predictions.json."""
    names = {file.stem for file in (out_dir / RECORDS).glob("*.json")}
    for name in sorted(names):
        record = read_record(out_dir, name)
        if record is not None:
            yield record
    for record in _read_predictions(out_dir / PREDICTIONS_FILE):
        if record.case_id not in names:
            yield record


def _read_predictions(file: Path) -> tuple[PredictionRecord, ...]:
    if not file.is_file():
        return ()
    try:
        found = read_artifact(file, Predictions, made_by="infer")
    except VoxlineError:  # damaged, or of another version: its cases are predicted again
        return ()
    return tuple(
        record.model_copy(update={"model_digest": record.model_digest or found.model_digest})
        for record in found.cases
    )


def _exists(folder: Path, name: str | None) -> bool:
    return name is not None and (folder / name).is_file()
