"""One label map out of many files, each of which shows one class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import corner_displacement_voxels
from pipeline.core.text import some_of
from pipeline.core.volume import Volume
from pipeline.io.load import load_volume, strip_suffix
from pipeline.io.pairing import CaseFiles, relative_name

# Header noise between files of one tool; what is farther apart was drawn on another grid.
_MAX_SHIFT_VOXELS = 0.01


@dataclass(frozen=True)
class _Layer:
    """One mask: the class it shows, its value in the merged map, its file as messages name it."""

    name: str
    value: int
    path: Path
    file: str


def load_masks(case: CaseFiles, *, root: Path) -> tuple[FileFacts, Volume]:
    """Merge the masks of a case into one label map, on the grid of its first mask.

    Voxels of a mask that are not 0 belong to its class; the values are those of
    `case.label_values`, and without them 1, 2, ... in the order of the names. Masks of value 0 are
    not looked at.

    Args:
        case: A case with masks.
        root: Dataset folder that messages are relative to.

    Returns:
        Facts of the first file, under the name of the folder and with the values of all classes;
        and the label map (i, j, k).

    Raises:
        FileFormatError: What `load_volume` raises; E03 for a mask with more than one value besides
            0, E10 for classes that overlap without being listed in `case.mask_order`, G01 for masks
            on different grids.
    """
    everything = _layers(case, root)
    if not everything:
        raise FileFormatError("there are no masks", check_id="F01", where=case.case_id)
    wanted = [layer for layer in everything if layer.value]
    # Without any, the label is empty, on the grid of whatever mask there is.
    layers = sorted(wanted, key=lambda layer: _rank(layer.name, case.mask_order)) or everything[:1]
    facts, first = load_volume(layers[0].path, root=root, role="label")
    dtype = np.uint8 if max(layer.value for layer in layers) <= 255 else np.uint16
    merged = Volume(np.zeros(first.array.shape, dtype, order="F"), first.affine)
    clashes = _paint(merged, first, layers[0], layers, case.mask_order)
    for layer in layers[1:]:
        _, volume = load_volume(layer.path, root=root, role="label")
        _check_grid(merged, volume, facts.file, layer)
        clashes += _paint(merged, volume, layer, layers, case.mask_order)
    if clashes:
        raise FileFormatError(
            f"masks overlap: {some_of(clashes, 5)}",
            check_id="E10",
            where=_label_name(case, facts.file, root),
            fix="mend the masks, or list the names in ingest.mask_order, the one that wins last",
        )
    return _facts_of_all(facts, case, layers, root), merged


def mask_name(file: Path, case_id: str = "") -> str:
    """The class a mask shows, by its name: "case1_liver.nii.gz" of case1 is "liver"."""
    name = strip_suffix(file.name)
    short = name.removeprefix(case_id).lstrip("-_. ")
    return short or name


def _layers(case: CaseFiles, root: Path) -> list[_Layer]:
    names = [mask_name(file, case.case_id) for file in case.masks]
    values = case.label_values or {name: (n,) for n, name in enumerate(sorted(names), start=1)}
    return [
        _Layer(name, values[name][0], file, relative_name(file, root))
        for name, file in zip(names, case.masks, strict=True)
    ]


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else -1


def _paint(
    merged: Volume,
    volume: Volume,
    layer: _Layer,
    layers: Sequence[_Layer],
    order: Sequence[str],
) -> list[str]:
    """Write one class into the map; says which classes it met that it may not paint over."""
    mask = _as_mask(volume.array, layer)
    counts = np.bincount(merged.array[mask], minlength=1)
    merged.array[mask] = layer.value
    return [
        f"'{layer.name}' and '{below.name}' in {int(counts[below.value])} voxels"
        for below in layers
        if below.value != layer.value
        and below.value < len(counts)
        and counts[below.value]
        and not {below.name, layer.name} <= set(order)
    ]


def _as_mask(label: Shaped[np.ndarray, "i j k"], layer: _Layer) -> Bool[np.ndarray, "i j k"]:
    mask = np.asarray(label != 0)
    values = label[mask]
    # Written as 1, 255 or the number of the class: one value is a mask, whatever it is.
    if values.size and not (values.min() == values.max() and np.isfinite(values[0])):
        raise FileFormatError(
            f"a mask holds one value besides 0, this one has {values.min()} to {values.max()}",
            check_id="E03",
            where=layer.file,
            fix="write one mask per class, or one label map for all classes",
        )
    return mask


def _check_grid(merged: Volume, volume: Volume, first: str, layer: _Layer) -> None:
    is_same_shape = merged.shape == volume.shape
    if (
        is_same_shape
        and corner_displacement_voxels(merged.geometry, volume.geometry) <= _MAX_SHIFT_VOXELS
    ):
        return
    what = "other corners" if is_same_shape else f"shape {volume.shape}, not {merged.shape}"
    raise FileFormatError(
        f"the mask lies on another grid than {first}: {what}",
        check_id="G01",
        where=layer.file,
        fix="write all masks of a case on the grid of its image",
    )


def _facts_of_all(
    first: FileFacts, case: CaseFiles, layers: Sequence[_Layer], root: Path
) -> FileFacts:
    return first.model_copy(
        update={
            "file": _label_name(case, first.file, root),
            "n_bytes": sum(file.stat().st_size for file in case.masks),
            "segments": {layer.name: layer.value for layer in layers if layer.value},
        }
    )


def _label_name(case: CaseFiles, first: str, root: Path) -> str:
    return relative_name(case.label, root) if case.label is not None else first
