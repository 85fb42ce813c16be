"""Family G: faults of grids, and of the place of a label on them."""

from pathlib import Path

import numpy as np
from fault_builders import (
    PIXDIM,
    QFORM_CODE,
    QOFFSET_X,
    SFORM_CODE,
    SROW_X,
    Affine,
    Fault,
    case_numbers,
    image_file,
    in_ras,
    label_file,
    move,
    move_pair,
    patch,
    read,
    rewrite,
    scaled,
    sheared,
    shifted,
    turned,
)
from phantoms import write_nifti


def mirrored_header(file: Path) -> None:
    """Let the header claim that i runs the other way over the same box."""
    array, affine = read(file)
    write_nifti(file, array, affine @ _mirror(array.shape[0]))


def reordered(file: Path) -> None:
    """Store voxels and header in another orientation, both right."""
    array, affine = read(file)
    write_nifti(file, array[::-1], affine @ _mirror(array.shape[0]))


def _mirror(n: int) -> Affine:
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, n - 1
    return flip


def drop_codes(file: Path) -> None:
    """No position in the header."""
    patch(file, QFORM_CODE, "hh", 0, 0)


def no_affine(folder: Path) -> None:
    """An sform of zeros, and no qform to fall back on."""
    patch(label_file(folder), SROW_X, "12f", *[0.0] * 12)
    patch(label_file(folder), QFORM_CODE, "h", 0)


def pixdim_against_sform(folder: Path) -> None:
    """Two voxel sizes in one header."""
    patch(image_file(folder), PIXDIM + 12, "f", 3.0)
    patch(image_file(folder), QFORM_CODE, "h", 0)


def shear(folder: Path, slope: float) -> None:
    """Skewed axes; a qform cannot hold them."""
    move_pair(folder, sheared(slope))
    for file in (image_file(folder), label_file(folder)):
        patch(file, QFORM_CODE, "h", 0)


def push_all(folder: Path) -> None:
    """Push every label by three voxels, as a crop of the images alone does."""
    for number in case_numbers(folder):
        in_ras(label_file(folder, number), lambda a: np.roll(a, 3, axis=1))


FAULTS = (
    Fault(
        "label two slices short",
        lambda d: rewrite(label_file(d), lambda a: a[:, :, 2:]),
        {("G01", "error")},
        also=frozenset({"G02"}),
    ),
    Fault(
        "label transposed",
        lambda d: rewrite(label_file(d), lambda a: a.transpose(1, 0, 2)),
        {("G01", "error")},
        also=frozenset({"G12"}),
    ),
    Fault(
        "label 15 mm away",
        lambda d: move(label_file(d), shifted(15.0)),
        {("G02", "error")},
        also=frozenset({"G12"}),
    ),
    Fault("label 0.1 mm away", lambda d: move(label_file(d), shifted(0.1)), {("G02", "warning")}),
    Fault(
        "label slices 2.5 instead of 2 mm",
        lambda d: move(label_file(d), scaled(1.0, 1.0, 1.25)),
        {("G02", "error")},
    ),
    Fault(
        "pixdim against sform",
        pixdim_against_sform,
        {("G03", "error"), ("F14", "warning")},
    ),
    Fault(
        "sform against qform",
        lambda d: patch(image_file(d), QOFFSET_X, "f", 99.0),
        {("G04", "warning")},
    ),
    Fault(
        "label without position",
        lambda d: drop_codes(label_file(d)),
        {("G05", "error"), ("F14", "warning")},
        also=frozenset({"G02", "G08", "G12", "G13", "G14"}),
    ),
    Fault(
        "pair without position",
        lambda d: (drop_codes(label_file(d)), drop_codes(image_file(d))),
        {("G05", "warning"), ("F14", "warning")},
    ),
    Fault(
        "sheared affine",
        lambda d: shear(d, 0.002),
        {("G06", "warning"), ("F14", "warning")},
    ),
    Fault(
        "tilted gantry",
        lambda d: shear(d, 0.2),
        {("G06", "warning"), ("F14", "warning")},
    ),
    Fault("affine of zeros", no_affine, {("G07", "error")}),
    Fault(
        "affine with NaN",
        lambda d: (
            patch(image_file(d), SROW_X, "f", np.nan),
            patch(image_file(d), QFORM_CODE, "h", 0),
        ),
        {("G07", "error")},
    ),
    Fault(
        "label stored in another order",
        lambda d: reordered(label_file(d)),
        {("G08", "warning")},
    ),
    Fault(
        "label header mirrored",
        lambda d: mirrored_header(label_file(d)),
        {("G08", "error")},
        also=frozenset({"G13", "G14"}),
    ),
    Fault(
        "one case turned",
        lambda d: move_pair(d, turned(30.0)),
        {("G09", "warning")},
        base="cohort",
    ),
    Fault(
        "slices four times as thick",
        lambda d: [move_pair(d, scaled(1.0, 1.0, 4.0), n) for n in case_numbers(d)],
        {("G10", "info")},
    ),
    Fault(
        "voxel size of one case wrong",
        lambda d: move_pair(d, scaled(1.5)),
        {("G11", "warning")},
        also=frozenset({"S03"}),
        base="cohort",
    ),
    Fault(
        "label in another room",
        lambda d: move(label_file(d), shifted(500.0)),
        {("G02", "error"), ("G12", "error")},
    ),
    Fault(
        "label voxels pushed by 4",
        lambda d: in_ras(label_file(d), lambda a: np.roll(a, 4, axis=1)),
        {("G13", "warning")},
        also=frozenset({"S08", "S09"}),
        base="cohort",
    ),
    Fault(
        "labels of all cases pushed by 3",
        lambda d: [
            in_ras(label_file(d, n), lambda a: np.roll(a, 3, axis=1)) for n in case_numbers(d)
        ],
        {("G13", "warning")},
        also=frozenset({"S08", "S09"}),
        base="cohort",
    ),
    Fault(
        "label voxels mirrored",
        lambda d: in_ras(label_file(d), lambda a: a[::-1]),
        {("G14", "error")},
        also=frozenset({"E11", "S09"}),
        base="cohort",
    ),
    Fault(
        "label voxels upside down",
        lambda d: in_ras(label_file(d), lambda a: a[:, :, ::-1]),
        {("G14", "error")},
        also=frozenset({"S08", "S09", "E11"}),
        base="cohort",
    ),
    Fault(
        "channels lie apart",
        lambda d: move(image_file(d, 1, channel=1), shifted(10.0)),
        {("G15", "error")},
        base="channels",
    ),
    Fault(
        "second channel shorter",
        lambda d: rewrite(image_file(d, 1, channel=1), lambda a: a[2:]),
        {("G15", "error")},
        base="channels",
    ),
)

NO_FORMS = {"no qform": QFORM_CODE, "no sform": SFORM_CODE}
