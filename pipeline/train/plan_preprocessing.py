"""Plan what is done to an image before the network sees it: spacing and normalization.

The rules are those published for nnU-Net (Isensee et al. 2021, and its documentation).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import QUANTILE_LEVELS, CaseFingerprint, Normalization, Task
from pipeline.core.errors import ConfigError, did_you_mean
from pipeline.core.geometry import Spacing
from pipeline.train.config import NormalizationKind, TrainConfig

ANISOTROPY_RATIO = 3.0
# Below this share of voxels that are not 0, the zeros are a mask and not a measurement.
MASKED_FRACTION = 0.75


def plan_spacing(
    rows: Sequence[CaseFingerprint], config: TrainConfig, reasons: list[str]
) -> Spacing:
    """Choose the spacing that all cases are brought to.

    Args:
        rows: Fingerprints of the training cases.
        config: May fix it.
        reasons: A line is added.

    Returns:
        Along i, j, k, in mm: the median; an axis far coarser than the others takes its 10th
        percentile instead.
    """
    if config.spacing_mm is not None:
        reasons.append(f"spacing {_by(config.spacing_mm)} mm: as configured")
        return config.spacing_mm
    spacings = np.array([r.spacing_mm for r in rows])
    extents = np.array([r.shape for r in rows])
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    median_shape = np.median(extents * spacings / target, axis=0)
    is_anisotropic = (
        target[coarse] > ANISOTROPY_RATIO * target[others].max()
        and median_shape[coarse] * ANISOTROPY_RATIO < median_shape[others].min()
    )
    how = "median of the training cases"
    if is_anisotropic:
        tenth = float(np.percentile(spacings[:, coarse], 10))
        target[coarse] = max(tenth, float(target[others].max()))
        how += "; 10th percentile along the coarse axis"
    # Rounded to 0.1 um: the header's float32 noise shall not show.
    i, j, k = (round(float(v), 4) for v in target)
    reasons.append(f"spacing {_by((i, j, k))} mm: {how}")
    return i, j, k


def plan_normalizations(
    rows: Sequence[CaseFingerprint], task: Task, config: TrainConfig, reasons: list[str]
) -> tuple[Normalization, ...]:
    """Choose how the intensities of each channel are normalized.

    Args:
        rows: Fingerprints of the training cases.
        task: Channels and their modality.
        config: May fix it by channel.
        reasons: A line per channel is added.

    Returns:
        One per channel.

    Raises:
        ConfigError: If the configuration names a channel that does not exist.
    """
    fixed = config.normalization or {}
    names = [channel.name for channel in task.channels]
    for name in fixed:
        if name not in names:
            raise ConfigError(
                f"there is no channel '{name}'",
                where="train.normalization",
                fix=did_you_mean(name, names),
            )
    chosen = []
    for index, channel in enumerate(task.channels):
        kind, why = _kind(rows, channel.name, channel.modality, fixed)
        normalization = Normalization(kind=kind)
        how = "z-score over nonzero voxels" if kind == "zscore_nonzero" else "z-score per image"
        if kind == "ct":
            normalization, n_pooled = _ct_normalization(rows, index)
            how = (
                f"clip to {normalization.lower:.4g}..{normalization.upper:.4g} (0.5 and 99.5 % of "
                f"the foreground of {n_pooled} cases), then foreground mean and SD"
            )
        chosen.append(normalization)
        reasons.append(f"channel {channel.name} ({channel.modality}): {how}{why}")
    return tuple(chosen)


def _kind(
    rows: Sequence[CaseFingerprint],
    name: str,
    modality: str,
    fixed: Mapping[str, NormalizationKind],
) -> tuple[NormalizationKind, str]:
    """Kind of normalization of a channel, and why."""
    if name in fixed:
        return fixed[name], ", as configured"
    if modality == "ct":
        return "ct", ""
    if float(np.median([r.nonzero_fraction for r in rows])) < MASKED_FRACTION:
        return "zscore_nonzero", ": more than a quarter of the volume is 0"
    return "zscore", ""


def _ct_normalization(rows: Sequence[CaseFingerprint], channel: int) -> tuple[Normalization, int]:
    """Pool the cases' foregrounds, each case with equal weight as nnU-Net samples them."""
    # Of a case without any structure the fingerprint is that of the whole image, air included.
    usable = [row for row in rows if any(row.n_class_voxels)] or rows
    statistics = [row.foreground[channel] for row in usable]
    quantiles = np.array([s.quantiles for s in statistics])
    means = np.array([s.mean for s in statistics])
    stds = np.array([s.std for s in statistics])
    lower, upper = (_pooled_quantile(quantiles, level) for level in (0.005, 0.995))
    mean = float(means.mean())
    std = float(np.sqrt((stds**2 + (means - mean) ** 2).mean()))
    pooled = Normalization(kind="ct", lower=lower, upper=upper, mean=mean, std=max(std, 1e-6))
    return pooled, len(usable)


def _pooled_quantile(quantiles: Float[np.ndarray, "case level"], level: float) -> float:
    """Quantile of the mixture of all cases: where the mean of their distributions crosses."""
    low, high = float(quantiles.min()), float(quantiles.max())
    for _ in range(60):
        middle = (low + high) / 2
        share = np.mean([np.interp(middle, row, QUANTILE_LEVELS) for row in quantiles])
        low, high = (middle, high) if share < level else (low, middle)
    return (low + high) / 2


def _by(spacing_mm: Spacing) -> str:
    return " x ".join(f"{value:g}" for value in spacing_mm)
