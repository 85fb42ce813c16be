"""Images in one folder, labels in another: Decathlon, nnU-Net raw, any two folders, images alone.

```
imagesTr/case_0000.nii.gz  labelsTr/case.nii.gz  dataset.json      images/case/  labels/case.dcm
```
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.core.errors import DataError
from pipeline.io.description import DESCRIPTION_NAME, Description, read_description
from pipeline.io.layouts.reading import Choice, NoFit, Reading, described
from pipeline.io.layouts.tree import (
    IMAGE_WORDS,
    LABEL_WORDS,
    folders_in,
    foreign_in,
    images_in,
    is_label_name,
    is_named,
    labels_in,
    stem,
    unsupported,
    volumes_in,
    with_label_files,
)
from pipeline.io.pairing import CaseFiles, Pairing, pair_files, relative_name, split_channel

_PARTS = "imagesTr/ with labelsTr/ (Decathlon, nnU-Net)"
_TWO = "two folders such as images/ and labels/"
_ALONE = "volumes in the folder itself or in images/"


@dataclass(frozen=True)
class _Found:
    root: Path
    layout: str
    images: Path
    labels: Path | None


def read_parts(root: Path, choice: Choice) -> Reading | NoFit:
    """Read imagesTr/ and labelsTr/, or the test part; a part may be named itself.

    Args:
        root: Dataset folder, or its imagesTr or imagesTs.
        choice: How many channels a case has, if known.

    Returns:
        Training cases where there are any, else test cases.

    Raises:
        DataError: If dataset.json is damaged, or there is no volume in the folder of images.
    """
    folders = {path.name.lower(): path for path in folders_in(root)}
    for part in ("tr", "ts"):
        if images := folders.get(f"images{part}"):
            found = _Found(root, "decathlon", images, folders.get(f"labels{part}"))
            return _read(found, choice)
        if root.name.lower() == f"images{part}":
            # One part of a dataset was named: its labels and dataset.json lie beside it.
            beside = root.with_name(f"labels{root.name[-2:]}")
            labels = beside if beside.is_dir() else None
            return _read(_Found(root.parent, "decathlon", root, labels), choice)
    return NoFit(_PARTS)


def read_two_folders(root: Path, choice: Choice) -> Reading | NoFit:
    """Read a folder of images and one of labels that are named as such.

    Raises:
        DataError: If several folders could be either, or there is no volume in that of the images.
    """
    folders = [p for p in folders_in(root) if images_in(p) or labels_in(p) or foreign_in(p)]
    labels = [path for path in folders if is_named(path.name, LABEL_WORDS)]
    images = [p for p in folders if is_named(p.name, IMAGE_WORDS) and p not in labels]
    if not images or not labels:
        lone = ", ".join(f"{path.name}/" for path in (*images, *labels))
        return NoFit(_TWO, f"only {lone}" if lone else "")
    if len(images) > 1 or len(labels) > 1:
        names = ", ".join(path.name for path in (*images, *labels))
        raise DataError(
            f"several folders could hold the images or the labels: {names}",
            where=str(root),
            fix="keep one folder of images and one of labels here, or list the files in a CSV",
        )
    return _read(_Found(root, "two_folders", images[0], labels[0]), choice)


def read_one_folder(root: Path, choice: Choice) -> Reading | NoFit:
    """Read images and labels that lie in one folder: brain_image.nrrd with brain_label.nrrd."""
    files = volumes_in(root)
    labels = [file for file in files if is_label_name(stem(file))]
    images = [file for file in files if file not in labels]
    looked_for = "images and labels in one folder, told apart by words such as _label or _seg"
    if not labels or not images:
        return NoFit(looked_for, "no file is named as a label" if images else "")
    pairing = pair_files(images, labels, root=root)
    if not any(case.label for case in pairing.cases):
        return NoFit(looked_for, f"{labels[0].name} belongs to no image")
    found = _Found(root, "one_folder", root, root)
    return _complete(found, choice, read_description(root), pairing, foreign_in(root))


def read_images_only(root: Path, choice: Choice) -> Reading | NoFit:
    """Read volumes without labels."""
    named = [path for path in folders_in(root) if is_named(path.name, IMAGE_WORDS)]
    named = [path for path in named if images_in(path) or foreign_in(path)]
    if volumes_in(root) or foreign_in(root):
        return _read(_Found(root, "images_only", root, None), choice)
    if len(named) == 1:
        return _read(_Found(root, "images_only", named[0], None), choice)
    names = ", ".join(f"{path.name}/" for path in named)
    return NoFit(_ALONE, f"several folders of images: {names}" if named else "")


def _read(found: _Found, choice: Choice) -> Reading:
    description = read_description(found.root)
    images, labels = images_in(found.images), labels_in(found.labels) if found.labels else []
    foreign = [*foreign_in(found.images), *(foreign_in(found.labels) if found.labels else [])]
    if not images:
        raise _no_images(found.images, foreign)
    by_channel = None if labels else _looks_by_channel(images, description, choice.n_channels)
    listed = _listed_cases(description, images, labels)
    taken = {file for case in listed for file in (*case.images, case.label)}
    pairing = pair_files(
        [file for file in images if file not in taken],
        [file for file in labels if file not in taken],
        root=found.root,
        by_channel=by_channel,
    )
    both = replace(pairing, cases=(*listed, *pairing.cases))
    return _complete(found, choice, description, both, foreign)


def _complete(
    found: _Found, choice: Choice, description: Description, pairing: Pairing, foreign: list[Path]
) -> Reading:
    root = found.root
    cases = tuple(
        replace(filled, mask_order=choice.mask_order) if filled.masks else filled
        for filled in map(with_label_files, pairing.cases)
    )
    doubts = _missing_listed(description, root) or _miscounted(
        description, found, cases, len(pairing.problems)
    )
    reading = Reading(
        layout=_layout_name(found, pairing, description),
        root=root,
        reason=_reason(found, pairing, cases),
        cases=cases,
        problems=(*doubts, *pairing.problems, *(unsupported(file, root) for file in foreign)),
    )
    return described(reading, description)


def _no_images(folder: Path, foreign: list[Path]) -> DataError:
    if foreign:
        return DataError(
            f"the images are in a format that is not supported, such as {foreign[0].name}",
            where=str(folder),
            fix="convert them to .nii.gz",
        )
    return DataError(
        "the folder holds no images",
        where=str(folder),
        fix="looked for volume files such as .nii.gz, and for folders of DICOM files",
    )


def _looks_by_channel(images: list[Path], description: Description, n_channels: int | None) -> bool:
    """Whether images without labels are named by channel; a lone series may as well be cases."""
    parts = [split_channel(stem(file)) for file in images]
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
        CaseFiles(stem(image), (image,), label)
        for image, label in description.listed
        if image in there and label in there and stem(image) != stem(label)
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
    description: Description, found: _Found, cases: tuple[CaseFiles, ...], n_problems: int
) -> list[Problem]:
    """Whether there are as many labelled cases as promised; a test part has its own number."""
    n_promised = description.n_training
    is_test = found.images.name.lower() == "imagests"
    n_labelled = sum(case.label is not None for case in cases)
    # Files that lost their partner are reported by name (F01).
    n_explained = len(cases) + n_problems
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
    name = stem(image)
    return image.with_name(f"{name}_0000{image.name[len(name) :]}")


def _layout_name(found: _Found, pairing: Pairing, description: Description) -> str:
    is_nnunet = pairing.by_channel or description.declares_channels
    return "nnunet" if found.layout == "decathlon" and is_nnunet else found.layout


def _reason(found: _Found, pairing: Pairing, cases: tuple[CaseFiles, ...]) -> str:
    images = relative_name(found.images, found.root)
    text = f"images in {'the folder itself' if images == '.' else images + '/'}"
    if found.labels == found.images:
        text += ", labels beside them, told apart by their names"
    elif found.labels is not None:
        text += f", labels in {relative_name(found.labels, found.root)}/"
    else:
        text += ", no labels"
    text += ", one file per class" if any(case.masks for case in cases) else ""
    return text + (", one file per channel (_0000)" if pairing.by_channel else "")
