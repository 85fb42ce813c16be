"""Whether the case store still holds what ingest put there, voxel for voxel."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import CaseRecord, DatasetManifest, StoredArray, read_artifact
from pipeline.core.errors import DataError, MissingInputError
from pipeline.core.parallel import map_cases
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.lock import whole_store
from pipeline.ingest.records import case_file
from pipeline.io.store import array_hash, n_voxel_bytes, open_array, read_sidecar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verification:
    """What a check of the store found.

    Args:
        n_cases: Cases checked.
        n_bytes: Voxels read, in bytes.
        damaged: Case id to what is wrong with it.
    """

    n_cases: int
    n_bytes: int
    damaged: dict[str, str]


@dataclass(frozen=True)
class _CheckedCase:
    n_bytes: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Check:
    """Picklable work on one case: its arrays, hashed again."""

    work_root: Path

    def __call__(self, record: CaseRecord) -> _CheckedCase:
        arrays = [("image", record.image), ("label", record.label)]
        faults = [
            f"{role}: {fault}"
            for role, array in arrays
            if array is not None and (fault := _fault_of(self.work_root, array))
        ]
        n_bytes = sum(n_voxel_bytes(array) for _, array in arrays if array is not None)
        return _CheckedCase(n_bytes, tuple(faults))


def verify_store(config: IngestConfig, workspace: Workspace) -> Verification:
    """Hash every stored array again and compare it with its sidecar and with `dataset.json`.

    A damaged case loses the file that calls it finished: the next ingest reads it again from its
    source files.

    Args:
        config: Section `ingest`.
        workspace: Work folder.

    Returns:
        What was checked and what is damaged.

    Raises:
        MissingInputError: If nothing was ingested there.
    """
    if not workspace.dataset_file.is_file():
        # Before the lock, which would leave a folder behind.
        raise MissingInputError(
            "there is no dataset.json to verify",
            where=str(workspace.root),
            fix="run 'voxline ingest --data FOLDER' first, or name the right --work folder",
        )
    with whole_store(workspace):
        manifest = read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
        outcomes = map_cases(
            _Check(workspace.root),
            manifest.ready_cases,
            description="verifying the store",
            n_jobs=config.n_jobs or 1,
        )
        checks = [(o.item, o.result) for o in outcomes if o.result is not None]
        damaged = {record.case_id: "; ".join(c.faults) for record, c in checks if c.faults}
        damaged |= {o.item.case_id: o.error.what for o in outcomes if o.error is not None}
        for case_id in damaged:
            case_file(workspace.store_dir, case_id).unlink(missing_ok=True)
    verification = Verification(len(outcomes), sum(c.n_bytes for _, c in checks), damaged)
    _report(verification)
    return verification


def _fault_of(work_root: Path, array: StoredArray) -> str:
    """What is wrong with one array, in words; empty if it is as it was written."""
    try:
        if read_sidecar(work_root, array) != array:
            return "its sidecar and dataset.json differ"
        if array_hash(open_array(work_root, array)) != array.content_hash:
            return "its voxels are not those that were written"
    except DataError as error:
        return error.what
    return ""


def _report(verification: Verification) -> None:
    for case_id, fault in verification.damaged.items():
        logger.error("case %s is damaged in the store: %s", case_id, fault)
    n_damaged = len(verification.damaged)
    logger.info(
        "%d cases verified (%.1f MB), %s",
        verification.n_cases,
        verification.n_bytes / 1e6,
        f"{n_damaged} damaged; run ingest again to read them from their files"
        if n_damaged
        else "all as they were written",
    )
