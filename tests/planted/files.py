"""Family F: faults of files, of image values, and between readers."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from fault_builders import (
    PIXDIM,
    SCL_SLOPE,
    Array,
    Fault,
    both_files,
    case_numbers,
    content_of,
    describe,
    image_file,
    label_file,
    move_pair,
    patch,
    read,
    relabel,
    repaint,
    rewrite,
    scaled,
)

# Offset of the first dimension in the NIfTI-1 header.
_DIM = 40


def truncate(file: Path) -> None:
    """Keep the first half of the bytes."""
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])


def flip_bit(file: Path) -> None:
    """Damage the checksum, so that the voxels still decode."""
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1
    file.write_bytes(bytes(raw))


def change_payload(file: Path, n_bytes: int) -> None:
    """Append bytes, or cut them off."""
    content = content_of(file)
    content = content + b"\0" * n_bytes if n_bytes > 0 else content[:n_bytes]
    file.write_bytes(gzip.compress(content, mtime=0))


def rescale(file: Path, slope: float) -> None:
    """Store values divided by a slope, so that readers see the same values as before."""
    rewrite(file, lambda a: np.round(a / slope).astype(a.dtype))
    patch(file, SCL_SLOPE, "ff", slope, 0.0)


def autoscale(file: Path) -> None:
    """Save a float label with an 8-bit header type, as nibabel does it: values are rescaled."""
    array, affine = read(file)
    image = nib.Nifti1Image(array.astype(np.float32), affine)
    image.set_data_dtype(np.uint8)
    nib.save(image, file)


def put(value: float, *, inside: bool, role: str) -> Callable[[Path], None]:
    """Set one voxel, inside or outside a structure."""

    def inject(folder: Path) -> None:
        label, _ = read(label_file(folder))
        places = np.argwhere(label > 0 if inside else label == 0)
        place = tuple(places[len(places) // 2])

        def change(array: Array) -> Array:
            changed = array.astype(np.float32)
            changed[place] = value
            return changed

        rewrite(image_file(folder) if role == "image" else label_file(folder), change)

    return inject


def as_rgb(file: Path) -> None:
    """Store a label as colors, as drawing programs do."""
    array, affine = read(file)
    color = np.zeros(array.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    color["R"] = array * 100
    nib.save(nib.Nifti1Image(color, affine), file)


def thin(folder: Path) -> None:
    """Keep six slices of a case."""
    for file in both_files(folder):
        rewrite(file, lambda a: a[:, :, 5:11])


def clip(folder: Path) -> None:
    """Cut the brightest tenth of an image off."""
    repaint(folder, lambda a: np.minimum(a, int(np.percentile(a, 90))).astype(a.dtype), 1)


def overflow(folder: Path) -> None:
    """Store an image in 8 bits without rescaling it."""
    repaint(folder, lambda a: (3 * a).astype(np.uint8), 1)


def as_ct(folder: Path, offset_hu: int) -> None:
    """Declare CT and make the images CT-like, with all values off by some HU."""
    describe(folder, modality={"0": "CT"})
    air_hu = -1000
    repaint(
        folder,
        lambda a: (np.where(a < 40, a.clip(0) + air_hu, a) + offset_hu).astype(a.dtype),
    )


def stored_twice(folder: Path) -> None:
    """One case as .nii.gz and as .nii."""
    file = label_file(folder)
    file.with_suffix("").write_bytes(content_of(file))


FAULTS = (
    Fault(
        "image without label",
        lambda d: label_file(d).unlink(),
        {("F01", "error")},
        also=frozenset({"E12"}),
    ),
    Fault(
        "label without image",
        lambda d: image_file(d).unlink(),
        {("F01", "error")},
        also=frozenset({"E12"}),
    ),
    Fault("label stored twice", stored_twice, {("F01", "error")}),
    Fault("text as gz", lambda d: label_file(d).write_text("hello " * 99), {("F02", "error")}),
    Fault("empty file", lambda d: image_file(d).write_bytes(b""), {("F02", "error")}),
    Fault(
        "uncompressed bytes as gz",
        lambda d: label_file(d).write_bytes(content_of(label_file(d))),
        {("F02", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "truncated image",
        lambda d: truncate(image_file(d)),
        {("F03", "error"), ("F14", "warning")},
    ),
    Fault(
        "truncated label",
        lambda d: truncate(label_file(d)),
        {("F03", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "wrong CRC",
        lambda d: flip_bit(label_file(d)),
        {("F03", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "voxels missing",
        lambda d: change_payload(label_file(d), -500),
        {("F04", "error")},
        also=frozenset({"F14"}),
    ),
    Fault("bytes too many", lambda d: change_payload(label_file(d), 64), {("F04", "warning")}),
    Fault(
        "complex numbers",
        lambda d: rewrite(image_file(d), lambda a: a.astype(np.complex64)),
        {("F05", "error")},
    ),
    Fault("label in colors", lambda d: as_rgb(label_file(d)), {("F05", "error")}),
    Fault("header of zeros", lambda d: patch(image_file(d), 0, "i", 0), {("F05", "error")}),
    Fault(
        "impossible dimensions",
        lambda d: patch(label_file(d), _DIM, "h", 0),
        {("F06", "error")},
    ),
    Fault(
        "label with a fourth axis of one",
        lambda d: rewrite(label_file(d), lambda a: a[..., None]),
        {("F06", "warning")},
    ),
    Fault("six slices", thin, {("F06", "warning")}, also=frozenset({"S01"})),
    Fault("label scaled", lambda d: rescale(label_file(d), 0.5), {("F07", "error")}),
    Fault(
        "label autoscaled",
        lambda d: autoscale(label_file(d)),
        {("F07", "error")},
        also=frozenset({"E03"}),
    ),
    Fault(
        "float label with noise",
        lambda d: relabel(d, lambda a: (a * 1.00001).astype(np.float32), 1),
        {("F08", "info")},
    ),
    Fault(
        "NaN outside",
        put(np.nan, inside=False, role="image"),
        {("F09", "error"), ("F14", "warning")},
    ),
    Fault(
        "NaN inside",
        put(np.nan, inside=True, role="image"),
        {("F09", "error"), ("F14", "warning")},
    ),
    Fault(
        "infinity inside",
        put(np.inf, inside=True, role="image"),
        {("F09", "error"), ("F14", "warning")},
    ),
    Fault(
        "NaN in label",
        put(np.nan, inside=False, role="label"),
        {("F09", "error"), ("F14", "warning")},
    ),
    Fault(
        "constant image",
        lambda d: rewrite(image_file(d), lambda a: np.full_like(a, 40)),
        {("F10", "error")},
    ),
    Fault("clipped image", clip, {("F11", "warning")}),
    Fault("8 bits run over", overflow, {("F11", "warning")}, also=frozenset({"G13", "G14"})),
    Fault("CT 1024 too high", lambda d: as_ct(d, 1024), {("F12", "warning")}),
    Fault(
        "normalized CT",
        lambda d: (
            as_ct(d, 0),
            repaint(d, lambda a: (a / np.float32(1000)).astype(np.float32)),
        ),
        {("F12", "warning")},
    ),
    Fault(
        "meters as millimeters",
        lambda d: [move_pair(d, scaled(0.001), n) for n in case_numbers(d)],
        {("F13", "warning")},
        also=frozenset({"S01"}),
    ),
    Fault(
        "pixdim ten times too large",
        lambda d: move_pair(d, scaled(1.0, 1.0, 12.0)),
        {("F13", "warning")},
        also=frozenset({"S01"}),
    ),
    Fault(
        "third voxel size lost",
        lambda d: [patch(file, PIXDIM + 12, "f", 0.0) for file in both_files(d)],
        {("G07", "error")},
        also=frozenset({"G03", "G04", "F14"}),
    ),
)
