"""What lies in a folder: volumes, series, folders. Hidden entries are never there."""

import os
import re
from dataclasses import replace
from pathlib import Path

from pipeline.artifacts import Problem
from pipeline.io.load import OTHER_SUFFIXES, is_volume_file, source_files, strip_suffix
from pipeline.io.pairing import CaseFiles, relative_name

IMAGE_WORDS = frozenset(
    (
        *("image", "images", "img", "imgs", "scan", "scans", "volume", "volumes", "vol", "vols"),
        *("dicom", "dicoms", "series"),
    )
)
LABEL_WORDS = frozenset(
    (
        *("label", "labels", "mask", "masks", "seg", "segs", "segmentation", "segmentations"),
        *("annotation", "annotations", "msk", "dseg", "gt", "truth", "groundtruth", "gold"),
        *("roi", "rois", "contour", "contours", "structures", "delineation", "manual"),
    )
)
MODALITY_WORDS = frozenset(
    (
        *("ct", "cta", "cbct", "pet", "suv", "mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd"),
        *("t1post", "t1n", "t2", "t2w", "t2f", "t2s", "t2starw", "flair", "dwi", "adc", "swi"),
        *("pd", "pdw", "bold", "dce", "asl"),
    )
)
# Arrays without a place in the world; other volumes that cannot be read stand in io/load.py.
_FOREIGN_SUFFIXES = (*OTHER_SUFFIXES, ".npy", ".npz", ".h5", ".hdf5", ".tif", ".tiff")
# DICOM files carry these four letters after a preamble of 128 bytes.
_DICOM_MARK = b"DICM"
_MARK_START = 128
# A folder of slices shows itself within its first files.
_N_PEEKED = 4
# Archives that macOS packed bring a folder of shadows of every file.
_SHADOW = "__MACOSX"


def folders_in(folder: Path) -> list[Path]:
    """Folders inside a folder, sorted by name."""
    return _entries(folder, are_folders=True)


def files_in(folder: Path) -> list[Path]:
    """Files inside a folder, sorted by name; links to nowhere are among them."""
    return _entries(folder, are_folders=False)


def volumes_in(folder: Path) -> list[Path]:
    """Volume files that can be read; single DICOM slices are none."""
    return [file for file in files_in(folder) if is_volume_file(file) and not _is_slice(file.name)]


def foreign_in(folder: Path) -> list[Path]:
    """Volume files of formats that cannot be read."""
    return [
        file
        for file in files_in(folder)
        if file.name.lower().endswith(_FOREIGN_SUFFIXES) and not is_volume_file(file)
    ]


def images_in(folder: Path) -> list[Path]:
    """Images of a folder with one entry per image: volume files and folders of DICOM series."""
    series = [entry for entry in folders_in(folder) if holds_dicom(entry)]
    return sorted((*volumes_in(folder), *series))


def labels_in(folder: Path) -> list[Path]:
    """Labels of a folder with one entry per label.

    Returns:
        Volume files, DICOM files (SEG, RTSTRUCT), folders that hold one such DICOM file (the file
        is not told apart from slices here), and folders of masks.
    """
    single = [file for file in files_in(folder) if is_volume_file(file) or is_dicom_file(file)]
    sets = [entry for entry in folders_in(folder) if volumes_in(entry) or holds_dicom(entry)]
    return sorted((*single, *sets))


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files lie directly in a folder."""
    return any(is_dicom_file(file) for file in files_in(folder)[:_N_PEEKED])


def is_dicom_file(file: Path) -> bool:
    """Whether a file is DICOM, by its mark; without one, by its suffix."""
    if is_volume_file(file) and not _is_slice(file.name):
        return False
    try:
        with file.open("rb") as stream:
            start = stream.read(_MARK_START + len(_DICOM_MARK))
    except OSError:  # links to nowhere, files without permission: reading them tells
        return _is_slice(file.name)
    return start[_MARK_START:] == _DICOM_MARK or _is_slice(file.name)


def with_label_files(case: CaseFiles) -> CaseFiles:
    """Look into a label that is a folder: one file per class, or the one DICOM label in it."""
    if case.label is None or not case.label.is_dir():
        return case
    if masks := volumes_in(case.label):
        return (
            replace(case, label=masks[0]) if len(masks) == 1 else replace(case, masks=tuple(masks))
        )
    inside = [file for file in files_in(case.label) if is_dicom_file(file)]
    return replace(case, label=inside[0]) if len(inside) == 1 else case


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: "T1_brain-mask" is t1, brain, mask."""
    return [word for word in re.split(r"[-_. ]+", name.lower()) if word]


def is_named(name: str, words: frozenset[str]) -> bool:
    """Whether one of the words occurs in a name."""
    return any(word in words for word in words_of(name))


def is_role_folder(name: str) -> bool:
    """Whether a folder's name gives it a role, so that it is no case: images, labelsTr."""
    plain = re.sub(r"(tr|ts|va|val)$", "", name.lower())
    return is_named(name, IMAGE_WORDS | LABEL_WORDS) or plain in IMAGE_WORDS | LABEL_WORDS


def is_label_name(name: str) -> bool:
    """Whether a file name, without suffix, says that it is a label.

    The last word decides if it is one of a label or of a modality ("label-22_ct" is an image);
    else any word does ("gold_standard_resampled" is a label).
    """
    words = words_of(name)
    if not words:
        return False
    if words[-1] in MODALITY_WORDS:
        return False
    return any(_is_label_word(word) for word in words)


def unsupported(file: Path, root: Path) -> Problem:
    """A volume of a format that cannot be read."""
    return Problem(
        check_id="F05",
        file=relative_name(file, root),
        message="this file format is not supported",
        fix="convert it to .nii.gz",
    )


def leads_out(path: Path, root: Path, known: dict[Path, bool]) -> bool:
    """Whether any file of a volume is reached through a link out of the dataset.

    Args:
        path: File or folder below the root, as found.
        root: Dataset folder, with its own links resolved.
        known: Whether folders looked at before lie outside; this one's is added.
    """
    place = path if path.is_dir() else path.parent
    if place not in known:
        known[place] = _is_outside(place, root)
    links = (file for file in (path, *source_files(path)) if file.is_symlink())
    return known[place] or any(_is_outside(link, root) for link in links)


def _is_outside(place: Path, root: Path) -> bool:
    return not Path(os.path.realpath(place)).is_relative_to(root)


def stem(path: Path) -> str:
    """Name without format suffix; a folder keeps its name."""
    return path.name if path.is_dir() else strip_suffix(path.name)


def _entries(folder: Path, *, are_folders: bool) -> list[Path]:
    # A directory knows what its entries are: asking the disk for each of thousands takes seconds.
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if _is_visible(entry.name) and entry.is_dir() == are_folders
        ]
    return [folder / name for name in sorted(names)]


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != _SHADOW


def _is_slice(name: str) -> bool:
    return name.lower().endswith((".dcm", ".ima"))


def _is_label_word(word: str) -> bool:
    # "lesionmask", "tumorseg" are common; "noseg" or "t1seg" still name a segmentation.
    return word in LABEL_WORDS or word.endswith(("mask", "seg", "label", "segmentation"))
