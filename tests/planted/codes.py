"""Family E: faults of label values."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fault_builders import (
    Array,
    Fault,
    describe,
    description,
    image_file,
    label_file,
    painted,
    recoded,
    relabel,
)
from scipy import ndimage

CORNER = (slice(2, 11), slice(2, 3), slice(2, 3))
ONE_VOXEL = (slice(2, 3), slice(2, 3), slice(2, 3))


def one_class(folder: Path) -> None:
    """Turn the dataset into one with a single class, coded 0 and 1."""
    relabel(folder, lambda a: (a > 0).astype(np.uint8))
    describe(folder, labels={"0": "background", "1": "organ"})


def recode(folder: Path, off: int, on: int) -> None:
    """A single class, and one case that codes it otherwise."""
    one_class(folder)
    relabel(folder, lambda a: np.where(a > 0, on, off).astype(np.uint8), 1)


def mixed_coding(folder: Path) -> None:
    """Without a description: three masks say 1, three say 255."""
    one_class(folder)
    relabel(folder, lambda a: (a * 255).astype(np.uint8), 0, 1, 2)
    (folder / "dataset.json").unlink()


def invert(folder: Path) -> None:
    """Nearly everything is foreground."""
    one_class(folder)
    relabel(folder, lambda a: painted(0, CORNER)(np.ones_like(a)), 1)


def declare_ghost(folder: Path) -> None:
    """A class that nobody drew."""
    describe(folder, labels={**description(folder)["labels"], "3": "ghost"})


def smoothed(label: Array) -> Array:
    """A label that went through linear interpolation."""
    return ndimage.gaussian_filter(label.astype(np.float32), 0.7)


def smoothed_and_rounded(label: Array) -> Array:
    """The same, written as whole numbers: only the shells between classes betray it."""
    return np.rint(ndimage.gaussian_filter(label.astype(np.float32), 1.0)).astype(np.uint8)


def membrane(folder: Path) -> None:
    """One thick class, and one that is only there because all labels were interpolated."""
    relabel(folder, lambda a: smoothed_and_rounded(2 * (a > 0)))
    describe(folder, labels={"0": "background", "1": "rim", "2": "organ"})


def speckled(label: Array) -> Array:
    """A mask of 0 and 255 that was a JPEG picture."""
    noise = np.random.default_rng(0).normal(0, 3, label.shape)
    near = ndimage.binary_dilation(label > 0, iterations=2)
    values = 255.0 * (label > 0) + noise * near
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def stacked(*masks: int) -> Callable[[Array], Array]:
    """One volume per class, given by its value."""
    return lambda a: np.stack([(a == value).astype(np.uint8) for value in masks], axis=-1)


def overlapping(label: Array) -> Array:
    """Regions inside each other, one volume each."""
    return np.stack([label > 0, label == 1], axis=-1).astype(np.uint8)


def probabilities(label: Array) -> Array:
    """What a network gives before the maximum is taken."""
    soft = ndimage.gaussian_filter((label > 0).astype(np.float32), 1.0).clip(0, 1)
    return np.stack([1 - soft, soft], axis=-1)


FAULTS = (
    Fault("unknown class", lambda d: relabel(d, painted(7, CORNER), 1), {("E01", "error")}),
    Fault("one stray voxel", lambda d: relabel(d, painted(9, ONE_VOXEL), 1), {("E01", "error")}),
    Fault(
        "0, 127 and 254",
        lambda d: relabel(d, lambda a: (a * 127).astype("u1"), 1),
        {("E01", "error")},
    ),
    Fault(
        "minus one",
        lambda d: relabel(d, lambda a: painted(-1, CORNER)(a.astype("i2")), 1),
        {("E01", "error")},
    ),
    Fault("0 and 255", lambda d: recode(d, 0, 255), {("E02", "error")}),
    Fault("0 and 128", lambda d: recode(d, 0, 128), {("E02", "error")}),
    Fault("1 and 2", lambda d: recode(d, 1, 2), {("E02", "error")}, also=frozenset({"E09"})),
    Fault("1 here, 255 there", mixed_coding, {("E02", "error")}, also=frozenset({"E05"})),
    Fault(
        "interpolated label",
        lambda d: relabel(d, smoothed, 1),
        {("E03", "error")},
    ),
    Fault(
        "probabilities rounded to tenths",
        lambda d: relabel(d, lambda a: np.round(smoothed(a), 1), 1),
        {("E03", "error")},
    ),
    Fault(
        "interpolated and rounded",
        lambda d: relabel(d, smoothed_and_rounded, 1),
        {("E04", "error")},
        also=frozenset({"S03", "S04", "S09", "S06"}),
        base="cohort",
    ),
    Fault(
        "all labels interpolated and rounded",
        membrane,
        {("E04", "warning")},
        also=frozenset({"S09"}),
        base="cohort",
    ),
    Fault("class nowhere", declare_ghost, {("E05", "error")}),
    Fault(
        "class often not drawn",
        lambda d: relabel(d, recoded({2: 0}), 0, 1, 2),
        {("E05", "warning")},
        also=frozenset({"D05"}),
    ),
    Fault("class missing in one case", lambda d: relabel(d, recoded({2: 0}), 1), {("E05", "info")}),
    Fault(
        "values with a gap",
        lambda d: (
            relabel(d, recoded({2: 4})),
            describe(d, labels={"0": "background", "1": "liver", "4": "kidney"}),
        ),
        {("E06", "info")},
    ),
    Fault(
        "image in the label folder",
        lambda d: shutil.copy(image_file(d), label_file(d)),
        {("E07", "error"), ("D06", "error")},
    ),
    Fault(
        "another image in the label folder",
        lambda d: shutil.copy(image_file(d, 2), label_file(d)),
        {("E07", "error")},
        also=frozenset({"G02", "G08"}),
    ),
    Fault("empty label", lambda d: relabel(d, np.zeros_like, 1), {("E08", "warning")}),
    Fault(
        "many empty labels",
        lambda d: relabel(d, np.zeros_like, 0, 1, 2),
        {("E08", "warning"), ("E08", "error")},
        also=frozenset({"D05"}),
    ),
    Fault("inverted mask", invert, {("E09", "error")}),
    Fault(
        "one mask per volume",
        lambda d: relabel(d, stacked(1, 2), 1),
        {("F06", "error"), ("E10", "warning")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "one-hot volumes",
        lambda d: relabel(d, stacked(0, 1, 2), 1),
        {("F06", "error"), ("E10", "warning")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "overlapping masks",
        lambda d: relabel(d, overlapping, 1),
        {("F06", "error"), ("E10", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "probabilities per class",
        lambda d: relabel(d, probabilities, 1),
        {("F06", "error"), ("E10", "error")},
        also=frozenset({"F14"}),
    ),
    Fault(
        "two values exchanged",
        lambda d: relabel(d, recoded({1: 2, 2: 1}), 1),
        {("E11", "warning")},
        also=frozenset({"G14", "S03", "S09"}),
        base="cohort",
    ),
    Fault(
        "two classes of one name",
        lambda d: describe(d, labels={"0": "background", "1": "liver", "2": "liver"}),
        {("E12", "error")},
    ),
    Fault(
        "listed files are gone",
        lambda d: describe(
            d,
            training=[
                *description(d)["training"],
                {"image": "./imagesTr/lost.nii.gz", "label": "./labelsTr/lost.nii.gz"},
            ],
        ),
        {("E12", "warning")},
    ),
    Fault(
        "label was a JPEG",
        lambda d: (
            one_class(d),
            relabel(d, speckled),
            describe(d, labels={"0": "background", "255": "organ"}),
        ),
        {("E13", "error"), ("E01", "error")},
        also=frozenset({"S11"}),  # holes of the noise
    ),
)
