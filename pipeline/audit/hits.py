"""How likely a training patch shows a class at all, counted over every place it could have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Bool, Float, Integer
from pydantic import Field, ValidationError
from scipy import ndimage

from pipeline.artifacts import CaseFingerprint, CaseRecord
from pipeline.audit.rows import open_view
from pipeline.audit.view import DatasetView, index_map
from pipeline.core.config import StrictModel
from pipeline.core.geometry import Shape3, Spacing
from pipeline.core.workspace import write_json

# More places than this along an axis are counted in equal steps; the label itself is never thinned.
_MAX_PLACES = 64
# Raise this when a probability is counted in another way, so that old ones are not used again.
_HITS_VERSION = 1


@dataclass(frozen=True)
class PatchHits:
    """Hit probabilities of one patch size.

    Args:
        patch_size: Voxels at target spacing.
        probabilities: Per foreground class, over cases that show it; None if none was measured.
        n_cases: Cases measured.
    """

    patch_size: Shape3
    probabilities: tuple[float | None, ...]
    n_cases: int


class KnownHits(StrictModel):
    """`hits.json`: what was counted before, so that a second audit opens no volume."""

    cases: dict[str, tuple[float, ...] | None] = Field(
        default_factory=dict,
        description="hash of label, classes and patch to the probability per class; null: the "
        "label holds no classes",
    )


def hit_probability(
    label: Integer[np.ndarray, "i j k"], patch_size: Shape3, n_classes: int
) -> Float[np.ndarray, " class"]:
    """Probability that a patch placed at random inside the volume holds a voxel of each class.

    Every place has the same probability. Along an axis shorter than the patch there is one place.

    Args:
        label: Class index per voxel; values below 1 are no class.
        patch_size: Patch in voxels of this grid.
        n_classes: Foreground classes.

    Returns:
        Probability per class, 0 where the class is absent.

    Source:
        Box sums from a summed-area table (Crow 1984), per bounding box of a class.
    """
    starts = [_places(n, size) for n, size in zip(label.shape, patch_size, strict=True)]
    found = np.zeros(n_classes)
    boxes = ndimage.find_objects(np.maximum(label, 0), max_label=n_classes)
    for position, box in enumerate(boxes):
        if box is None:
            continue
        sums = _box_sums(label[box] == position + 1, [s.start for s in box], starts, patch_size)
        found[position] = np.count_nonzero(sums) / sums.size
    return found


def _places(n: int, size: int) -> Integer[np.ndarray, " place"]:
    last = max(0, n - size)
    return np.unique(np.linspace(0, last, min(last + 1, _MAX_PLACES)).round().astype(np.int64))


def _box_sums(
    mask: Bool[np.ndarray, "i j k"],
    corner: Sequence[int],
    starts: Sequence[Integer[np.ndarray, "..."]],
    patch_size: Shape3,
) -> Integer[np.ndarray, "pi pj pk"]:
    """Voxels of a mask, cut out at a corner, inside every patch."""
    table = mask.astype(np.int32)
    for axis in range(3):
        summed = np.cumsum(table, axis=axis, dtype=np.int32)
        padding = [(1, 0) if a == axis else (0, 0) for a in range(3)]
        summed = np.pad(summed, padding)
        low = np.clip(starts[axis] - corner[axis], 0, mask.shape[axis])
        high = np.clip(starts[axis] + patch_size[axis] - corner[axis], 0, mask.shape[axis])
        table = np.take(summed, high, axis=axis) - np.take(summed, low, axis=axis)
    return table


def typical_patch(median_shape: Sequence[float], spacing_mm: Spacing, n_voxels: int) -> Shape3:
    """A patch of about that many voxels, as isotropic in mm as the cases allow.

    Args:
        median_shape: Voxels of a typical case at that spacing.
        spacing_mm: Target spacing.
        n_voxels: Most voxels of the patch.

    Returns:
        Size in voxels; training rounds it to what its network divides.
    """
    limit = np.maximum(np.asarray(median_shape, dtype=float), 1.0)
    low, high = 0.0, float((limit * spacing_mm).max())
    for _ in range(40):
        side_mm = (low + high) / 2
        size = np.minimum(np.maximum(side_mm / np.array(spacing_mm), 1.0), limit)
        low, high = (side_mm, high) if size.prod() <= n_voxels else (low, side_mm)
    i, j, k = np.minimum(np.maximum(low / np.array(spacing_mm), 1.0), limit).round().astype(int)
    return int(i), int(j), int(k)


def measure_hits(
    dataset: DatasetView,
    work_root: Path,
    patches: Sequence[Shape3],
    spacing_mm: Spacing,
    n_cases: int,
) -> tuple[PatchHits, ...]:
    """Hit probabilities of some patch sizes on a few cases of the store.

    What was counted is kept in `audit/hits.json` under a hash of all it depends on.

    Args:
        dataset: Cases with their rows.
        work_root: Work folder with the case store.
        patches: Patch sizes in voxels at target spacing.
        spacing_mm: Target spacing.
        n_cases: Cases to look at, besides one per class that they do not show.

    Returns:
        One entry per patch size.

    Raises:
        DataError: If the case store is damaged.
    """
    n_classes = len(dataset.manifest.task.classes)
    records = {case.case_id: case for case in dataset.manifest.cases}
    fingerprints = [row.fingerprint for row in dataset.rows if row.fingerprint]
    file = work_root / "audit" / "hits.json"
    known, used = _read_known(file), dict[str, tuple[float, ...] | None]()
    found: list[list[tuple[float, ...]]] = [[] for _ in patches]
    for fingerprint in _choose(fingerprints, n_classes, n_cases):
        record = records[fingerprint.case_id]
        sizes = [_on_grid(patch, spacing_mm, fingerprint.spacing_mm) for patch in patches]
        keys = [_key(record, dataset, size) for size in sizes]
        if not known.keys() >= set(keys):
            known |= zip(keys, _count(record, dataset, work_root, sizes), strict=True)
        used |= {key: known[key] for key in keys}
        for place, key in enumerate(keys):
            probabilities = known[key]
            if probabilities is not None:
                found[place].append(probabilities)
    write_json(file, KnownHits(cases=used))
    return tuple(
        PatchHits(patch, _mean_where_present(rows, n_classes), len(rows))
        for patch, rows in zip(patches, found, strict=True)
    )


def _read_known(file: Path) -> dict[str, tuple[float, ...] | None]:
    try:
        return KnownHits.model_validate_json(file.read_bytes()).cases
    except (OSError, ValidationError):
        return {}


def _key(record: CaseRecord, dataset: DatasetView, size: Shape3) -> str:
    content = record.label.content_hash if record.label is not None else ""
    text = f"{_HITS_VERSION}|{content}|{dataset.manifest.task.model_dump_json()}|{size}"
    return xxhash.xxh3_128_hexdigest(text.encode())


def _count(
    record: CaseRecord, dataset: DatasetView, work_root: Path, sizes: Sequence[Shape3]
) -> list[tuple[float, ...] | None]:
    """Probabilities for some patch sizes in voxels of this case; None without classes."""
    task = dataset.manifest.task
    label = index_map(open_view(record.model_copy(update={"image": None}), task, work_root))
    if label is None:
        return [None] * len(sizes)
    return [
        tuple(float(p) for p in hit_probability(label, size, len(task.classes))) for size in sizes
    ]


def _choose(rows: Sequence[CaseFingerprint], n_classes: int, n_cases: int) -> list[CaseFingerprint]:
    """Evenly spread cases, and one more for every class that they do not show."""
    if not rows:
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(n_cases, len(rows))).round().astype(int))
    chosen = [rows[int(n)] for n in places]
    for position in range(n_classes):
        if not any(row.n_class_voxels[position] for row in chosen):
            chosen += [row for row in rows if row.n_class_voxels[position]][:1]
    return chosen


def _on_grid(patch: Shape3, from_mm: Spacing, to_mm: Spacing) -> Shape3:
    """The same patch in mm, in voxels of another grid."""
    i, j, k = (max(1, round(p * a / b)) for p, a, b in zip(patch, from_mm, to_mm, strict=True))
    return i, j, k


def _mean_where_present(
    rows: Sequence[Sequence[float]], n_classes: int
) -> tuple[float | None, ...]:
    means: list[float | None] = []
    for position in range(n_classes):
        values = [row[position] for row in rows if row[position] > 0]
        means.append(sum(values) / len(values) if values else None)
    return tuple(means)
