"""Checks on image values, on the size of voxels, and on a second reader (F11, F13, F14)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real

from pipeline.artifacts import FileFacts, Finding
from pipeline.audit.checks.readers import check_readers
from pipeline.audit.checks.types import CaseCheck, DatasetCheck
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measures import ChannelMeasures
from pipeline.audit.view import CaseView
from pipeline.core.geometry import spacing_of

_Channel3 = Real[np.ndarray, "i j k"]

# Voxels looked at for the levels and the jumps of an image.
_MAX_SAMPLE = 1 << 20
# An image with fewer levels is a mask or a map, and its largest value is meant.
_MIN_IMAGE_LEVELS = 16
# Clipping piles voxels up at the end; without it, levels next to each other are about as frequent.
_MIN_PILE_RATIO = 2.0
# Number ranges that overflow: 8, 12 and 16 bits.
_RANGES = (1 << 8, 1 << 12, 1 << 16)
# A jump by this share of the range between neighbors is a small step, seen through an overflow.
_JUMP_SHARE = 0.9
_MIN_SPAN_SHARE = 0.95


@dataclass(frozen=True)
class _Channel:
    """One channel with everything the checks below ask for."""

    name: str
    index: int
    array: _Channel3
    measures: ChannelMeasures
    stored_dtype: str
    is_ct: bool


def check_saturation(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F11: many voxels at the end of the range, or values that ran over it.

    Normal and silent: zeros around a body, ends of the CT scale, masks among the channels. Images
    of 8 bits or of floats were often clipped on purpose at a percentile: more is needed there.
    """
    findings = []
    for channel in _channels(view):
        measures = channel.measures
        low, high = measures.quantiles[0], measures.quantiles[-1]
        limit = _saturation_limit(channel, config.images)
        if measures.maximum_share > limit and _is_pile(channel, high, config.images):
            findings.append(_saturation(view, channel, high, measures.maximum_share, limit))
        elif measures.minimum_share > limit and _is_signed_end(channel, low, config.images):
            findings.append(_saturation(view, channel, low, measures.minimum_share, limit))
        share = _wrapped_share(channel)
        if share > config.images.max_wrapped_fraction:
            findings.append(_overflow(view, channel, share, config.images))
    return findings


def check_voxel_size(view: CaseView, config: AuditConfig) -> list[Finding]:
    """F13: voxels or volumes of a size no patient has: a wrong unit or a lost header."""
    limits = config.images
    for role, facts in view.files():
        problem = _size_problem(facts, limits)
        if problem is not None:
            value, threshold, message = problem
            return [
                Finding(
                    check_id="F13",
                    severity="warning",
                    case_id=view.case_id,
                    value=value,
                    threshold=threshold,
                    message=f"{role}: {message}",
                    fix="check the unit: meters or micrometers written as millimeters are off by "
                    "1,000; for other subjects than patients set the audit.images limits",
                    evidence={"file": facts.file},
                )
            ]
    return []


CASE_CHECKS: tuple[CaseCheck, ...] = (
    check_saturation,
    check_voxel_size,
    check_readers,
)
DATASET_CHECKS: tuple[DatasetCheck, ...] = ()


def _channels(view: CaseView) -> Iterator[_Channel]:
    if view.image is None or not view.record.image_files:
        return
    files = view.record.image_files
    n_channels = view.image.shape[0]
    for index, (array, measures) in enumerate(
        zip(view.image, view.measures.channels, strict=False)
    ):
        declared = view.task.channels[index] if index < len(view.task.channels) else None
        yield _Channel(
            name=f" channel {declared.name if declared else index}" if n_channels > 1 else "",
            index=index,
            array=array,
            measures=measures,
            stored_dtype=files[min(index, len(files) - 1)].dtype,
            is_ct=declared is not None and declared.modality == "ct",
        )


# --- F11 ------------------------------------------------------------------------------------------


def _saturation_limit(channel: _Channel, limits: ImageLimits) -> float:
    is_scaled = channel.stored_dtype in ("uint8", "int8") or channel.stored_dtype.startswith("f")
    return limits.max_scaled_saturated_fraction if is_scaled else limits.max_saturated_fraction


def _is_pile(channel: _Channel, top: float, limits: ImageLimits) -> bool:
    """Whether voxels pile up at the largest value, in an image that has many values."""
    if _is_ct_limit(channel, top, limits):
        return False
    values, counts = np.unique(_sample(channel.array), return_counts=True)
    if values.size < _MIN_IMAGE_LEVELS:
        return False
    return bool(counts[-1] > _MIN_PILE_RATIO * counts[-2])


def _is_signed_end(channel: _Channel, low: float, limits: ImageLimits) -> bool:
    dtype = channel.array.dtype
    if (
        dtype.kind != "i"
        or dtype.name != channel.stored_dtype
        or _is_ct_limit(channel, low, limits)
    ):
        return False
    return low == float(np.iinfo(dtype).min)


def _is_ct_limit(channel: _Channel, value: float, limits: ImageLimits) -> bool:
    return channel.is_ct and any(abs(value - limit) <= 1.0 for limit in limits.ct_limits_hu)


def _wrapped_share(channel: _Channel) -> float:
    """Share of neighbors that lie nearly a whole number range apart.

    Jumps from the very smallest to the very largest value are left out: burnt-in text and clipped
    metal look like that.
    """
    low, high = channel.measures.quantiles[0], channel.measures.quantiles[-1]
    span = high - low
    size = next((s for s in _RANGES if _MIN_SPAN_SHARE * s <= span < s), None)
    if size is None or channel.array.dtype.kind not in "iu":
        return 0.0
    _, nj, nk = channel.array.shape
    step = max(1, int(np.sqrt(channel.array.size / _MAX_SAMPLE)))
    lines = channel.array[:, :: min(step, nj), :: min(step, nk)].astype(np.int64)
    jumps = np.abs(np.diff(lines, axis=0))
    if jumps.size == 0 or np.unique(_sample(channel.array)).size < _MIN_IMAGE_LEVELS:
        return 0.0
    return float(np.count_nonzero((jumps > _JUMP_SHARE * size) & (jumps < span)) / jumps.size)


def _sample(array: _Channel3) -> Real[np.ndarray, " n"]:
    flat = array.reshape(-1)
    sample = flat[:: max(1, flat.size // _MAX_SAMPLE)]
    return sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample


def _saturation(
    view: CaseView, channel: _Channel, value: float, share: float, limit: float
) -> Finding:
    is_top = value == channel.measures.quantiles[-1]
    end = "largest" if is_top else "smallest"
    return Finding(
        check_id="F11",
        severity="warning",
        case_id=view.case_id,
        value=share,
        threshold=limit,
        message=f"{100 * share:.3g} % of the image{channel.name} voxels hold its {end} value, "
        f"{value:g} ({channel.stored_dtype}): "
        + ("what was brighter is lost" if is_top else "it is a clipped or a padding value"),
        fix="export the image again with a wider number type or without clipping; if the end is "
        "meant, waive F11",
        evidence=_evidence(view, channel, channel.array == value),
    )


def _overflow(view: CaseView, channel: _Channel, share: float, limits: ImageLimits) -> Finding:
    low, high = channel.measures.quantiles[0], channel.measures.quantiles[-1]
    middle = (low + high) / 2
    # A voxel of the darker side beside one of the brighter side marks the place.
    above = channel.array > middle
    flips = np.zeros(channel.array.shape, dtype=bool)
    flips[:-1] = above[:-1] != above[1:]
    return Finding(
        check_id="F11",
        severity="warning",
        case_id=view.case_id,
        value=share,
        threshold=limits.max_wrapped_fraction,
        message=f"image{channel.name} values jump between {low:g} and {high:g} from one voxel to "
        f"the next ({100 * share:.3g} % of the neighbors): they ran over the number type and "
        "start again at its other end",
        fix="export the image again with a wider number type; the true values are lost here",
        evidence=_evidence(view, channel, flips),
    )


def _evidence(
    view: CaseView, channel: _Channel, is_bad: np.ndarray
) -> dict[str, str | int | float | tuple[int, ...]]:
    files = view.record.image_files
    place = np.unravel_index(int(np.argmax(is_bad)), channel.array.shape)
    return {
        "file": files[min(channel.index, len(files) - 1)].file,
        "voxel_ras": (int(place[0]), int(place[1]), int(place[2])),
    }


# --- F13 ------------------------------------------------------------------------------------------


def _size_problem(facts: FileFacts, limits: ImageLimits) -> tuple[float, float, str] | None:
    """Value, threshold and words for the first axis that is out of bounds."""
    affine = np.array(facts.affine, dtype=np.float64)
    sizes = spacing_of(affine) if np.isfinite(affine).all() else ()  # else G07 reports it
    for name, n, size in zip("ijk", facts.shape[:3], sizes, strict=False):
        if 0 < size < limits.min_spacing_mm:
            return size, limits.min_spacing_mm, f"voxels are only {size:.3g} mm wide along {name}"
        if size > limits.max_spacing_mm and n > 1:
            return size, limits.max_spacing_mm, f"voxels are {size:.3g} mm wide along {name}"
        if n * size > limits.max_extent_mm:
            words = f"the volume is {n * size / 1000:.3g} m long along {name}"
            return n * size, limits.max_extent_mm, words
    return None
