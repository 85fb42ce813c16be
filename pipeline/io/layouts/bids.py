"""BIDS: raw images by subject and session, labels among the derivatives.

```
sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz
```
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.io.layouts.assemble import CaseParts, assemble
from pipeline.io.layouts.reading import Choice, NoFit, Reading
from pipeline.io.layouts.tree import folders_in, stem, volumes_in

_LOOKED_FOR = "sub-*/ folders with labels in derivatives/ (BIDS)"
_LABEL_SUFFIXES = frozenset(("dseg", "mask", "msk", "seg", "roi"))
# Time series and field maps are no channels of an anatomical segmentation.
_OTHER_DATA = frozenset(("func", "fmap", "meg", "eeg", "ieeg", "beh"))
# derivatives/<pipeline>/<version>/sub-*: nobody goes deeper.
_MAX_DEPTH = 4


def read_bids(root: Path, choice: Choice) -> Reading | NoFit:
    """Read subjects and sessions; their names are the case ids.

    Args:
        root: Dataset folder, holding sub-*/ itself or in rawdata/, and derivatives/.
        choice: Which images are the channels, and which label counts.

    Returns:
        One case per subject and session. Channels are the suffixes that most cases have.

    Raises:
        ConfigError: If a channel or label is asked for that no case has.
    """
    raw = next((place for place in (root, root / "rawdata") if _subjects(place)), None)
    if raw is None:
        return NoFit(_LOOKED_FOR)
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    labels: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in _volumes_below(_subjects(raw)):
        case_id, role = _entities(file)
        (labels if _is_label(role) else images)[case_id][role] = file
    for subjects in _derivatives(root / "derivatives", _MAX_DEPTH):
        for file in _volumes_below(subjects):
            case_id, role = _entities(file)
            if _is_label(role):
                labels[case_id].setdefault(role, file)
    if not images:
        return NoFit(_LOOKED_FOR, "subjects without images")
    found = [
        CaseParts(case_id, raw / case_id.split("_")[0], files, _labels_of(case_id, labels))
        for case_id, files in sorted(images.items())
    ]
    reading = assemble(found, root, choice, layout="bids", looked_for=_LOOKED_FOR)
    if isinstance(reading, NoFit):
        return reading
    return replace(reading, reason=f"sub-*/ folders: {reading.reason}")


def _labels_of(case_id: str, labels: dict[str, dict[str, Path]]) -> dict[str, Path]:
    """Labels of a session; those of the subject where nobody wrote the session."""
    return labels.get(case_id) or labels.get(case_id.split("_")[0]) or {}


def _subjects(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folders_in(folder) if path.name.startswith("sub-")]


def _derivatives(folder: Path, depth: int) -> Iterable[list[Path]]:
    """Every list of subject folders below `derivatives/`."""
    if subjects := _subjects(folder):
        yield subjects
    elif folder.is_dir() and depth:
        for inner in folders_in(folder):
            yield from _derivatives(inner, depth - 1)


def _volumes_below(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        yield from (file for file in volumes_in(folder) if file.name.startswith("sub-"))
        inner = [path for path in folders_in(folder) if path.name not in _OTHER_DATA]
        yield from _volumes_below(inner)


def _entities(file: Path) -> tuple[str, str]:
    """Split "sub-01_ses-2_acq-a_T1w" into the case "sub-01_ses-2" and the rest."""
    parts = stem(file).split("_")
    is_case = [part.startswith(("sub-", "ses-")) for part in parts]
    case = [part for part, is_its in zip(parts, is_case, strict=True) if is_its]
    rest = [part for part, is_its in zip(parts, is_case, strict=True) if not is_its]
    return "_".join(case), "_".join(rest) or "image"


def _is_label(role: str) -> bool:
    return role.split("_")[-1].lower() in _LABEL_SUFFIXES
