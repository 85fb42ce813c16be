"""Is this case like those the model was trained on, and is its prediction plausible?

The limits come from the training cases. They are wide, so that an ordinary case raises no flag:
a case stands out if it lies outside everything seen in training, and by a margin that is the wider
the fewer training cases there were. What a flag means: docs/explanation/clean-up-and-flags.md.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real, UInt

from pipeline.artifacts import ModelInfo, QualityFlag, Range, Task, TrainingRanges
from pipeline.core.geometry import Geometry, Spacing
from pipeline.core.text import some_of
from pipeline.core.volume import Volume

MM3_PER_ML = 1000.0
# Below this number of training cases only gross differences count.
FEW_CASES = 10
# Least margin: 20 %, or a factor of two with few cases.
MIN_FACTOR, MIN_FACTOR_FEW = 1.2, 2.0
# Least margin for intensities, in standard deviations inside the structures.
MIN_STDS, MIN_STDS_FEW = 0.25, 1.0
# The margin is this times the spread of the training cases over the root of their number. On
# held-out cases of hippocampus and head-and-neck data, 15 to 166 training cases, it flags 0 to 4 %.
SPREAD_FACTOR = 4.0
# A class this rarely absent in training is expected.
MAX_ABSENT_FRACTION = 0.05
# Predictions of an image and its mirror image that share less than this need a look.
MAX_FLIP_DISAGREEMENT = 0.3
# In an image with nothing found, so little within the brightness of the structures is odd.
MIN_BAND_FRACTION = 1e-4
# Voxels whose intensities are looked at.
MAX_SAMPLE = 1_000_000
MAX_SHOWN_FLAGS = 3
_AXES = ("left to right", "back to front", "foot to head")
# Positions in TrainingRanges.intensities.
_STD, _LOW, _MEDIAN, _HIGH = 1, 2, 3, 4


def quality_flags(
    image: Volume,
    label: UInt[np.ndarray, "i j k"],
    info: ModelInfo,
    *,
    native: Geometry,
    flip_disagreement: float | None = None,
) -> tuple[QualityFlag, ...]:
    """Compare a case and its prediction with the training cases.

    Args:
        image: RAS image (channel, i, j, k), intensities as in the files.
        label: Predicted class indices on the same grid.
        info: Model description; without training ranges only the mirrored prediction is judged.
        native: Grid of the image file as stored.
        flip_disagreement: Share of predicted voxels that mirrored predictions disagree on, 0 to 1;
            None if it was not measured.

    Returns:
        One flag per oddity; empty if nothing is unusual.
    """
    flags: list[QualityFlag] = []
    ranges = info.training_ranges
    if ranges is not None:
        flags += _grid_flags(image.geometry, native, ranges)
        flags += _intensity_flags(image, label > 0, info.task, ranges)
        n_voxels = count_classes(label, len(info.task.classes))
        flags += _class_flags(n_voxels, image.geometry.spacing_mm, info, ranges)
    if flip_disagreement is not None and flip_disagreement > MAX_FLIP_DISAGREEMENT:
        flags.append(
            QualityFlag(
                kind="mirror",
                message=f"the mirrored image gives another answer for "
                f"{100 * flip_disagreement:.0f} % of the predicted voxels",
                value=flip_disagreement,
                expected=f"at most {100 * MAX_FLIP_DISAGREEMENT:.0f} %",
            )
        )
    return tuple(flags)


def quality_line(flags: Sequence[QualityFlag]) -> str:
    """The flags of a case in one line; "nothing unusual" without any."""
    if not flags:
        return "nothing unusual"
    return "check: " + some_of([flag.message for flag in flags], MAX_SHOWN_FLAGS)


def count_classes(label: UInt[np.ndarray, "i j k"], n_classes: int) -> Int64[np.ndarray, " class"]:
    """Voxels of every foreground class.

    Args:
        label: Class indices, 0 to `n_classes`, shape (i, j, k).
        n_classes: Number of foreground classes.

    Returns:
        Counts in index order, without the background.
    """
    counts = np.zeros(n_classes + 1, dtype=np.int64)
    # Plane by plane: bincount widens its input to 8 bytes per voxel.
    for plane in label:
        counts += np.bincount(plane.reshape(-1), minlength=n_classes + 1)
    return counts[1:]


def _grid_flags(grid: Geometry, native: Geometry, ranges: TrainingRanges) -> Iterator[QualityFlag]:
    n = ranges.n_cases
    for axis, name in enumerate(_AXES):
        edge_mm = grid.spacing_mm[axis]
        if _is_outside(edge_mm, ranges.spacing_mm[axis], n):
            expected = _words(ranges.spacing_mm[axis], "mm")
            message = f"voxels are {_number(edge_mm)} mm long {name} (training cases: {expected})"
            yield QualityFlag(kind="spacing", message=message, value=edge_mm, expected=expected)
        extent_mm = edge_mm * grid.shape[axis]
        if _is_outside(extent_mm, ranges.extent_mm[axis], n):
            expected = _words(ranges.extent_mm[axis], "mm")
            message = (
                f"the image covers {_number(extent_mm)} mm {name} (training cases: {expected})"
            )
            yield QualityFlag(kind="extent", message=message, value=extent_mm, expected=expected)
    if n >= FEW_CASES and native.orientation not in ranges.orientations:
        expected = " or ".join(ranges.orientations)
        message = (
            f"the voxel axes of the file run to {native.orientation} (training cases: {expected}): "
            "make sure that left and right are true"
        )
        value = native.orientation
        yield QualityFlag(kind="orientation", message=message, value=value, expected=expected)


def _intensity_flags(
    image: Volume, mask: Bool[np.ndarray, "i j k"], task: Task, ranges: TrainingRanges
) -> Iterator[QualityFlag]:
    is_empty = not mask.any()
    for channel, values, known in zip(task.channels, image.array, ranges.intensities, strict=True):
        if is_empty:
            yield from _band_flags(values, channel.name, known)
            continue
        sample = _sample(values, mask)
        median, std = float(np.median(sample)), float(sample.std())
        where = f"inside the predicted structures of channel {channel.name}"
        typical_std = known[_STD].median
        if _is_off(median, known[_MEDIAN], typical_std, ranges.n_cases):
            expected = _words(known[_MEDIAN])
            message = f"median brightness {_number(median)} {where} (training cases: {expected})"
            yield QualityFlag(kind="intensity", message=message, value=median, expected=expected)
        if _is_outside(std, known[_STD], ranges.n_cases):
            expected = _words(known[_STD])
            message = f"brightness varies by {_number(std)} (SD) {where} (training: {expected})"
            yield QualityFlag(kind="intensity", message=message, value=std, expected=expected)


def _band_flags(
    values: Real[np.ndarray, "i j k"], channel_name: str, known: tuple[Range, ...]
) -> Iterator[QualityFlag]:
    """With nothing found there is no inside: is anything as bright as the structures were?"""
    low, high = known[_LOW].lowest, known[_HIGH].highest
    n_inside = sum(int(np.count_nonzero((p >= low) & (p <= high))) for p in values)
    fraction = n_inside / max(1, values.size)
    if fraction < MIN_BAND_FRACTION:
        expected = f"{_number(low)} to {_number(high)}"
        message = (
            f"hardly a voxel of channel {channel_name} is as bright as the structures of the "
            f"training cases ({expected})"
        )
        yield QualityFlag(kind="intensity", message=message, value=fraction, expected=expected)


def _class_flags(
    n_voxels: Int64[np.ndarray, " class"],
    spacing_mm: Spacing,
    info: ModelInfo,
    ranges: TrainingRanges,
) -> Iterator[QualityFlag]:
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML
    for label_class, n in zip(info.task.classes, n_voxels, strict=True):
        name, volume_ml = label_class.name, int(n) * voxel_ml
        known = ranges.volumes_ml.get(name)
        if known is None:
            continue
        expected = _words(known, "ml")
        # Cases in which nobody drew the class say neither how often nor how large it is.
        n_cases = info.n_annotated_cases.get(name, ranges.n_cases)
        absent_fraction = ranges.absent_fraction.get(name, 1.0)
        if n == 0 and absent_fraction <= MAX_ABSENT_FRACTION:
            share = f"{100 * (1 - absent_fraction):.0f} %"
            whom = "training cases" if n_cases == ranges.n_cases else f"{n_cases} annotated cases"
            message = f"{name} was not found ({share} of the {whom} have it)"
            yield QualityFlag(kind="missing", message=message, value=0.0, expected=expected)
        # A structure may go on into voxels to be ignored: what was drawn is the least it has.
        is_open = bool(info.task.ignore_values) and volume_ml > known.highest
        n_present = round(n_cases * (1 - absent_fraction))
        if n > 0 and not is_open and _is_outside(volume_ml, known, n_present):
            message = f"{name} measures {_number(volume_ml)} ml (training cases: {expected})"
            yield QualityFlag(kind="volume", message=message, value=volume_ml, expected=expected)


def _is_outside(value: float, known: Range, n_cases: int) -> bool:
    """Whether a positive quantity is far from the training cases, on a logarithmic scale."""
    spread = math.log(known.p99 / known.p01) if known.p01 > 0 else 0.0
    least = MIN_FACTOR if n_cases >= FEW_CASES else MIN_FACTOR_FEW
    margin = math.exp(max(math.log(least), SPREAD_FACTOR * spread / math.sqrt(max(1, n_cases))))
    is_low = value < known.lowest and value < known.p01 / margin
    return is_low or (value > known.highest and value > known.p99 * margin)


def _is_off(value: float, known: Range, std: float, n_cases: int) -> bool:
    """Whether an intensity is far from the training cases; 0 has no meaning, so no ratios."""
    least = MIN_STDS if n_cases >= FEW_CASES else MIN_STDS_FEW
    spread = known.p99 - known.p01
    margin = max(least * std, SPREAD_FACTOR * spread / math.sqrt(max(1, n_cases)))
    is_low = value < known.lowest and value < known.p01 - margin
    return is_low or (value > known.highest and value > known.p99 + margin)


def _sample(
    values: Real[np.ndarray, "i j k"], mask: Bool[np.ndarray, "i j k"]
) -> Float64[np.ndarray, " n"]:
    """Evenly spaced voxels of a mask, plane by plane so that no second volume is made."""
    step = max(1, int(np.count_nonzero(mask)) // MAX_SAMPLE)
    planes = [plane[inside][::step] for plane, inside in zip(values, mask, strict=True)]
    return np.concatenate(planes).astype(np.float64)


def _words(known: Range, unit: str = "") -> str:
    """The range seen in training, such as "2 to 3.27 mm"."""
    low, high = _number(known.lowest), _number(known.highest)
    return (low if low == high else f"{low} to {high}") + (f" {unit}" if unit else "")


def _number(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
