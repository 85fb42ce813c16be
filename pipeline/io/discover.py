"""What kind of dataset a folder is, and which files are its cases."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError, UsageError
from pipeline.io.description import DESCRIPTION_NAME, Description, read_description
from pipeline.io.load import OTHER_SUFFIXES, is_volume_file, strip_suffix
from pipeline.io.pairing import CaseFiles as CaseFiles
from pipeline.io.pairing import Pairing, pair_files, relative_name, split_channel

_IMAGE_WORDS = frozenset(
    ("image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "vol", "vols")
)
_LABEL_WORDS = frozenset(
    (
        *("label", "labels", "mask", "masks", "seg", "segs", "segmentation", "segmentations"),
        *("annotation", "annotations"),
    )
)
_ACCEPTED = (
    "imagesTr/ with labelsTr/ (Decathlon, nnU-Net), two folders such as images/ and labels/, "
    "or a folder of .nii.gz or .nii files"
)


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset folder, understood.

    Args:
        root: The folder that file names are relative to, absolute.
        name: Name for output folders.
        layout: "decathlon", "nnunet", "two_folders" or "images_only".
        reason: What showed the layout, in words.
        cases: Sorted by case id; label is None where there is none.
        problems: Files that could not be used, and faults of dataset.json.
        channel_names: From dataset.json; empty if it does not say.
        modality_names: Words for the modality per channel, as in dataset.json; empty if unknown.
        class_values: From dataset.json: class name to the values of its voxels, without
            background; None if it does not say.
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


@dataclass(frozen=True)
class _Found:
    root: Path
    layout: str
    images: Path
    labels: Path | None


def discover(root: Path, *, n_channels: int | None = None) -> DatasetFolder:
    """Find out how a folder is laid out and which files belong together. Reads no volume.

    Training folders (imagesTr) win over test folders (imagesTs); name the imagesTs folder itself
    to get the test cases, with their labels if labelsTs lies beside it. Hidden files are ignored.

    Args:
        root: The dataset folder.
        n_channels: Channels per case if known, such as those of a model; it settles whether
            "a_0000.nii.gz, a_0001.nii.gz" without labels are two channels or two cases.

    Returns:
        Cases with and without label, and what could not be paired.

    Raises:
        UsageError: If there is no such folder.
        DataError: If no layout fits, there is no volume, or dataset.json is damaged.
    """
    root = _existing_folder(root)
    found = _find_layout(root)
    name = _dataset_name(root)
    root = found.root
    description = read_description(root)
    images, other_images = _volume_files(found.images)
    labels, other_labels = _volume_files(found.labels) if found.labels else ([], [])
    unsupported = tuple(_unsupported(file, root) for file in (*other_images, *other_labels))
    if not images:
        raise _no_images(found.images, [*other_images, *other_labels])
    by_channel = None if labels else _looks_by_channel(images, description, n_channels)
    listed = _listed_cases(description, images, labels)
    taken = {file for case in listed for file in (*case.images, case.label)}
    pairing = pair_files(
        [file for file in images if file not in taken],
        [file for file in labels if file not in taken],
        root=root,
        by_channel=by_channel,
    )
    cases = _sorted_unique((*listed, *pairing.cases), root)
    return DatasetFolder(
        root=root,
        name=name,
        layout=_layout_name(found, pairing, description),
        reason=_reason(found, pairing, root),
        cases=cases,
        problems=(
            *description.problems,
            *(
                _missing_listed(description, root)
                or _miscounted(description, found, cases, pairing)
            ),
            *pairing.problems,
            *unsupported,
        ),
        channel_names=description.channel_names,
        modality_names=description.channel_names,
        class_values=description.class_values,
    )


def list_volumes(folder: Path) -> dict[str, Path]:
    """Volumes lying directly in a folder, by name without suffix.

    Args:
        folder: Where to look; hidden files and other folders are ignored.

    Returns:
        Sorted by name; empty if there is none.

    Raises:
        UsageError: If there is no such folder.
        DataError: If two files differ only by .nii and .nii.gz.
    """
    files, _ = _volume_files(_existing_folder(folder))
    names = Counter(strip_suffix(file.name) for file in files)
    doubled = sorted(name for name, n in names.items() if n > 1)
    if doubled:
        raise DataError(
            f"'{doubled[0]}' exists both as .nii and as .nii.gz",
            where=str(folder),
            fix="keep one of the two",
        )
    return {strip_suffix(file.name): file for file in files}


def _existing_folder(folder: Path) -> Path:
    if folder.is_dir():
        return folder.absolute()
    if folder.exists():
        raise UsageError("this is a file, not a folder", where=str(folder), fix="name its folder")
    raise UsageError("there is no such folder", where=str(folder), fix="check the path")


def _find_layout(root: Path) -> _Found:
    folders = {
        path.name.lower(): path
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    if parts := _find_part(root, folders):
        return parts
    image_dirs = [path for name, path in folders.items() if _is_named(name, _IMAGE_WORDS)]
    label_dirs = [path for name, path in folders.items() if _is_named(name, _LABEL_WORDS)]
    if len(image_dirs) > 1 or (image_dirs and len(label_dirs) > 1):
        names = ", ".join(path.name for path in (*image_dirs, *label_dirs))
        raise DataError(
            f"several folders could hold the images or the labels: {names}",
            where=str(root),
            fix="keep one folder of images and one of labels here",
        )
    if image_dirs:
        layout, labels = ("two_folders", label_dirs[0]) if label_dirs else ("images_only", None)
        return _Found(root, layout, image_dirs[0], labels)
    if any(_volume_files(root)):
        return _Found(root, "images_only", root, None)
    raise _no_layout(root, folders)


def _find_part(root: Path, folders: dict[str, Path]) -> _Found | None:
    """The training or test part of a Decathlon or nnU-Net folder."""
    for part in ("tr", "ts"):
        if images := folders.get(f"images{part}"):
            return _Found(root, "decathlon", images, folders.get(f"labels{part}"))
        if root.name.lower() == f"images{part}":
            # One part of a dataset was named: its labels and dataset.json lie beside it.
            beside = root.with_name(f"labels{root.name[-2:]}")
            return _Found(root.parent, "decathlon", root, beside if beside.is_dir() else None)
    return None


def _is_named(name: str, words: frozenset[str]) -> bool:
    return any(word in words for word in re.split(r"[-_. ]+", name))


def _no_layout(root: Path, folders: dict[str, Path]) -> DataError:
    if not folders:
        return DataError(
            "the folder holds no volumes", where=str(root), fix=f"it needs {_ACCEPTED}"
        )
    names = ", ".join(path.name for path in folders.values())
    inner = [path for path in folders.values() if (path / "imagesTr").is_dir()]
    fix = f"did you mean {inner[0]}?" if inner else f"looked for {_ACCEPTED}"
    return DataError(f"no layout fits; folders found: {names}", where=str(root), fix=fix)


def _no_images(folder: Path, others: list[Path]) -> DataError:
    if others:
        return DataError(
            f"the images are in a format that is not supported yet, such as {others[0].name}",
            where=str(folder),
            fix="convert them to .nii.gz",
        )
    return DataError(
        "the folder holds no images", where=str(folder), fix="looked for .nii.gz and .nii files"
    )


def _volume_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that can be read, and volumes of other formats; links to nowhere are among them."""
    files = [f for f in sorted(folder.iterdir()) if not f.name.startswith(".") and not f.is_dir()]
    readable = [f for f in files if is_volume_file(f)]
    others = [f for f in files if f.name.lower().endswith(OTHER_SUFFIXES) and not is_volume_file(f)]
    return readable, others


def _unsupported(file: Path, root: Path) -> Problem:
    return Problem(
        check_id="F05",
        file=relative_name(file, root),
        message="this file format is not supported yet",
        fix="convert it to .nii.gz",
    )


def _looks_by_channel(images: list[Path], description: Description, n_channels: int | None) -> bool:
    """Whether images without labels are named by channel; a lone series may as well be cases."""
    parts = [split_channel(strip_suffix(file.name)) for file in images]
    if any(channel is None for _, channel in parts):
        return False
    sizes = Counter(case for case, _ in parts)
    n_per_case = n_channels or len(description.channel_names) or None
    is_regular = len(set(sizes.values())) == 1 and {0} <= {channel for _, channel in parts}
    if n_per_case is not None:
        return is_regular and n_per_case in sizes.values()
    return description.declares_channels or (is_regular and (len(sizes) > 1 or len(images) == 1))


def _listed_cases(
    description: Description, images: list[Path], labels: list[Path]
) -> list[CaseFiles]:
    """Pairs of dataset.json whose names differ, so that names alone would not pair them."""
    there = {*images, *labels}
    return [
        CaseFiles(strip_suffix(image.name), (image,), label)
        for image, label in description.listed
        if image in there
        and label in there
        and strip_suffix(image.name) != strip_suffix(label.name)
    ]


def _missing_listed(description: Description, root: Path) -> list[Problem]:
    missing = [
        image
        for image, label in description.listed
        # nnU-Net's older files list images without their channel number.
        if not label.exists() or not (image.exists() or _first_channel(image).exists())
    ]
    if not missing:
        return []
    shown = ", ".join(relative_name(path, root) for path in missing[:3])
    return [
        Problem(
            check_id="E12",
            file=DESCRIPTION_NAME,
            message=f"{len(missing)} of {len(description.listed)} listed pairs are not there: "
            f"{shown}{' ...' if len(missing) > 3 else ''}",
            fix="add the files, or take them out of the list",
            severity="warning",
        )
    ]


def _miscounted(
    description: Description, found: _Found, cases: tuple[CaseFiles, ...], pairing: Pairing
) -> list[Problem]:
    """Whether there are as many labelled cases as promised; a test part has its own number."""
    n_promised = description.n_training
    is_test = found.images.name.lower() == "imagests"
    n_labelled = sum(case.label is not None for case in cases)
    # Files that lost their partner are reported by name (F01).
    n_explained = len(cases) + len(pairing.problems)
    if n_promised is None or is_test or n_labelled <= n_promised <= n_explained:
        return []
    is_short = n_labelled < n_promised
    return [
        Problem(
            check_id="E12",
            file=DESCRIPTION_NAME,
            message=f"numTraining promises {n_promised} labelled cases, found are {n_labelled}",
            fix="find the cases that were lost, or correct numTraining"
            if is_short
            else "correct numTraining, or take the cases out that do not belong to the dataset",
            severity="warning" if is_short else "info",
        )
    ]


def _first_channel(image: Path) -> Path:
    stem = strip_suffix(image.name)
    return image.with_name(f"{stem}_0000{image.name[len(stem) :]}")


def _sorted_unique(cases: Iterable[CaseFiles], root: Path) -> tuple[CaseFiles, ...]:
    ordered = tuple(sorted(cases, key=lambda case: case.case_id))
    doubled = [name for name, n in Counter(c.case_id for c in ordered).items() if n > 1]
    if doubled:
        raise DataError(
            f"two cases are called '{doubled[0]}'", where=str(root), fix="rename one of them"
        )
    return ordered


def _layout_name(found: _Found, pairing: Pairing, description: Description) -> str:
    is_nnunet = pairing.by_channel or description.declares_channels
    return "nnunet" if found.layout == "decathlon" and is_nnunet else found.layout


def _reason(found: _Found, pairing: Pairing, root: Path) -> str:
    images = relative_name(found.images, root)
    text = f"images in {'the folder itself' if images == '.' else images + '/'}"
    text += f", labels in {relative_name(found.labels, root)}/" if found.labels else ", no labels"
    return text + (", one file per channel (_0000)" if pairing.by_channel else "")


def _dataset_name(root: Path) -> str:
    """The folder's name; "imagesTs" alone would be the name of many datasets."""
    name = root.name or "dataset"
    generic = re.fullmatch(r"(images|labels)(tr|ts)?", name, re.IGNORECASE)
    return f"{root.parent.name}_{name}" if generic and root.parent.name else name
