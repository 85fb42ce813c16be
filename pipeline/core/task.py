"""What is to be segmented in which channels: as configured, and as found."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt
from pydantic import Field, field_validator

from pipeline.core.config import StrictModel
from pipeline.core.errors import DataError

Modality = Literal["ct", "mr", "pet", "other"]
# What a class is made of: values in the label files, or names that the dataset gives to values.
ClassSource = int | str | tuple[int | str, ...]

# A look-up table up to this many entries beats a binary search per voxel; label ids are small.
_MAX_TABLE_SIZE = 1 << 16


class Channel(StrictModel):
    """One image channel."""

    name: str
    modality: Modality


class LabelClass(StrictModel):
    """One structure to segment."""

    name: str
    index: int = Field(ge=1, description="value inside Voxline; 0 is background")
    source_values: tuple[int, ...] = Field(description="values in the label files")


class Region(StrictModel):
    """A union of classes that a network predicts as one of its outputs; regions may overlap."""

    name: str
    classes: tuple[str, ...] = Field(min_length=1, description="names of the classes inside it")
    paints: str = Field(description="class written into the label map where it is predicted")


class Task(StrictModel):
    """Channels and classes of a dataset, after everything was found or configured."""

    channels: tuple[Channel, ...]
    classes: tuple[LabelClass, ...]
    background_values: tuple[int, ...] = Field(
        default=(0,), description="values in the label files that become background"
    )
    ignore_values: tuple[int, ...] = Field(
        default=(), description="values of voxels that neither training nor scoring looks at"
    )
    regions: tuple[Region, ...] = Field(
        default=(),
        description="outputs of the network, painted in this order; empty: one per class",
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the foreground classes in index order."""
        return tuple(c.name for c in self.classes)

    @property
    def ignore_index(self) -> int | None:
        """Index that voxels to be ignored get; None if the task ignores none."""
        if not self.ignore_values:
            return None
        return 255 if len(self.classes) < 255 else 65535

    @property
    def n_outputs(self) -> int:
        """Channels of the network's output: one per region, else background and every class."""
        return len(self.regions) or len(self.classes) + 1

    @property
    def declared_values(self) -> frozenset[int]:
        """Every value a label file may hold."""
        return frozenset((*self.background_values, *self.ignore_values)).union(
            *(c.source_values for c in self.classes)
        )


class RegionConfig(StrictModel):
    """One entry of `task.regions`."""

    classes: tuple[str, ...] = Field(min_length=1, description="names of the classes inside it")
    paints: str | None = Field(
        default=None,
        description="class written where the region is predicted; else the one that no later "
        "region holds",
    )


class UnannotatedConfig(StrictModel):
    """Section `task.unannotated`: in which cases nobody drew a class, so that it may be there."""

    absent: tuple[str, ...] | Literal["all"] = Field(
        default=(),
        description="classes that were not annotated in every case whose label lacks them; all: "
        "every class",
    )
    cases: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="class name to the ids of cases it was not annotated in"
    )
    csv: Path | None = Field(
        default=None,
        description="table with the columns case_id and class, one row per class not annotated",
    )


class TaskConfig(StrictModel):
    """Section `task`: corrects or narrows what ingest finds. Everything may stay empty."""

    name: str | None = Field(default=None, description="name of the dataset; else its folder's")
    channels: tuple[str, ...] | None = Field(
        default=None, description="channel names in file order; else from dataset.json"
    )
    modality: tuple[Modality, ...] | None = Field(
        default=None, description="one of ct, mr, pet, other per channel; else from dataset.json"
    )
    classes: dict[str, ClassSource] | None = Field(
        default=None,
        description="class name to its value or values in the label files, or to names that the "
        "dataset itself gives (dataset.json, segments, mask files); else from the dataset, else "
        "one class per value found",
    )
    background: tuple[int, ...] | None = Field(
        default=None,
        description="label values that become background; else 0 and every value that "
        "dataset.json declares and `classes` does not select",
    )
    ignore: tuple[int, ...] | None = Field(
        default=None,
        description="label values of voxels that neither training nor scoring looks at; else "
        "the 'ignore' label of dataset.json",
    )
    regions: dict[str, tuple[str, ...] | RegionConfig] | None = Field(
        default=None,
        description="outputs of the network that may overlap: name to the classes inside, larger "
        "regions first; else from dataset.json; {} for one output per class",
    )
    unannotated: UnannotatedConfig = Field(
        default=UnannotatedConfig(), description="cases in which nobody drew a class"
    )

    @field_validator("classes")
    @classmethod
    def _check_classes(
        cls, classes: dict[str, ClassSource] | None
    ) -> dict[str, ClassSource] | None:
        seen: dict[int | str, str] = {}
        for name, values in (classes or {}).items():
            for value in values if isinstance(values, tuple) else (values,):
                if value in seen:
                    raise ValueError(f"{value!r} belongs to '{seen[value]}' and to '{name}'")
                if value == 0:
                    raise ValueError(f"value 0 is background and cannot be class '{name}'")
                seen[value] = name
        return classes


def map_label_values(label: Shaped[np.ndarray, "..."], task: Task) -> UInt[np.ndarray, "..."]:
    """Turn the values of a label file into class indices.

    Args:
        label: Values as in the file, any shape and number type; shape is kept.
        task: Says which value is which class.

    Returns:
        Class indices, 0 for background, `task.ignore_index` for what is to be ignored; uint8, or
        uint16 where indices do not fit.

    Raises:
        DataError: If a voxel holds a value the task does not declare, or no integer.
    """
    ignore = task.ignore_index
    dtype = np.dtype(np.uint8 if max(len(task.classes), ignore or 0) <= 255 else np.uint16)
    integers = _as_integers(label)
    pairs = [(value, 0) for value in task.background_values]
    pairs += [(value, c.index) for c in task.classes for value in c.source_values]
    pairs += [(value, ignore) for value in task.ignore_values if ignore is not None]
    values = np.array([value for value, _ in sorted(pairs)], dtype=np.int64)
    indices = np.array([index for _, index in sorted(pairs)], dtype=dtype)
    if not integers.size:
        return integers.astype(dtype)
    if values[0] >= 0 and values[-1] < _MAX_TABLE_SIZE:
        return _map_by_table(integers, values, indices)
    places = np.searchsorted(values, integers).clip(max=len(values) - 1)
    _refuse_undeclared(integers[values[places] != integers])
    return indices[places]


def _map_by_table(
    label: Shaped[np.ndarray, "..."],
    values: Shaped[np.ndarray, " n"],
    indices: Shaped[np.ndarray, " n"],
) -> Shaped[np.ndarray, "..."]:
    low, high = int(label.min()), int(label.max())
    last = int(values[-1])
    if low < 0 or high > last:
        # All of them, not only those beyond the table: the message is read to mend the task.
        _refuse_undeclared(label[~np.isin(label, values)])
    is_declared = np.zeros(last + 1, dtype=bool)
    is_declared[values] = True
    table = np.zeros(last + 1, dtype=indices.dtype)
    table[values] = indices
    if not is_declared.all():
        _refuse_undeclared(label[~np.take(is_declared, label)])
    return np.take(table, label)


def _as_integers(label: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    if label.dtype == bool:
        return label.astype(np.uint8)
    if label.dtype.kind == "u":
        # Unsigned 64-bit does not cast safely to an index; ids that large are undeclared anyway.
        return label if label.dtype.itemsize < 8 else label.astype(np.int64)
    if label.dtype.kind == "i":
        return label
    if not np.all(np.isfinite(label)):
        raise DataError("the label holds values that are not finite", fix=_FIX)
    rounded = np.rint(label)
    # 1e-3 is the audit's tolerance (E03): some tools write 2.0000002 for 2.
    if np.any(np.abs(label - rounded) > 1e-3):
        raise DataError("the label holds values that are not integers", fix=_FIX)
    return rounded.astype(np.int64)


def _refuse_undeclared(values: Shaped[np.ndarray, " n"]) -> None:
    if values.size:
        found = np.unique(values)
        shown = ", ".join(str(int(v)) for v in found[:8]) + (" ..." if found.size > 8 else "")
        raise DataError(f"the label holds values that no class declares: {shown}", fix=_FIX)


_FIX = "run the audit; declare the values in task.classes or task.background, or mend the label"
