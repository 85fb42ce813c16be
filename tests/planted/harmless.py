"""Peculiarities that are no faults: nothing may be reported."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from fault_builders import (
    QUICK,
    SCL_SLOPE,
    Harmless,
    both_files,
    case_numbers,
    content_of,
    image_file,
    label_file,
    move,
    move_pair,
    patch,
    read,
    recoded,
    relabel,
    repaint,
    rewrite,
    scaled,
    turned,
    write_csv,
)
from planted.files import as_ct, rescale
from planted.grids import NO_FORMS

from pipeline.audit.config import AuditConfig, GroupConfig


def bgzip(file: Path) -> None:
    """Several gzip members in one file, as bgzip and some cameras write."""
    content = content_of(file)
    pieces = [content[n : n + 4000] for n in range(0, len(content), 4000)]
    file.write_bytes(b"".join(gzip.compress(piece, mtime=0) for piece in pieces))


def uncompress_case(folder: Path) -> None:
    """One case as plain .nii."""
    for file in both_files(folder):
        file.with_suffix("").write_bytes(content_of(file))
        file.unlink()
    description = folder / "dataset.json"
    description.write_text(description.read_text().replace("case_001.nii.gz", "case_001.nii"))


def strip_skull(folder: Path) -> None:
    """Nothing but the labelled structures is left: more than nine tenths zeros."""
    for number in case_numbers(folder):
        label, _ = read(label_file(folder, number))
        rewrite(image_file(folder, number), lambda a, keep=label > 0: (a * keep).astype(np.int16))


def big_endian(file: Path) -> None:
    """Written by an old workstation."""
    image = nib.load(file)
    swapped = nib.Nifti1Image(
        np.asanyarray(image.dataobj), image.affine, image.header.as_byteswapped(">")
    )
    file.write_bytes(gzip.compress(swapped.to_bytes(), mtime=0))


def nifti2(file: Path) -> None:
    """The header for very large files."""
    image = nib.load(file)
    other = nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine)
    file.write_bytes(gzip.compress(other.to_bytes(), mtime=0))


def with_extension(file: Path) -> None:
    """A header extension, as AFNI writes its history."""
    image = nib.load(file)
    extended = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made by hand"))
    file.write_bytes(gzip.compress(extended.to_bytes(), mtime=0))


def in_both(folder: Path, change: Callable[[Path], None], number: int = 1) -> None:
    """Change image and label alike."""
    for file in both_files(folder, number):
        change(file)


def patients(folder: Path) -> None:
    """Two visits of every patient, and a table that says so."""
    rows = ((f"case_{n:03d}", f"patient_{n // 2}") for n in case_numbers(folder))
    write_csv(folder, "case_id,group", rows)


def with_table(folder: Path) -> AuditConfig:
    """Patients as the table beside the dataset says; the folds keep them together."""
    groups = GroupConfig(file=folder.parent / "groups.csv")
    return QUICK.model_copy(update={"groups": groups})


def two_scanners(folder: Path) -> None:
    """Every other case has voxels half as long again, with the same anatomy in mm."""
    for number in list(case_numbers(folder))[::2]:
        move_pair(folder, scaled(1.2, 1.2, 1.0), number)


HARMLESS = (
    Harmless("nothing", lambda d: None),
    Harmless("nothing in the cohort", lambda d: None, base="cohort"),
    Harmless("nothing in two channels", lambda d: None, base="channels"),
    Harmless("nothing in the crowd", lambda d: None, base="crowd"),
    Harmless("bgzip", lambda d: bgzip(label_file(d))),
    Harmless("uncompressed", uncompress_case),
    Harmless("big-endian", lambda d: in_both(d, big_endian)),
    Harmless("header extension", lambda d: in_both(d, with_extension)),
    Harmless(
        "float noise in label",
        lambda d: rewrite(label_file(d), lambda a: a.astype(np.float32) + np.float32(1e-6)),
    ),
    Harmless("64-bit label", lambda d: rewrite(label_file(d), lambda a: a.astype(np.float64))),
    Harmless("slope on image", lambda d: rescale(image_file(d), 0.5)),
    Harmless("slope of zero on label", lambda d: patch(label_file(d), SCL_SLOPE, "ff", 0.0, 0.0)),
    Harmless(
        "affine noise",
        lambda d: move(label_file(d), lambda a: a + 1e-7 * np.ones((4, 4)) * (a != 0)),
    ),
    Harmless("skull-stripped", strip_skull),
    Harmless("class absent in a case", lambda d: relabel(d, recoded({2: 0}), 1)),
    *(
        Harmless(name, lambda d, code=code: [patch(f, code, "h", 0) for f in both_files(d)])
        for name, code in NO_FORMS.items()
    ),
    Harmless("CT in Hounsfield units", lambda d: as_ct(d, 0)),
    Harmless("all cases turned", lambda d: [move_pair(d, turned(30.0), n) for n in range(6)]),
    Harmless("two visits that are known", patients, settings=with_table),
    Harmless("two scanners", two_scanners, base="cohort"),
    Harmless(
        "another scale in every case",
        lambda d: [repaint(d, lambda a, s=n: (a * (1 + s)).astype(a.dtype), n) for n in range(12)],
        base="cohort",
    ),
)
