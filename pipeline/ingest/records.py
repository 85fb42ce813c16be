"""What makes a second run quick: one small file per finished case in the store."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from pipeline.artifacts import CaseRecord, Problem
from pipeline.core.config import StrictModel, validate_config
from pipeline.core.errors import ConfigError, FileFormatError, VoxlineError
from pipeline.core.workspace import write_json
from pipeline.ingest.conform import conform_case, source_stamps
from pipeline.io.files import hash_bytes
from pipeline.io.pairing import CaseFiles, relative_name
from pipeline.io.store import is_stored, open_array, sidecar_file

# More different values than this are an image or a soft mask, not classes.
MAX_CLASS_VALUES = 256
_PIECE_VOXELS = 1 << 20


class StoredCase(StrictModel):
    """A finished case: its record, and the class values found in its label."""

    # Raise this number when ingest would now treat the same files differently.
    ingest_version: Literal[2] = 2
    record: CaseRecord
    label_values: tuple[int, ...]
    recipe: str = Field(description="hash of what decides, beside the files, what is stored")


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

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return self.files.case_id


def store_case(job: CaseJob) -> StoredCase:
    """Conform one case and leave its file in the store, last of all, as proof that it is done.

    A case that another process has finished meanwhile is not done again.
    """
    if finished := read_stored_case(job):
        return finished
    # It must not vouch for arrays that are replaced below, should this end half-way.
    case_file(job.store_dir, job.case_id).unlink(missing_ok=True)
    record = conform_case(
        job.files, root=job.root, store_dir=job.store_dir, work_root=job.work_root
    )
    values: tuple[int, ...] = ()
    if record.label is not None:
        values = class_values(open_array(job.work_root, record.label))
    stored = StoredCase(record=record, label_values=values, recipe=_recipe(job.files))
    # Unreadable cases are tried again each time: the reason may have been the machine's.
    if record.status == "ready":
        write_json(case_file(job.store_dir, job.case_id), stored, durable=False)
    return stored


def read_stored_case(job: CaseJob) -> StoredCase | None:
    """The finished case from an earlier run, if its source files and its arrays are unchanged."""
    file = case_file(job.store_dir, job.case_id)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        stored = validate_config(StoredCase, content, str(file))
    except (OSError, ValueError, ConfigError):
        return None
    record = stored.record
    arrays = [array for array in (record.image, record.label) if array is not None]
    is_current = stored.recipe == _recipe(job.files) and record.sources == source_stamps(
        job.files, job.root
    )
    if is_current and all(is_stored(job.work_root, array) for array in arrays):
        return stored
    return None


def failed_case(job: CaseJob, error: VoxlineError) -> StoredCase:
    """What is known of a case that could not even be refused: its process ran out of memory.

    Args:
        job: The case.
        error: Why there is no result.

    Returns:
        An unreadable case, which the next run tries again.
    """
    problem = Problem(
        check_id=error.check_id if isinstance(error, FileFormatError) else "F06",
        file=relative_name(job.files.images[0], job.root),
        message=error.what,
        fix=error.fix,
    )
    record = CaseRecord(
        case_id=job.case_id,
        status="unreadable",
        sources=source_stamps(job.files, job.root),
        problems=(problem,),
    )
    return StoredCase(record=record, label_values=(), recipe=_recipe(job.files))


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
                wanted |= {file, sidecar_file(file), case_file(store_dir, record.case_id)}
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
    flat, values = label.reshape(-1), np.zeros(0, dtype=label.dtype)
    # Piece by piece: sorting or counting a whole volume takes several times its memory.
    for start in range(0, flat.size, _PIECE_VOXELS):
        values = np.union1d(values, _values_of(flat[start : start + _PIECE_VOXELS]))
        if len(values) > MAX_CLASS_VALUES or not np.all(np.isfinite(values)):
            return ()
    if np.any(np.abs(values - np.rint(values)) > 1e-3):
        return ()
    return tuple(sorted({int(value) for value in np.rint(values)}))


def _values_of(piece: Shaped[np.ndarray, " _"]) -> Shaped[np.ndarray, " _"]:
    """Different values of a few voxels, at least one."""
    if piece[0] == piece[-1] and np.all(piece == piece[0]):  # mostly background
        return piece[:1]
    if piece.dtype == np.uint8:
        return np.flatnonzero(np.bincount(piece)).astype(np.uint8)
    return np.unique(piece)


def case_file(store_dir: Path, case_id: str) -> Path:
    """The file that says that a case is finished."""
    return store_dir / f"{case_id}.case.json"


def _recipe(files: CaseFiles) -> str:
    """Classes that the dataset names decide about the values of merged masks and segments."""
    values = dict(files.label_values) if files.label_values is not None else None
    return hash_bytes(json.dumps([values, files.mask_order]).encode())[:16]
