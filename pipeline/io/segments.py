"""Label maps from files that name their structures: merged to one map, numbered by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pipeline.core.errors import FileFormatError
from pipeline.io.raw import RawVolume, Segment

# A label map with larger numbers is none.
_MAX_VALUE = 65535
# Larger than any class value.
_PAIR_BASE = 1 << 31
_MAX_NAMED = 3


def merge_segments(
    raw: RawVolume, class_values: Mapping[str, tuple[int, ...]] | None, file: Path
) -> tuple[Shaped[np.ndarray, "i j k"], dict[str, int]]:
    """Make one label map of a segmentation with named structures, which may lie in layers.

    A structure gets the first value of its name in `class_values`; 0 leaves it out. Without such a
    table it keeps its own number; where two structures have the same number (each layer counts from
    1), all are numbered from 1 in the order of the file.

    Args:
        raw: Voxels (i, j, k) or (i, j, k, layer), and the segments.
        class_values: Values of each class name, or None.
        file: For the error message.

    Returns:
        Label map, and the value of each name in it.

    Raises:
        FileFormatError: F05 if two segments have one name, a name is not in the table, or voxels
            belong to no segment; F06 if there are no such layers; E10 if segments overlap.
    """
    _check_names(raw.segments, class_values, file)
    values = _new_values(raw.segments, class_values)
    layers = raw.array[..., np.newaxis] if raw.array.ndim == 3 else raw.array
    n_layers = 1 + max(segment.layer for segment in raw.segments)
    if raw.array.dtype.kind not in "iu" or n_layers > layers.shape[3]:
        raise _unusable("F06", "the segments do not fit to the voxels of the file", file)
    merged: Shaped[np.ndarray, "i j k"] | None = None
    for number in range(layers.shape[3]):
        inside = [segment for segment in raw.segments if segment.layer == number]
        layer = _renumbered(layers[..., number], inside, values, file)
        if merged is None:
            merged = layer
            continue
        _check_overlap(merged, layer, values, file)
        np.maximum(merged, layer, out=merged)
    if merged is None:
        raise _unusable("F06", "the segmentation has no voxels", file)
    return merged, {name: value for name, value in values.items() if value}


def _check_names(
    segments: Sequence[Segment], class_values: Mapping[str, tuple[int, ...]] | None, file: Path
) -> None:
    names = [segment.name for segment in segments]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise _unusable("F05", f"two segments are named '{doubled[0]}'", file)
    owner: dict[tuple[int, int], str] = {}
    for segment in segments:
        other = owner.setdefault((segment.layer, segment.value), segment.name)
        if other != segment.name:
            what = f"segments '{other}' and '{segment.name}' have the same number and layer"
            raise _unusable("F05", what, file)
    unknown = [name for name in names if class_values is not None and name not in class_values]
    if unknown:
        known = ", ".join(sorted(class_values or {}))
        raise _unusable(
            "F05", f"segment '{unknown[0]}' is no class of the data set (classes: {known})", file
        )


def _new_values(
    segments: Sequence[Segment], class_values: Mapping[str, tuple[int, ...]] | None
) -> dict[str, int]:
    if class_values is not None:
        return {segment.name: class_values[segment.name][0] for segment in segments}
    own = {segment.name: segment.value for segment in segments}
    if len(set(own.values())) == len(own):
        return own
    return {segment.name: number for number, segment in enumerate(segments, start=1)}


def _renumbered(
    layer: Shaped[np.ndarray, "i j k"],
    segments: Sequence[Segment],
    values: Mapping[str, int],
    file: Path,
) -> Shaped[np.ndarray, "i j k"]:
    low, high = int(layer.min()), int(layer.max())
    if low < 0 or high > _MAX_VALUE:
        raise _unusable("F05", f"the label map holds values from {low} to {high}", file)
    table = np.full(high + 1, -1, dtype=np.int64)
    table[0] = 0
    for segment in segments:
        if 0 < segment.value <= high:
            table[segment.value] = values[segment.name]
    dtype = np.min_scalar_type(max(0, *values.values()))
    # Numbers that no voxel has need no place in the small type.
    lookup = np.maximum(table, 0).astype(dtype)
    result = np.empty(layer.shape, dtype, order="F")
    # Slice by slice: an index array takes eight bytes per voxel.
    for k in range(layer.shape[2]):
        plane = layer[:, :, k]
        unnamed = np.flatnonzero(np.bincount(plane.ravel(), minlength=high + 1)[table < 0])
        if len(unnamed):
            value = int(np.flatnonzero(table < 0)[unnamed[0]])
            raise _unusable("F05", f"voxels of value {value} belong to no segment", file)
        result[:, :, k] = lookup[plane]
    return result


def _check_overlap(
    merged: Shaped[np.ndarray, "i j k"],
    layer: Shaped[np.ndarray, "i j k"],
    values: Mapping[str, int],
    file: Path,
) -> None:
    both = (merged > 0) & (layer > 0) & (merged != layer)
    n_voxels = int(np.count_nonzero(both))
    if n_voxels == 0:
        return
    name_of = {value: name for name, value in values.items()}
    # One number per pair: millions of voxels overlap where a body lies around organs.
    codes = np.unique(merged[both].astype(np.int64) * _PAIR_BASE + layer[both])
    pairs = [divmod(int(code), _PAIR_BASE) for code in codes[:_MAX_NAMED]]
    names = "; ".join(f"{name_of[a]} and {name_of[b]}" for a, b in pairs)
    raise FileFormatError(
        f"segments overlap in {n_voxels} voxels: {names}",
        check_id="E10",
        where=str(file),
        fix="a label map holds one class per voxel: export the segments without overlap",
    )


def _unusable(check_id: str, what: str, file: Path) -> FileFormatError:
    fix = "name every segment once, as the other label files of the data set do, and export again"
    return FileFormatError(what, check_id=check_id, where=str(file), fix=fix)
