"""What makes a second run quick: one small file per finished case in the store."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import CaseRecord
from pipeline.core.config import StrictModel, validate_config
from pipeline.core.errors import ConfigError
from pipeline.core.workspace import write_json
from pipeline.ingest.conform import conform_case, source_stamps
from pipeline.io.discover import CaseFiles
from pipeline.io.store import is_stored, open_array, sidecar_file

# More different values than this are an image or a soft mask, not classes.
MAX_CLASS_VALUES = 256


class StoredCase(StrictModel):
    """A finished case: its record, and the class values found in its label."""

    # Raise this number when ingest would now treat the same files differently.
    ingest_version: Literal[1] = 1
    record: CaseRecord
    label_values: tuple[int, ...]


@dataclass(frozen=True)
class CaseJob:
    """Everything a worker process needs for one case.

    Args:
        files: The case's files.
        root: Dataset folder.
        store_dir: Case store.
        work_root: Work folder.
    """

    files: CaseFiles
    root: Path
    store_dir: Path
    work_root: Path


def store_case(job: CaseJob) -> StoredCase:
    """Conform one case and leave its file in the store, last of all, as proof that it is done."""
    record = conform_case(
        job.files, root=job.root, store_dir=job.store_dir, work_root=job.work_root
    )
    values: tuple[int, ...] = ()
    if record.label is not None:
        values = class_values(open_array(job.work_root, record.label))
    stored = StoredCase(record=record, label_values=values)
    # Unreadable cases are tried again each time: the reason may have been the machine's.
    if record.status == "ready":
        write_json(_case_file(job), stored, durable=False)
    return stored


def read_stored_case(job: CaseJob) -> StoredCase | None:
    """The finished case from an earlier run, if its source files and its arrays are unchanged."""
    file = _case_file(job)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        stored = validate_config(StoredCase, content, str(file))
    except (OSError, ValueError, ConfigError):
        return None
    record = stored.record
    arrays = [array for array in (record.image, record.label) if array is not None]
    is_current = record.sources == source_stamps(job.files, job.root)
    if is_current and all(is_stored(job.work_root, array) for array in arrays):
        return stored
    return None


def delete_orphans(store_dir: Path, work_root: Path, records: Iterable[CaseRecord]) -> int:
    """Delete store files that belong to no case any more, also half-written ones.

    Args:
        store_dir: Case store.
        work_root: Work folder.
        records: All cases of the dataset.

    Returns:
        Number of files deleted.
    """
    wanted: set[Path] = set()
    for record in records:
        for array in (record.image, record.label):
            if array is not None:
                file = work_root / array.file
                wanted |= {file, sidecar_file(file), store_dir / _case_name(record.case_id)}
    if not store_dir.is_dir():
        return 0
    orphans = [file for file in store_dir.iterdir() if file.is_file() and file not in wanted]
    for file in orphans:
        file.unlink(missing_ok=True)
    return len(orphans)


def class_values(label: Shaped[np.ndarray, "..."]) -> tuple[int, ...]:
    """Values of a label map that may be classes.

    Args:
        label: Label map of any number type.

    Returns:
        Sorted; empty if the label holds fractions, values that are not finite, or more than
        MAX_CLASS_VALUES different values, because then it is no label map.
    """
    values = np.flatnonzero(np.bincount(label.reshape(-1))) if label.dtype == np.uint8 else None
    if values is None:
        values = np.unique(label)
    if len(values) > MAX_CLASS_VALUES or not np.all(np.isfinite(values)):
        return ()
    if np.any(np.abs(values - np.rint(values)) > 1e-3):
        return ()
    return tuple(sorted({int(value) for value in np.rint(values)}))


def _case_file(job: CaseJob) -> Path:
    return job.store_dir / _case_name(job.files.case_id)


def _case_name(case_id: str) -> str:
    return f"{case_id}.case.json"
