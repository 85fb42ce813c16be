"""Every volume file of the real data: geometry and voxels of the reference reader, or refused.

The table `every_file.csv` says which (DICOM has its own: `test_dicom_files.py`). The reference is
nibabel for NIfTI and SimpleITK for the rest. Where the two differ, nibabel's affine counts
(docs/explanation/geometry.md). Write the table anew with `python tests/real/test_every_file.py`
and read the difference.
"""

import csv
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from format_builders import simpleitk_view

from pipeline.core.errors import FileFormatError
from pipeline.io.load import HDR_SUFFIXES, OTHER_SUFFIXES, VOLUME_SUFFIXES, load_volume

TABLE = Path(__file__).with_name("every_file.csv")
TEXT_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
# Hundreds of alike files each: one line of the table stands for the folder.
LARGE = ("Task04_Hippocampus", "OpenKBP_HeadNeck")
# FreeSurfer keeps surfaces in NIfTI; nibabel folds their one long axis into three.
SURFACES = {"weird_nifti/niivue_tests/pval.LH.nii.gz"}
# nibabel does not look for an .img.gz beside a plain .hdr.
MIXED_PAIRS = {"weird_nifti/nifti_rs/minimal2.hdr", "weird_nifti/nifti_rs/minimal2.img.gz"}


class Row(NamedTuple):
    """What is expected of a file: "ok" or a check id, and words of the reason."""

    outcome: str
    reason: str


def volume_files(folder: Path) -> list[Path]:
    suffixes = (*VOLUME_SUFFIXES, *HDR_SUFFIXES, *OTHER_SUFFIXES)
    return sorted(
        file
        for file in folder.rglob("*")
        if file.name.lower().endswith(suffixes) and not file.name.startswith(".")
    )


def outcome_of(file: Path, root: Path) -> Row:
    """Load a file; if it loads, it must be what the reference reader makes of it."""
    try:
        facts, volume = load_volume(file, root=root, role="image")
    except FileFormatError as error:
        is_whole = bool(error.where and error.fix)
        return Row(error.check_id if is_whole else "no fix", error.what)
    name = file.relative_to(root).as_posix()
    array, affine = reference(file, name)
    if name in SURFACES:
        array = array.ravel(order="F").reshape(volume.array.shape, order="F")
    if volume.array.dtype == array.dtype:
        np.testing.assert_array_equal(volume.array, array, err_msg=name)
    else:  # rescaled: in 32 bits here, in 64 bits there
        np.testing.assert_allclose(volume.array, array, rtol=2e-6, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-9, err_msg=name)
    assert facts.file.startswith(name.split("/", maxsplit=1)[0])
    return Row("ok", "")


def reference(file: Path, name: str):
    """Voxels as (channel, i, j, k) and affine, by the reader that is right for the format."""
    if name.endswith(TEXT_SUFFIXES):
        return simpleitk_view(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in MIXED_PAIRS:
            header = file.with_name(file.name.removesuffix(".gz")).with_suffix(".hdr")
            return simpleitk_view(header)[0], nib.load(header).affine
        image = nib.load(file)
        array = np.asanyarray(image.dataobj)
    array = array.reshape(array.shape[:4], order="F")
    return array[np.newaxis] if array.ndim == 3 else np.moveaxis(array, 3, 0), image.affine


@cache
def table() -> dict[str, Row]:
    with TABLE.open(newline="", encoding="utf-8") as stream:
        return {row["path"]: Row(row["outcome"], row["reason"]) for row in csv.DictReader(stream)}


def folders(shared_data: Path) -> list[str]:
    return sorted(path.name for path in shared_data.iterdir() if path.is_dir())


def test_every_file_is_what_the_table_says(shared_data):
    found = {
        file.relative_to(shared_data).as_posix(): outcome_of(file, shared_data)
        for folder in folders(shared_data)
        if folder not in LARGE
        for file in volume_files(shared_data / folder)
    }
    # Files that are not in the table need only pass `outcome_of`: more data may lie here one day.
    listed = {name: row for name, row in found.items() if name in table()}
    assert len(listed) > 400
    assert {name: row.outcome for name, row in listed.items()} == {
        name: table()[name].outcome for name in listed
    }
    for name, row in listed.items():
        assert table()[name].reason in row.reason, name


@pytest.mark.parametrize("folder", LARGE)
def test_the_first_of_a_large_folder_are_alike(shared_data, folder):
    files = volume_files(shared_data / folder)[::40]
    assert {outcome_of(file, shared_data).outcome for file in files} <= {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", LARGE)
def test_all_of_a_large_folder_are_alike(shared_data, folder):
    outcomes = Counter(
        outcome_of(file, shared_data).outcome for file in volume_files(shared_data / folder)
    )
    assert set(outcomes) == {table()[f"{folder}/*"].outcome}


def write_table(shared_data: Path) -> None:
    """Write the expectation table from what happens now."""
    rows = [(f"{folder}/*", "ok", "") for folder in LARGE]
    for folder in folders(shared_data):
        if folder not in LARGE:
            for file in volume_files(shared_data / folder):
                name = file.relative_to(shared_data).as_posix()
                rows.append((name, *outcome_of(file, shared_data)))
    with TABLE.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "outcome", "reason"))
        writer.writerows(rows)


if __name__ == "__main__":
    write_table(Path(__file__).resolve().parents[3] / "shared" / "data")
