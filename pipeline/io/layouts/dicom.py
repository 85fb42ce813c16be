"""DICOM series in folders, with DICOM-SEG, RTSTRUCT or volume files as labels.

```
case_01/CT/000.dcm ...   case_01/seg.dcm          case_01/000.dcm ...   case_01/label.nii.gz
```
"""

import os
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import FileFormatError, UsageError
from pipeline.io.description import read_description
from pipeline.io.layouts.reading import Choice, NoFit, Reading, described, without_label
from pipeline.io.layouts.tree import (
    folders_in,
    holds_dicom,
    is_dicom_file,
    is_label_name,
    is_role_folder,
    stem,
    volumes_in,
)
from pipeline.io.pairing import CaseFiles, relative_name

_LOOKED_FOR = "folders of DICOM series"
# Exports nest patient, study, series; more levels are no export.
_MAX_DEPTH = 6


@dataclass(frozen=True)
class _Found:
    """Series folders by identity (copies have one), and label files with the one they refer to."""

    folders: tuple[Path, ...]
    folders_of: Mapping[str, Sequence[Path]]
    labels: tuple[tuple[Path, str], ...]
    problems: tuple[Problem, ...]


def read_dicom(root: Path, choice: Choice) -> Reading | NoFit:
    """Read folders of DICOM series; every series with a label is a case.

    A DICOM label belongs to the series it refers to; one that refers to none of them, and a volume
    file, to the only series of the closest folder above it.

    Args:
        root: Dataset folder, or the folder of one series.
        choice: Not needed here.

    Returns:
        Cases named by their folders. Where a folder of the first level has a labelled series, its
        series without labels are left out: scouts and other contrasts.
    """
    del choice
    if not _is_any_dicom(root, _MAX_DEPTH):
        return NoFit(_LOOKED_FOR)
    try:
        found = _find(root)
    except UsageError as error:
        return NoFit(_LOOKED_FOR, f"{error.what}; {error.fix}")
    if not found.folders:
        return NoFit(_LOOKED_FOR, "DICOM files, but no images among them")
    labels, problems = _labels_by_folder(found, root)
    folders = _with_labels_first(found.folders, labels, root)
    names = _case_ids(folders, root)
    cases = tuple(CaseFiles(names[path], (path,), labels.get(path)) for path in folders)
    if labels:
        problems += [without_label(case, root) for case in cases if case.label is None]
    n_left_out = len(found.folders) - len(folders)
    reading = Reading(
        layout="dicom",
        root=root,
        reason=f"{len(folders)} DICOM series, {len(labels)} with a label"
        + (f"; {n_left_out} series beside labelled ones left out" if n_left_out else ""),
        cases=cases,
        problems=(*found.problems, *problems),
    )
    return described(reading, read_description(root))


def _is_any_dicom(folder: Path, depth: int) -> bool:
    if holds_dicom(folder):
        return True
    return depth > 0 and any(_is_any_dicom(inner, depth - 1) for inner in folders_in(folder))


def _find(root: Path) -> _Found:
    # Imported here: needs the optional extra `dicom`.
    from pipeline.io.dicom.find import find_series, label_kind, referenced_series

    series = find_series(root)
    images = {file for one in series for file in one.files}
    labels: list[tuple[Path, str]] = []
    problems: list[Problem] = []
    for file in _dicom_files(root, images):
        try:
            if label_kind(file) is not None:
                labels.append((file, referenced_series(file)))
        except FileFormatError as error:
            problems.append(
                Problem(
                    check_id=error.check_id,
                    file=relative_name(file, root),
                    message=error.what,
                    fix=error.fix,
                )
            )
    folders = tuple(dict.fromkeys(one.folder for one in series))
    folders_of: dict[str, list[Path]] = defaultdict(list)
    for one in series:
        folders_of[one.series_uid].append(one.folder)
    return _Found(folders, folders_of, tuple(labels), tuple(problems))


def _dicom_files(root: Path, known: Container[Path]) -> Iterable[Path]:
    """DICOM files that are not known yet; the many slices are not opened again."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (Path(place) / name for name in sorted(names) if not name.startswith("."))
        yield from (file for file in files if file not in known and is_dicom_file(file))


def _labels_by_folder(found: _Found, root: Path) -> tuple[dict[Path, Path], list[Problem]]:
    """The label of every series folder; a series with several is left without."""
    labels: dict[Path, list[Path]] = defaultdict(list)
    problems: list[Problem] = []
    below = _series_below(found.folders, root)
    for file, uid in found.labels:
        folder = _closest(file, found.folders_of.get(uid, ())) or _only_series_near(file, below)
        if folder is None:
            problems.append(_of_no_series(file, root))
        else:
            labels[folder].append(file)
    for folder, files in _volumes_by_folder(below).items():
        # Any volume beside a series may be its label; of several, those that are called so.
        named = [file for file in files if is_label_name(stem(file))] if len(files) > 1 else files
        if folder not in labels and named:
            labels[folder] = named
    problems += [_several(files, root) for files in labels.values() if len(files) > 1]
    return {folder: files[0] for folder, files in labels.items() if len(files) == 1}, problems


def _series_below(folders: Sequence[Path], root: Path) -> dict[Path, list[Path]]:
    """The series in and below every folder on the way to one."""
    below: dict[Path, list[Path]] = defaultdict(list)
    for folder in folders:
        n_steps = len(folder.relative_to(root).parts)
        for place in (folder, *folder.parents[:n_steps]):
            below[place].append(folder)
    return dict(below)


def _volumes_by_folder(below: Mapping[Path, Sequence[Path]]) -> dict[Path, list[Path]]:
    """Volume files in the folders of series and above them, by the only series they are near."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for place in sorted(below):
        for file in volumes_in(place):
            if nearest := _only_series_near(file, below):
                found[nearest].append(file)
    return found


def _closest(file: Path, folders: Sequence[Path]) -> Path | None:
    """The copy of a series that a label lies closest to; None if several are as close."""
    shared = [len(Path(os.path.commonpath((file, folder))).parts) for folder in folders]
    nearest = [f for f, n in zip(folders, shared, strict=True) if n == max(shared)]
    return nearest[0] if len(nearest) == 1 else None


def _only_series_near(file: Path, below: Mapping[Path, Sequence[Path]]) -> Path | None:
    inside = next((below[place] for place in file.parents if place in below), ())
    return inside[0] if len(inside) == 1 else None


def _with_labels_first(
    folders: Sequence[Path], labels: Mapping[Path, Path], root: Path
) -> list[Path]:
    """Series folders without those that have no label though a neighbor has one."""
    labelled = {_first_level(folder, root) for folder in labels}
    return [f for f in folders if f in labels or _first_level(f, root) not in labelled]


def _first_level(folder: Path, root: Path) -> str:
    return (*folder.relative_to(root).parts, "")[0]


def _case_ids(folders: Sequence[Path], root: Path) -> dict[Path, str]:
    """Names from the folders on the way, without those that only say "image"."""
    parts = {
        folder: [part for part in folder.relative_to(root).parts if not is_role_folder(part)]
        or [root.name]
        for folder in folders
    }
    n_first = Counter(names[0] for names in parts.values())
    ids = {
        folder: names[0] if n_first[names[0]] == 1 else "_".join(names)
        for folder, names in parts.items()
    }
    n_ids = Counter(ids.values())
    # Several role folders of one case: then they have to tell the cases apart.
    return {
        folder: name if n_ids[name] == 1 else "_".join(folder.relative_to(root).parts)
        for folder, name in ids.items()
    }


def _of_no_series(file: Path, root: Path) -> Problem:
    return Problem(
        check_id="F01",
        file=relative_name(file, root),
        message="the label belongs to none of the series: it refers to none of them, and there "
        "are several close to it",
        fix="put it into the folder of its series, or pair both in a CSV list",
    )


def _several(files: Sequence[Path], root: Path) -> Problem:
    names = ", ".join(file.name for file in files)
    return Problem(
        check_id="F01",
        file=relative_name(files[0], root),
        message=f"several labels for one series: {names}",
        fix="keep one of them, or pair it with its series in a CSV list",
    )
