"""A folder per case: several images and a label (BraTS), or an image and one file per class.

```
case_01/case_01_flair.nii.gz  case_01/case_01_t1.nii.gz  case_01/case_01_seg.nii.gz
s0001/ct.nii.gz               s0001/segmentations/liver.nii.gz  s0001/segmentations/spleen.nii.gz
```
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.io.layouts.assemble import CaseParts, assemble
from pipeline.io.layouts.reading import Choice, NoFit, Reading
from pipeline.io.layouts.roles import find_role, named_roles
from pipeline.io.layouts.tree import (
    IMAGE_WORDS,
    LABEL_WORDS,
    MODALITY_WORDS,
    folders_in,
    is_label_name,
    is_named,
    is_role_folder,
    volumes_in,
)

# Data sets group their cases at most by site and session.
_MAX_DEPTH = 4
_CHANNELS_AND_LABEL = "a folder per case with its channels and a label (BraTS)"
_MASKS = "a folder per case with an image and a folder of masks, one per class (TotalSegmentator)"


def read_case_folders(root: Path, choice: Choice) -> Reading | NoFit:
    """Read a folder per case with one file per channel and one label file.

    Args:
        root: Dataset folder; the case folders may lie a few levels down. Where the number of
            channels is known and the folder itself holds so many images, it is the only case.
        choice: Which files are the channels, and which one the label.

    Returns:
        The cases; channels are those images that most cases have, in the order of their names.

    Raises:
        ConfigError: If a channel or label is asked for that no case has.
    """
    found = _single_case(root, choice) or _find_cases(root)
    if not found:
        return NoFit(_CHANNELS_AND_LABEL)
    if _has_masks(found):
        return NoFit(_CHANNELS_AND_LABEL, "folders with one file per class")
    reading = assemble(found, root, choice, layout="case_folders", looked_for=_CHANNELS_AND_LABEL)
    return _with_place(reading)


def read_class_masks(root: Path, choice: Choice) -> Reading | NoFit:
    """Read a folder per case with an image and a folder that holds one mask file per class.

    Raises:
        ConfigError: If a channel or label is asked for that no case has.
    """
    found = _find_cases(root)
    if not _has_masks(found):
        return NoFit(_MASKS)
    return _with_place(assemble(found, root, choice, layout="class_masks", looked_for=_MASKS))


def _with_place(reading: Reading | NoFit) -> Reading | NoFit:
    if isinstance(reading, NoFit):
        return reading
    return replace(reading, reason=f"a folder per case: {reading.reason}")


def _has_masks(found: Iterable[CaseParts]) -> bool:
    return any(len(parts.masks) > 1 for parts in found)


def _single_case(root: Path, choice: Choice) -> list[CaseParts]:
    if choice.n_channels is None or choice.n_channels < 2:
        return []
    parts = _parts_of(root, root.parent)
    # Volumes that only happen to be as many could each be a case with all channels in it.
    is_told = all(find_role(name, parts.images) for name in choice.expected or ("",))
    is_told = is_told or all(is_named(role, MODALITY_WORDS) for role in parts.images)
    return [parts] if is_told and len(parts.images) == choice.n_channels else []


def _find_cases(root: Path) -> list[CaseParts]:
    places = list(_search(root, _MAX_DEPTH))
    names = Counter(place.name.lower() for place in places)
    # Same names at several sites or sessions: the whole way down tells them apart.
    return [_parts_of(p, root if names[p.name.lower()] > 1 else p.parent) for p in places]


def _search(folder: Path, depth: int) -> Iterable[Path]:
    """Folders below that hold volumes, or a folder of images beside one of labels."""
    for path in folders_in(folder):
        if is_role_folder(path.name):
            continue
        if volumes_in(path) or _inner(path, IMAGE_WORDS):
            yield path
        elif depth > 1:
            yield from _search(path, depth - 1)


def _parts_of(place: Path, above: Path) -> CaseParts:
    files = volumes_in(place)
    for inner in _inner(place, IMAGE_WORDS):
        files += volumes_in(inner)
    roles = named_roles(files, place.name)
    mask_dirs = _inner(place, LABEL_WORDS)
    mask_dir = mask_dirs[0] if len(mask_dirs) == 1 else None
    return CaseParts(
        case_id="_".join(place.relative_to(above).parts),
        place=place,
        images={role: file for role, file in roles.items() if not is_label_name(role)},
        labels={role: file for role, file in roles.items() if is_label_name(role)},
        mask_dir=mask_dir,
        masks=tuple(volumes_in(mask_dir)) if mask_dir is not None else (),
    )


def _inner(place: Path, words: frozenset[str]) -> list[Path]:
    return [path for path in folders_in(place) if is_named(path.name, words) and volumes_in(path)]
