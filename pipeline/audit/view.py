"""What a check sees of one case: its record, its voxels, and its label values counted once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int16, Integer, Real
from pydantic import Field

from pipeline.artifacts import (
    CaseFingerprint,
    CaseRecord,
    DatasetManifest,
    FileFacts,
    Finding,
    Splits,
    StoredArray,
    Task,
)
from pipeline.audit.measures import CaseMeasures
from pipeline.core.config import StrictModel

Role = Literal["image", "label"]
ImageArray = Real[np.ndarray, "channel i j k"]
LabelArray = Real[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"]
# Beside an image, a faulty label may have any shape; the axis names differ to allow that.
_OtherLabelArray = Real[np.ndarray, "li lj lk"] | Bool[np.ndarray, "li lj lk"]

# Counting in pieces keeps memory flat: bincount widens its input to 8 bytes per voxel.
_CHUNK_VOXELS = 1 << 20
# Up to this range a histogram is quicker than sorting.
_MAX_HISTOGRAM = 1 << 16
# More values than this, or values this far from integers, are no label map.
MAX_MAP_VALUES = 1_000
MAX_FRACTION = 0.1
# Float labels beyond this are no labels; the bound only keeps the cast to integers defined.
_MAX_INTEGER = float(1 << 53)


@dataclass(frozen=True)
class LabelValues:
    """The distinct values of a label map, rounded to integers.

    Args:
        values: Distinct values in rising order.
        counts: Voxels of each value.
        max_fraction_part: Largest distance of a voxel from an integer.
        n_nonfinite: NaN and infinite voxels; they are not in `counts`.
    """

    values: Integer[np.ndarray, " n"]
    counts: Integer[np.ndarray, " n"]
    max_fraction_part: float
    n_nonfinite: int

    def count_of(self, values: tuple[int, ...]) -> int:
        """Number of voxels that hold any of the given values."""
        return int(self.counts[np.isin(self.values, values)].sum())


@dataclass(frozen=True)
class CaseView:
    """One case as the checks see it; arrays are None if they could not be read.

    Args:
        record: What ingest wrote down.
        task: Declared channels and classes.
        image: Shape (channel, i, j, k), axes running to R, A, S.
        label: Shape (i, j, k), values as in the file.
        values: Distinct values of the label.
        measures: What was measured of image and label, before the checks run.
        dataset_root: The dataset folder, for what only the source file tells; None if unknown.
    """

    record: CaseRecord
    task: Task
    image: ImageArray | None = None
    label: _OtherLabelArray | None = None
    values: LabelValues | None = None
    measures: CaseMeasures = field(default_factory=CaseMeasures)
    dataset_root: Path | None = None

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return self.record.case_id

    @property
    def is_aligned(self) -> bool:
        """Whether image and label are both there and share one grid shape."""
        return (
            self.image is not None
            and self.label is not None
            and self.image.shape[1:] == self.label.shape
        )

    def files(self) -> Iterator[tuple[Role, FileFacts]]:
        """Header facts of every file of the case."""
        for facts in self.record.image_files:
            yield "image", facts
        if self.record.label_file is not None:
            yield "label", self.record.label_file


class CaseRow(StrictModel):
    """What the audit keeps of one case; a second audit of unchanged data reads it back."""

    case_id: str
    findings: tuple[Finding, ...]
    fingerprint: CaseFingerprint | None = Field(description="None if the case cannot be used")
    n_voxels: int = Field(
        description="voxels of the label without those to be ignored; 0 if it cannot be interpreted"
    )
    n_class_voxels: tuple[int, ...] = Field(
        description="per foreground class, task order; 0 for those that were not annotated"
    )
    unannotated: tuple[str, ...] = Field(
        default=(), description="classes nobody drew in this case: their 0 is not an absence"
    )
    label_values: tuple[int, ...] = Field(description="distinct values as in the file")
    measures: CaseMeasures = Field(default_factory=CaseMeasures)


@dataclass(frozen=True)
class DatasetView:
    """All cases as the dataset checks see them.

    Args:
        manifest: What ingest found.
        rows: One per case, in the order of the manifest.
        splits: The folds over the usable cases; empty if there are too few.
    """

    manifest: DatasetManifest
    rows: tuple[CaseRow, ...]
    splits: Splits = field(default_factory=lambda: Splits(method="none", seed=0, folds=()))


def count_label_values(label: LabelArray) -> LabelValues:
    """Count the distinct values of a label map of any number type.

    Args:
        label: Shape (i, j, k).

    Returns:
        The values, rounded; how far they were from integers stands beside them.
    """
    if label.dtype.kind in "bui":
        values, counts = _count_integers(label.ravel())
        return LabelValues(values, counts, 0.0, 0)
    is_finite = np.isfinite(label)
    finite = label[is_finite].clip(-_MAX_INTEGER, _MAX_INTEGER)
    rounded = np.rint(finite)
    fraction = float(np.abs(finite - rounded).max()) if finite.size else 0.0
    values, counts = _count_integers(rounded.astype(np.int64))
    return LabelValues(values, counts, fraction, int(label.size - finite.size))


def _count_integers(
    flat: Real[np.ndarray, " n"] | Bool[np.ndarray, " n"],
) -> tuple[Integer[np.ndarray, " m"], Integer[np.ndarray, " m"]]:
    if flat.size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low, high = int(flat.min()), int(flat.max())
    if high - low >= _MAX_HISTOGRAM:
        values, counts = np.unique(flat, return_counts=True)
        return values.astype(np.int64), counts.astype(np.int64)
    histogram = np.zeros(high - low + 1, dtype=np.int64)
    for start in range(0, flat.size, _CHUNK_VOXELS):
        chunk = flat[start : start + _CHUNK_VOXELS].astype(np.int64) - low
        histogram += np.bincount(chunk, minlength=histogram.size)
    places = np.flatnonzero(histogram)
    return places + low, histogram[places]


def mask_of_values(label: LabelArray, values: tuple[int, ...]) -> Bool[np.ndarray, "i j k"]:
    """Where a label map holds any of the given values; float noise is rounded away.

    Args:
        label: Shape (i, j, k).
        values: Values as in the label file.

    Returns:
        Mask of the same shape.
    """
    integers = np.rint(np.nan_to_num(label)) if label.dtype.kind == "f" else label
    return np.isin(integers, values)


def count_classes(view: CaseView) -> tuple[int, ...]:
    """Voxels of every class, 0 for classes that were not annotated or without a label.

    Args:
        view: The case.

    Returns:
        One number per foreground class, task order.
    """
    values = view.values
    return tuple(
        0
        if values is None or c.name in view.record.unannotated
        else values.count_of(c.source_values)
        for c in view.task.classes
    )


def foreground_values(task: Task) -> tuple[int, ...]:
    """Every value in the label files that belongs to a class."""
    return tuple(value for c in task.classes for value in c.source_values)


def spatial_shape(stored: StoredArray) -> tuple[int, ...]:
    """Number of voxels along i, j, k of a stored array."""
    return stored.shape[-3:]


def index_map(view: CaseView) -> Int16[np.ndarray, "i j k"] | None:
    """Class index per voxel: 0 background, -1 a value that no class declares or to be ignored.

    Args:
        view: The case.

    Returns:
        The map; None if there is no label, or it holds an image or fractions instead of classes.
    """
    if view.label is None or view.values is None or not view.values.values.size:
        return None
    if view.values.values.size > MAX_MAP_VALUES or view.values.max_fraction_part > MAX_FRACTION:
        return None
    table = dict.fromkeys(view.task.background_values, 0)
    table |= {value: c.index for c in view.task.classes for value in c.source_values}
    values = view.values.values
    indices = np.array([table.get(int(v), -1) for v in values], dtype=np.int16)
    if view.label.dtype.kind in "bui" and np.array_equal(values, indices):
        # The usual case: files already hold class indices.
        return view.label.astype(np.int16)
    result = np.empty(view.label.shape, dtype=np.int16)
    n_planes = max(1, _CHUNK_VOXELS // max(1, int(np.prod(view.label.shape[1:]))))
    for first in range(0, view.label.shape[0], n_planes):
        planes = slice(first, first + n_planes)
        result[planes] = _look_up(view.label[planes], values, indices)
    return result


def _look_up(
    label: LabelArray, values: Integer[np.ndarray, " n"], indices: Int16[np.ndarray, " n"]
) -> Int16[np.ndarray, "i j k"]:
    rounded = np.rint(np.nan_to_num(label)) if label.dtype.kind == "f" else label
    integers = rounded.clip(values[0], values[-1]).astype(np.int64)
    span = int(values[-1] - values[0]) + 1
    if span > _MAX_HISTOGRAM:
        return indices[np.searchsorted(values, integers)]
    lookup = np.full(span, -1, dtype=np.int16)
    lookup[values - values[0]] = indices
    return lookup[integers - values[0]]
