"""Which classes there are when only two folders are given: described, or as found in the labels."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError, VoxlineError
from pipeline.core.task import LabelClass, Task
from pipeline.io.description import Description, read_description
from pipeline.io.load import load_volume

# Atlases reach a few hundred structures; thousands of values are intensities.
MAX_FOUND_VALUES = 1000

_log = logging.getLogger(__name__)


def find_task(references: Mapping[str, Path]) -> Task:
    """Find the classes of reference labels that come without a trained model or an ingested set.

    `dataset.json` in the folder of the labels, or beside it, names them. Without one, every value
    found in the references is a class.

    Args:
        references: Case id to label file; at least one.

    Returns:
        The task, without channels.

    Raises:
        DataError: If `dataset.json` is broken, the references hold no structure at all, or so many
            values that they cannot be labels.
    """
    described = _description(references)
    values = described.class_values if described is not None else None
    if described is None or values is None:
        return Task(channels=(), classes=_classes(_found_values(references)))
    return Task(
        channels=(),
        classes=_classes(values),
        ignore_values=described.ignore_values,
        regions=described.regions,
    )


def _classes(values: Mapping[str, tuple[int, ...]]) -> tuple[LabelClass, ...]:
    return tuple(
        LabelClass(name=name, index=index, source_values=numbers)
        for index, (name, numbers) in enumerate(values.items(), start=1)
    )


def _description(references: Mapping[str, Path]) -> Description | None:
    folder = next(iter(references.values())).resolve().parent
    for place in (folder, folder.parent):
        description = read_description(place)
        for problem in description.problems:
            _log.warning("%s: %s", place / problem.file, problem.message)
        if description.class_values:
            _log.info("class names come from %s", place / "dataset.json")
            return description
    return None


def _found_values(references: Mapping[str, Path]) -> dict[str, tuple[int, ...]]:
    found: set[int] = set()
    for file in references.values():
        found |= _values_in(file)
        if len(found) > MAX_FOUND_VALUES:
            raise DataError(
                f"the references hold more than {MAX_FOUND_VALUES} different values",
                where=str(file.parent),
                fix="give the folder of the label maps, not of the images",
            )
    found.discard(0)
    if not found:
        raise DataError(
            "the references hold no structure: every voxel is background",
            where=str(next(iter(references.values())).parent),
            fix="give the folder of the label maps",
        )
    _log.info("no dataset.json beside the references: one class per value found in them")
    return {f"class_{value}": (value,) for value in sorted(found)}


def _values_in(file: Path) -> set[int]:
    try:
        _, label = load_volume(file, root=file.parent, role="label")
    except VoxlineError:
        return set()  # scoring names the file and what is wrong with it
    values = np.unique(label.array)
    is_whole = np.isfinite(values) & (values == np.rint(values))
    return {int(value) for value in values[is_whole]}
