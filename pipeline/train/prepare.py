"""Preprocess the cases of a training once, and keep them for every later run that agrees."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Integer, UInt8
from pydantic import Field

from pipeline.artifacts import CaseRecord, Preprocessing, Task
from pipeline.core.config import StrictModel
from pipeline.core.errors import DataError
from pipeline.core.geometry import Spacing, spacing_of
from pipeline.core.open_files import allow_open_files
from pipeline.core.parallel import available_cores, map_cases
from pipeline.core.seeds import generator_for
from pipeline.core.task import map_label_values
from pipeline.core.volume import Volume
from pipeline.core.workspace import Workspace, atomic_write, write_json
from pipeline.io.store import open_array
from pipeline.transforms.preprocess import preprocess_image, preprocess_label

ARRAY_FILES = ("image.npy", "label.npy", "coordinates.npy")
# Enough for uniform sampling; nnU-Net keeps as many.
MAX_COORDINATES = 10_000
# float16 ends at 65504; normalized intensities beyond +-1000 SD are outliers, not anatomy.
FLOAT16_LIMIT = 1000.0
# Below this much data, starting worker processes takes longer than the work.
SMALL_BYTES = 200_000_000


@dataclass(frozen=True)
class PreparedCase:
    """One case as training reads it.

    Args:
        case_id: Id of the case.
        image: Normalized, at target spacing, RAS.
        label: Class index per voxel.
        coordinates: For each foreground class, voxels (n, 3) of it; empty where it is absent.
        spacing_mm: Spacing of the prepared grid along i, j, k.
        unannotated: Indices of the classes that nobody drew in this case.
        counted: Voxels (n, 3), evenly drawn from those that are not to be ignored; None if no
            voxel is.
    """

    case_id: str
    image: Float16[np.ndarray, "channel i j k"]
    label: UInt8[np.ndarray, "i j k"]
    coordinates: tuple[Integer[np.ndarray, "_ 3"], ...]
    spacing_mm: Spacing
    unannotated: tuple[int, ...] = ()
    counted: Integer[np.ndarray, "_ 3"] | None = None


class _PreparedFacts(StrictModel):
    """Sidecar of a prepared case; its presence says that the arrays are complete."""

    case_id: str
    spacing_mm: Spacing
    n_class_coordinates: tuple[int, ...] = Field(description="rows per class in coordinates.npy")
    has_ignored: bool = Field(
        default=False, description="the rows after those are voxels that are not to be ignored"
    )
    n_bytes: dict[str, int] = Field(description="size of each array file")


@dataclass(frozen=True)
class _Job:
    record: CaseRecord
    preprocessing: Preprocessing
    task: Task
    work_dir: Path
    folder: Path


def prepare_cases(
    records: Sequence[CaseRecord], preprocessing: Preprocessing, task: Task, workspace: Workspace
) -> list[PreparedCase]:
    """Preprocess what is not prepared yet and open all cases.

    Args:
        records: Ready cases with labels.
        preprocessing: Spacing and normalization.
        task: Channels and classes.
        workspace: Work folder with the case store.

    Returns:
        The cases in the order of the records, arrays memory-mapped.

    Raises:
        DataError: Naming every case that could not be prepared.
        UsageError: If the system does not allow that many open files.
    """
    jobs = [
        _Job(
            r,
            preprocessing,
            task,
            workspace.root,
            workspace.prepared_dir / _key(r, preprocessing, task),
        )
        for r in records
    ]
    missing = [job for job in jobs if not _is_complete(job.folder)]
    if missing:
        n_bytes = sum(_n_bytes(job.record) for job in missing)
        outcomes = map_cases(
            _prepare,
            missing,
            description="prepare cases",
            n_jobs=1 if n_bytes < SMALL_BYTES else available_cores(),
        )
        failed = [o for o in outcomes if o.error is not None]
        if failed:
            raise DataError(
                f"{len(failed)} of {len(missing)} cases cannot be prepared",
                where="\n         ".join(
                    f"{o.item.record.case_id}: {o.error.what} ({o.error.where})"
                    for o in failed
                    if o.error is not None
                ),
                fix="repair these cases or take them out of the dataset folder",
            )
    # Each mapped array keeps its file open: image and label of every case.
    allow_open_files(2 * len(jobs))
    return [_open(job) for job in jobs]


def _n_bytes(record: CaseRecord) -> int:
    return int(np.prod(record.image.shape)) * 4 if record.image else 0


def _key(record: CaseRecord, preprocessing: Preprocessing, task: Task) -> str:
    image = record.image.content_hash if record.image else ""
    label = record.label.content_hash if record.label else ""
    affine = json.dumps(record.image.affine if record.image else ())
    text = "|".join(
        ("1", image, label, affine, preprocessing.model_dump_json(), task.model_dump_json())
    )
    return f"{record.case_id}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _prepare(job: _Job) -> None:
    record = job.record
    if record.image is None or record.label is None:
        raise DataError("the case has no image or no label", where=f"case {record.case_id}")
    affine = np.array(record.image.affine)
    image = Volume(np.asarray(open_array(job.work_dir, record.image)), affine)
    indices = map_label_values(np.asarray(open_array(job.work_dir, record.label)), job.task)
    label = preprocess_label(Volume(indices, affine), job.preprocessing)
    prepared = preprocess_image(image, job.preprocessing)
    voxels = np.clip(prepared.array, -FLOAT16_LIMIT, FLOAT16_LIMIT).astype(np.float16)
    coordinates = _class_coordinates(label.array, len(job.task.classes), record.case_id)
    counted = _counted_voxels(label.array, job.task.ignore_index, record.case_id)
    every = coordinates if counted is None else [*coordinates, counted]
    job.folder.mkdir(parents=True, exist_ok=True)
    _save(job.folder / "image.npy", voxels)
    _save(job.folder / "label.npy", label.array.astype(np.uint8))
    _save(job.folder / "coordinates.npy", np.concatenate(every))
    facts = _PreparedFacts(
        case_id=record.case_id,
        spacing_mm=spacing_of(prepared.affine),
        n_class_coordinates=tuple(len(c) for c in coordinates),
        has_ignored=counted is not None,
        n_bytes={name: (job.folder / name).stat().st_size for name in ARRAY_FILES},
    )
    write_json(job.folder / "facts.json", facts, durable=False)


def _is_complete(folder: Path) -> bool:
    """Whether a case was prepared and its files still have their sizes."""
    try:
        facts = _PreparedFacts.model_validate_json((folder / "facts.json").read_bytes())
        return all((folder / name).stat().st_size == n for name, n in facts.n_bytes.items())
    except (OSError, ValueError):
        return False


def _class_coordinates(
    label: Integer[np.ndarray, "i j k"], n_classes: int, case_id: str
) -> list[Integer[np.ndarray, "_ 3"]]:
    coordinates = []
    for index in range(1, n_classes + 1):
        # Flat places first: faster than np.argwhere, and a third of its memory.
        found = np.flatnonzero(label == index)
        if len(found) > MAX_COORDINATES:
            rng = generator_for(0, "coordinates", case_id, index)
            chosen = rng.choice(len(found), MAX_COORDINATES, replace=False)
            found = found[np.sort(chosen)]
        coordinates.append(np.stack(np.unravel_index(found, label.shape), axis=1, dtype=np.int32))
    return coordinates


def _counted_voxels(
    label: Integer[np.ndarray, "i j k"], ignore_index: int | None, case_id: str
) -> Integer[np.ndarray, "_ 3"] | None:
    """Up to MAX_COORDINATES of the voxels that count; None where all of them do."""
    if ignore_index is None:
        return None
    # Plane by plane: the positions of a whole volume would be many times as large as the label.
    ends = np.cumsum([np.count_nonzero(plane != ignore_index) for plane in label])
    n_counted = int(ends[-1])
    if n_counted == label.size:
        return None
    rng = generator_for(0, "counted", case_id)
    ranks = np.sort(rng.choice(n_counted, min(n_counted, MAX_COORDINATES), replace=False))
    first = np.searchsorted(ranks, np.concatenate([[0], ends]))
    found = [np.zeros((0, 3), dtype=np.int32)]
    for i, plane in enumerate(label):
        inside = ranks[first[i] : first[i + 1]] - (ends[i - 1] if i else 0)
        places = np.flatnonzero(plane != ignore_index)[inside]
        j, k = np.unravel_index(places, plane.shape)
        found.append(np.stack([np.full(len(j), i), j, k], axis=1).astype(np.int32))
    return np.concatenate(found)


def _save(file: Path, array: np.ndarray) -> None:
    # On the disk before the facts call the case complete: a power failure must not leave zeros.
    with atomic_write(file) as stream:
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)


def _open(job: _Job) -> PreparedCase:
    folder, index_of = job.folder, {c.name: c.index for c in job.task.classes}
    facts = _PreparedFacts.model_validate_json((folder / "facts.json").read_text("utf-8"))
    every = np.load(folder / "coordinates.npy")
    *of_classes, counted = np.split(every, np.cumsum(facts.n_class_coordinates))
    return PreparedCase(
        case_id=facts.case_id,
        image=np.load(folder / "image.npy", mmap_mode="r"),
        label=np.load(folder / "label.npy", mmap_mode="r"),
        coordinates=tuple(of_classes),
        spacing_mm=facts.spacing_mm,
        unannotated=tuple(index_of[name] for name in job.record.unannotated),
        counted=counted if facts.has_ignored else None,
    )
