"""What kind of dataset a folder is, and which files are its cases."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import ConfigError, DataError, UsageError, did_you_mean
from pipeline.core.task import Region
from pipeline.core.text import some_of
from pipeline.io.layouts.bids import read_bids
from pipeline.io.layouts.case_folders import read_case_folders, read_class_masks
from pipeline.io.layouts.checks import checked_cases
from pipeline.io.layouts.class_tables import with_class_table
from pipeline.io.layouts.dicom import read_dicom
from pipeline.io.layouts.paired import (
    read_images_only,
    read_one_folder,
    read_parts,
    read_two_folders,
)
from pipeline.io.layouts.path_list import read_given_list, read_path_list
from pipeline.io.layouts.reading import Choice as Choice
from pipeline.io.layouts.reading import NoFit, Reader, Reading
from pipeline.io.layouts.reading import choice_for as choice_for
from pipeline.io.layouts.table import LIST_SUFFIXES
from pipeline.io.layouts.tree import files_in, folders_in, volumes_in
from pipeline.io.load import strip_suffix
from pipeline.io.pairing import CaseFiles as CaseFiles

# In this order; the first that finds labels is taken, so standards stand before guesses.
_READERS: dict[str, Reader] = {
    "decathlon": read_parts,
    "path_list": read_path_list,
    "bids": read_bids,
    "two_folders": read_two_folders,
    "class_masks": read_class_masks,
    "case_folders": read_case_folders,
    "one_folder": read_one_folder,
    "dicom": read_dicom,
    "images_only": read_images_only,
}
# nnU-Net's folders are Decathlon's with channel numbers.
_SAME_READER = {"nnunet": "decathlon"}
LAYOUTS = ("auto", *sorted((*_READERS, *_SAME_READER)))
# Only here has a case several files that names choose among.
_CHOOSING = ("bids", "case_folders", "class_masks", "path_list")
# These say by their folder names what they are, labels or not.
_UNMISTAKABLE = ("decathlon", "nnunet", "path_list")


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset folder, understood.

    Args:
        root: The folder that file names are relative to, absolute.
        name: Name for output folders.
        layout: Name of the layout, one of LAYOUTS.
        reason: What showed the layout, in words, and which others would have fitted.
        cases: Sorted by case id; label is None where there is none.
        problems: Files that could not be used, and faults of dataset.json.
        channel_names: From dataset.json or the names of the files; empty if neither says.
        modality_names: Words for the modality per channel, as in dataset.json; empty if unknown.
        class_values: Class name to the values of its voxels, without background; from dataset.json
            or the structures that labels name; None if nothing says.
        ignore_values: Values that dataset.json declares to be ignored.
        regions: Overlapping outputs that dataset.json declares over the classes.
        source: What was named as the dataset: `root`, a part of it, or a list in it.
    """

    root: Path
    name: str
    layout: str
    reason: str
    cases: tuple[CaseFiles, ...]
    problems: tuple[Problem, ...]
    channel_names: tuple[str, ...]
    modality_names: tuple[str, ...]
    class_values: dict[str, tuple[int, ...]] | None
    ignore_values: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    source: Path | None = None


def discover(
    root: Path,
    *,
    n_channels: int | None = None,
    layout: str = "auto",
    allow_links: bool = False,
    choice: Choice | None = None,
) -> DatasetFolder:
    """Find out how a folder is laid out and which files belong together. Reads no volume.

    Training folders (imagesTr) win over test folders (imagesTs); name the imagesTs folder itself
    to get the test cases, with their labels if labelsTs lies beside it. Hidden files are ignored.

    Args:
        root: The dataset folder, or a CSV or JSON list of paths.
        n_channels: Channels per case if known, such as those of a model; it settles whether
            "a_0000.nii.gz, a_0001.nii.gz" without labels are two channels or two cases.
        layout: One of LAYOUTS; "auto" takes the first that finds labels, else the first that fits.
        allow_links: Whether links may lead out of the folder; a list that is named itself may name
            files anywhere.
        choice: Which files of a case count, where there are several; overrides `n_channels`.

    Returns:
        Cases with and without label, and what could not be paired.

    Raises:
        UsageError: If there is no such folder or layout.
        ConfigError: If `choice` names files that are not there.
        DataError: If no layout fits, there is no volume, or dataset.json is damaged.
    """
    choice = choice or Choice(n_channels=n_channels)
    _check_layout(layout)
    is_list = root.is_file() and root.suffix.lower() in LIST_SUFFIXES
    place = root.absolute() if is_list else _existing_folder(root)
    if is_list:
        reading, reason = read_given_list(place, choice), ""
    else:
        reading, reason = _taken(place, choice, layout)
    usable, problems = checked_cases(
        reading.cases, reading.root, allow_links=allow_links or is_list
    )
    reading = with_class_table(replace(reading, cases=usable), choice)
    return DatasetFolder(
        root=reading.root,
        name=place.stem if is_list else _dataset_name(place),
        layout=reading.layout,
        reason=reading.reason + reason + _unused(choice, reading.layout),
        cases=reading.cases,
        problems=(*reading.problems, *problems),
        channel_names=reading.channel_names,
        modality_names=reading.modality_names,
        class_values=reading.class_values,
        ignore_values=reading.ignore_values,
        regions=reading.regions,
        source=place,
    )


def list_volumes(folder: Path) -> dict[str, Path]:
    """Volumes lying directly in a folder, by name without suffix.

    Args:
        folder: Where to look; hidden files and other folders are ignored.

    Returns:
        Sorted by name; empty if there is none.

    Raises:
        UsageError: If there is no such folder.
        DataError: If two files differ only by their suffix, such as .nii and .nii.gz.
    """
    files = volumes_in(_existing_folder(folder))
    names = Counter(strip_suffix(file.name) for file in files)
    doubled = sorted(name for name, n in names.items() if n > 1)
    if doubled:
        same = ", ".join(file.name for file in files if strip_suffix(file.name) == doubled[0])
        raise DataError(
            f"'{doubled[0]}' exists both as {same.replace(', ', ' and as ')}",
            where=str(folder),
            fix="keep one of the two",
        )
    return {strip_suffix(file.name): file for file in files}


def _existing_folder(folder: Path) -> Path:
    if folder.is_dir():
        return folder.absolute()
    if folder.exists():
        raise UsageError(
            "this is a file, not a folder",
            where=str(folder),
            fix="name its folder, or a .csv or .json list of cases",
        )
    raise UsageError("there is no such folder", where=str(folder), fix="check the path")


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise UsageError(
            f"there is no layout '{layout}'",
            where="--layout (ingest.layout)",
            fix=did_you_mean(layout, LAYOUTS),
        )


def _taken(root: Path, choice: Choice, layout: str) -> tuple[Reading, str]:
    """The reading to go on with, and a remark on why it and no other."""
    if layout != "auto":
        outcome = _READERS[_SAME_READER.get(layout, layout)](root, choice)
        if isinstance(outcome, NoFit):
            raise _no_layout(root, {layout: outcome})
        return outcome, f" (layout {layout} was asked for)"
    outcomes: dict[str, Reading | NoFit] = {}
    for name, reader in _READERS.items():
        # Looking into every DICOM file takes long, and only says more where nothing else did.
        is_needed = name != "dicom" or not any(map(_is_strong, outcomes.values()))
        if is_needed:
            outcomes[name] = _tried(reader, root, choice)
    fitting = [outcome for outcome in outcomes.values() if isinstance(outcome, Reading)]
    taken = next(filter(_is_strong, fitting), None)
    if taken is None:
        unfit = {name: o for name, o in outcomes.items() if isinstance(o, NoFit)}
        taken = _without_labels(root, fitting, unfit)
    rivals = [other for other in fitting if _is_rival(other, taken)]
    return taken, "".join(map(_remark, rivals))


def _without_labels(root: Path, fitting: Sequence[Reading], unfit: Mapping[str, NoFit]) -> Reading:
    """The first reading that finds images at least; else what stood in the way is raised."""
    # What was asked for and is nowhere explains more than images without labels.
    error = next((outcome.error for outcome in unfit.values() if outcome.error), None)
    if error is not None:
        raise error
    if not fitting:
        raise _no_layout(root, unfit)
    return fitting[0]


def _remark(other: Reading) -> str:
    return (
        f"; also fits {other.layout} ({other.reason}: {len(other.cases)} cases, "
        f"{other.n_labelled} labelled), which --layout {other.layout} would take"
    )


def _tried(reader: Reader, root: Path, choice: Choice) -> Reading | NoFit:
    try:
        return reader(root, choice)
    except ConfigError as error:
        return NoFit("files with the names in ingest.channels and ingest.label", error.what, error)


def _is_strong(outcome: Reading | NoFit) -> bool:
    return isinstance(outcome, Reading) and (
        outcome.n_labelled > 0 or outcome.layout in _UNMISTAKABLE
    )


def _is_rival(other: Reading, taken: Reading) -> bool:
    """Whether another reading would give other cases; the same images without labels are not."""
    if other is taken or (other.n_labelled == 0 and other.files <= taken.files):
        return False
    return other.n_labelled > 0 or taken.n_labelled == 0


def _no_layout(root: Path, outcomes: Mapping[str, NoFit]) -> DataError:
    folders, files = folders_in(root), files_in(root)
    inner = [path for path in folders if (path / "imagesTr").is_dir()]
    if inner:
        return DataError(
            "no layout fits this folder", where=str(root), fix=f"did you mean {inner[0]}?"
        )
    names = [f"{path.name}/" for path in folders] + [path.name for path in files]
    clues = [f"{name}: {outcome.found}" for name, outcome in outcomes.items() if outcome.found]
    what = (
        f"no layout fits; found {some_of(names, 6)}" if folders else "the folder holds no volumes"
    )
    what = "; ".join((what, *clues))
    looked_for = [f"{name}: {outcome.looked_for}" for name, outcome in outcomes.items()]
    return DataError(what, where=str(root), fix="\n         ".join(("looked for", *looked_for)))


def _unused(choice: Choice, layout: str) -> str:
    keys = [key for key in ("channels", "label") if getattr(choice, key) is not None]
    if not keys or layout in _CHOOSING:
        return ""
    names = " and ".join(f"ingest.{key}" for key in keys)
    return f"; {names} not used: this layout has nothing to choose from"


def _dataset_name(root: Path) -> str:
    """The folder's name; "imagesTs" alone would be the name of many datasets."""
    name = root.name or "dataset"
    generic = re.fullmatch(r"(images|labels)(tr|ts)?", name, re.IGNORECASE)
    return f"{root.parent.name}_{name}" if generic and root.parent.name else name
