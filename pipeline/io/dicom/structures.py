"""Named structures of a label file painted into one label map; overlaps are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Shape3
from pipeline.core.text import some_of

_MAX_NAMED = 8
_FIX_OVERLAP = "a label map holds one class per voxel: export the structures without overlap"


@dataclass(frozen=True)
class Structure:
    """One segment of a DICOM-SEG or one region of an RTSTRUCT on the grid of its image.

    Args:
        name: Name in the file.
        number: Segment or region number.
        voxels: Flat C-order indices into the grid (i, j, k), in any order.
    """

    name: str
    number: int
    voxels: Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Painted:
    """A label map with its legend.

    Args:
        array: Shape (i, j, k); 0 is background.
        segments: Name of each painted structure to its value.
        left_out: Names of structures that are no class of the task.
    """

    array: UInt[np.ndarray, "i j k"]
    segments: dict[str, int]
    left_out: tuple[str, ...]


def paint(
    structures: Sequence[Structure],
    shape: Shape3,
    class_values: Mapping[str, tuple[int, ...]] | None,
    where: Path,
) -> Painted:
    """Write structures into one label map.

    Args:
        structures: What the file holds.
        shape: Grid of the image.
        class_values: Values of each class name; a structure gets the first one of its name, one
            without a class or of value 0 is left out. None: each structure gets its number, plus 1
            where numbers begin at 0.
        where: Label file.

    Raises:
        FileFormatError: E10 if structures of different values overlap; E12 if none of them is a
            class.
    """
    legend = _legend(structures, class_values, where)
    highest = max(legend.values(), default=0)
    dtype = np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.uint32
    flat = np.zeros(int(np.prod(shape)), dtype)
    names: dict[int, str] = {}
    clashes: list[str] = []
    for key, structure in zip(_keys(structures, class_values), structures, strict=True):
        value = legend.get(key, 0)
        if value == 0:
            continue
        there = flat[structure.voxels]
        others = there[(there != 0) & (there != value)]
        for other, n in zip(*np.unique(others, return_counts=True), strict=True):
            clashes.append(f"'{names[int(other)]}' and '{structure.name}' in {int(n)} voxels")
        flat[structure.voxels] = value
        names[value] = structure.name
    if clashes:
        raise FileFormatError(
            f"structures overlap: {some_of(clashes, _MAX_NAMED)}",
            check_id="E10",
            where=str(where),
            fix=_FIX_OVERLAP,
        )
    left_out = tuple(s.name for s in structures if class_values and not legend.get(s.name))
    segments = {name: value for name, value in legend.items() if value}
    return Painted(flat.reshape(shape), segments, left_out)


def _keys(
    structures: Sequence[Structure], class_values: Mapping[str, tuple[int, ...]] | None
) -> list[str]:
    """The name of each structure, made distinct by its number where names repeat."""
    names = [structure.name for structure in structures]
    if class_values is not None:
        return names
    return [
        f"{s.name} #{s.number}" if names.count(s.name) > 1 or not s.name else s.name
        for s in structures
    ]


def _legend(
    structures: Sequence[Structure],
    class_values: Mapping[str, tuple[int, ...]] | None,
    where: Path,
) -> dict[str, int]:
    keys = _keys(structures, class_values)
    if class_values is None:
        # Some programs count regions from 0, which is background in a label map.
        shift = 1 if any(s.number == 0 for s in structures) else 0
        return {key: s.number + shift for key, s in zip(keys, structures, strict=True)}
    legend = {key: class_values[key][0] for key in keys if key in class_values}
    if structures and not legend:
        raise FileFormatError(
            f"no structure of the file is a class of the task: {some_of(keys, _MAX_NAMED)}",
            check_id="E12",
            where=str(where),
            fix=f"classes are {some_of(list(class_values), _MAX_NAMED)}; name them as in the file",
        )
    return legend
