"""Ingest: from a folder of volumes to the manifest and the case store."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.artifacts import CaseRecord, DatasetManifest, Problem, Task, read_artifact
from pipeline.core.errors import DataError, MissingInputError
from pipeline.core.parallel import map_cases
from pipeline.core.parallel_config import Part
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import Tracker
from pipeline.core.workspace import Workspace, write_json
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.disguise import Naming, open_named
from pipeline.ingest.folder import open_folder
from pipeline.ingest.lock import count_parts, one_part, whole_store
from pipeline.ingest.records import (
    CaseJob,
    StoredCase,
    delete_orphans,
    failed_case,
    read_stored_case,
    store_case,
)
from pipeline.ingest.resolve import (
    check_class_names,
    resolve_task,
    unannotated_classes,
    with_listed_cases,
)
from pipeline.io.discover import CaseFiles, DatasetFolder
from pipeline.io.files import hash_bytes

logger = logging.getLogger(__name__)

# Starting worker processes takes about a second: one core reads this much in that time.
_PARALLEL_ABOVE_BYTES = 64 << 20


def ingest(
    config: IngestConfig,
    task: TaskConfig,
    data_dir: Path,
    workspace: Workspace,
    tracker: Tracker,
) -> DatasetManifest:
    """Read every case of a dataset folder into the case store and list them in `dataset.json`.

    Cases whose files have not changed since the last run are kept, also those of a run that was
    killed and of parts (`ingest_part`); if nothing changed at all, nothing is written. While
    another process ingests into the same work folder, this one waits.

    Args:
        config: Section `ingest`.
        task: Section `task`; overrides what the folder says about channels and classes.
        data_dir: Dataset folder, in any layout that `io.discover` knows.
        workspace: Work folder.
        tracker: Where counts and the dataset's digest are reported.

    Returns:
        The manifest, as written. Cases that cannot be read are in it, with the reason.

    Raises:
        UsageError: If there is no such folder, or parts of it are being ingested.
        DataError: If no layout fits or there are no labels.
        ConfigError: If the task contradicts the data.
    """
    folder = _open(config, data_dir, task, workspace)
    check_class_names(task, folder)
    jobs = _jobs(folder, workspace)
    with whole_store(workspace):
        manifest = _store_and_list(jobs, folder, config, task, workspace)
    _report(manifest, tracker)
    return manifest


def ingest_part(
    config: IngestConfig, task: TaskConfig, data_dir: Path, workspace: Workspace, part: Part
) -> int:
    """Read one share of the cases into the case store; `ingest` gathers all shares later.

    Args:
        config: Section `ingest`.
        task: Section `task`, the same for every part: it says which structures are read.
        data_dir: Dataset folder, the same for every part.
        workspace: Work folder, the same for every part.
        part: Which share.

    Returns:
        Number of cases of this part that cannot be read.

    Raises:
        UsageError: If there is no such folder, or the same part is being ingested.
        DataError: If no layout fits or there are no labels.
    """
    folder = _open(config, data_dir, task, workspace)
    check_class_names(task, folder)
    jobs = part.of(_jobs(folder, workspace))
    with one_part(workspace, part):
        stored, n_new = _store_all(jobs, config)
    records = [case.record for case in stored]
    n_unreadable = _warn_of_unreadable(records)
    logger.info(
        "part %s: %d cases, of which %d read now and %d cannot be used; when all parts are done, "
        "run ingest without --part to write dataset.json",
        part.name,
        len(jobs),
        n_new,
        n_unreadable,
    )
    return n_unreadable


def _store_and_list(
    jobs: Sequence[CaseJob],
    folder: DatasetFolder,
    config: IngestConfig,
    task: TaskConfig,
    workspace: Workspace,
) -> DatasetManifest:
    stored, n_new = _store_all(jobs, config)
    records = _refuse_odd_channels([case.record for case in stored])
    resolved = resolve_task(
        task,
        folder,
        n_channels=_n_channels(records) or len(folder.channel_names) or 1,
        found_values={value for case in stored for value in case.label_values},
    )
    records = _with_unannotated(records, stored, task, resolved)
    manifest = DatasetManifest(
        name=task.name or folder.name,
        root=folder.root,
        source=folder.source if folder.source != folder.root else None,
        layout=folder.layout,
        layout_reason=folder.reason,
        layout_asked=config.layout,
        task=resolved,
        cases=records,
        problems=folder.problems,
        digest=dataset_digest(records),
    )
    n_deleted = delete_orphans(workspace.store_dir, workspace.root, records)
    if n_new == 0 and n_deleted == 0 and _is_on_disk(manifest, workspace):
        logger.info("nothing changed: %d cases are as they were", len(records))
    else:
        write_json(workspace.dataset_file, manifest)
        n_kept = len(records) - n_new
        if n_parts := count_parts(workspace):
            logger.info("gathered what %d parts have stored", n_parts)
        logger.info("%d cases read%s", n_new, f", {n_kept} kept" if n_kept else "")
    return manifest


def dataset_digest(records: Sequence[CaseRecord]) -> str:
    """Identify the content of a dataset, whatever its files are called.

    Args:
        records: Cases in any order; unreadable ones do not count.

    Returns:
        16 hexadecimal digits over voxels and affines of all images and labels.
    """
    lines = [
        f"{record.image.content_hash} {record.image.affine} "
        f"{record.label.content_hash} {record.label.affine}"
        for record in records
        if record.status == "ready" and record.image is not None and record.label is not None
    ]
    return hash_bytes("\n".join(sorted(lines)).encode())[:16]


def _open(
    config: IngestConfig, data_dir: Path, task: TaskConfig, workspace: Workspace
) -> DatasetFolder:
    naming = Naming(workspace, is_wanted=config.pseudonymize, is_training_data=True)
    return open_named(naming, data_dir, lambda: open_folder(config, data_dir, task))


def _jobs(folder: DatasetFolder, workspace: Workspace) -> list[CaseJob]:
    cases = _labelled_cases(folder)
    logger.info("%s: %s layout, %s", folder.name, folder.layout, folder.reason)
    return [CaseJob(c, folder.root, workspace.store_dir, workspace.root) for c in cases]


def _labelled_cases(folder: DatasetFolder) -> list[CaseFiles]:
    """Cases that have a label; the others are already among the folder's problems."""
    cases = [case for case in folder.cases if case.label is not None]
    if cases:
        return cases
    found = ", ".join(case.images[0].name for case in folder.cases[:3])
    problem = folder.problems[0].message if folder.problems else "there is no folder of labels"
    raise DataError(
        f"none of the {len(folder.cases)} images has a label ({problem}; images: {found})",
        where=str(folder.root),
        fix="looked for labelsTr/ beside imagesTr/, or a folder named labels, masks, seg or "
        "annotations beside the images, with the same file names",
    )


def _store_all(jobs: Sequence[CaseJob], config: IngestConfig) -> tuple[list[StoredCase], int]:
    """Stored cases in the order of the jobs, and how many of them are new or changed."""
    kept = {job.case_id: read_stored_case(job) for job in jobs}
    todo = [job for job in jobs if kept[job.case_id] is None]
    outcomes = map_cases(
        store_case, todo, description="reading cases", n_jobs=_n_jobs(todo, config)
    )
    for outcome in outcomes:
        job = outcome.item
        failure = failed_case(job, outcome.error) if outcome.error is not None else None
        kept[job.case_id] = outcome.result or failure
    stored = [case for job in jobs if (case := kept[job.case_id]) is not None]
    n_new = sum(o.result is not None and o.result.record.status == "ready" for o in outcomes)
    return stored, n_new


def _n_jobs(jobs: Sequence[CaseJob], config: IngestConfig) -> int:
    if config.n_jobs > 0:
        return config.n_jobs
    paths = [path for job in jobs for path in (*job.files.images, *job.files.label_files)]
    return 0 if sum(map(_n_bytes, paths)) > _PARALLEL_ABOVE_BYTES else 1


def _n_bytes(path: Path) -> int:
    """Size of a file, or of all files of a DICOM series; 0 for what cannot be seen."""
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _n_channels(records: Sequence[CaseRecord]) -> int:
    """Channels of most ready cases, 0 if there is none."""
    counts = Counter(r.image.shape[0] for r in records if r.image is not None)
    return counts.most_common(1)[0][0] if counts else 0


def _refuse_odd_channels(records: Sequence[CaseRecord]) -> tuple[CaseRecord, ...]:
    """A network takes one number of channels: cases with another one cannot be used."""
    usual = _n_channels(records)
    return tuple(
        record
        if record.image is None or record.image.shape[0] == usual
        else record.model_copy(
            update={
                "status": "unreadable",
                "problems": (
                    *record.problems,
                    Problem(
                        check_id="F06",
                        file=record.image_files[0].file,
                        message=f"image: {record.image.shape[0]} channels, most cases have {usual}",
                        fix="give every case the same channels, or take this one out",
                    ),
                ),
            }
        )
        for record in records
    )


def _with_unannotated(
    records: Sequence[CaseRecord], stored: Sequence[StoredCase], config: TaskConfig, task: Task
) -> tuple[CaseRecord, ...]:
    """Note in every case the classes that nobody drew there, as the configuration declares."""
    declared = with_listed_cases(config, task, [record.case_id for record in records])
    values_of = {case.record.case_id: case.label_values for case in stored}
    return tuple(
        record
        if record.status != "ready"
        else record.model_copy(
            update={
                "unannotated": unannotated_classes(
                    declared, task, record.case_id, values_of[record.case_id]
                )
            }
        )
        for record in records
    )


def _is_on_disk(manifest: DatasetManifest, workspace: Workspace) -> bool:
    try:
        return manifest == read_artifact(workspace.dataset_file, DatasetManifest, made_by="ingest")
    except MissingInputError:
        return False


def _report(manifest: DatasetManifest, tracker: Tracker) -> None:
    n_unreadable = _warn_of_unreadable(manifest.cases)
    for problem in manifest.problems:
        logger.warning("%s: %s", problem.file, problem.message)
    tracker.log_dataset(name=manifest.name, digest=manifest.digest, context="ingest")
    tracker.log_metrics(
        {
            "ingest/n_cases": len(manifest.cases),
            "ingest/n_ready": len(manifest.ready_cases),
            "ingest/n_unreadable": n_unreadable,
            "ingest/n_problems": len(manifest.problems),
            "ingest/n_classes": len(manifest.task.classes),
        },
        headline=False,
    )


def _warn_of_unreadable(records: Sequence[CaseRecord]) -> int:
    unreadable = [record for record in records if record.status == "unreadable"]
    for record in unreadable:
        reasons = "; ".join(f"{p.file}: {p.message}" for p in record.problems)
        logger.warning("case %s cannot be used: %s", record.case_id, reasons)
    return len(unreadable)
