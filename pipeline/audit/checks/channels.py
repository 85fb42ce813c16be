"""D08: channels of a case that stand in another order than in the rest of the dataset."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from pipeline.artifacts import Finding
from pipeline.audit.checks.robust import robust_z
from pipeline.audit.config import AuditConfig
from pipeline.audit.measures import LEVELS, ChannelMeasures
from pipeline.audit.view import DatasetView

# The extremes are noise; the quantiles between describe the shape of the histogram.
_INNER = slice(1, -1)
_LOW, _MIDDLE, _HIGH = LEVELS.index(0.05), LEVELS.index(0.5), LEVELS.index(0.95)
# In units of the spread of a channel: smaller differences between cases are not believed.
_MIN_DEVIATION = 0.05
_MIN_DISTANCE_MAD = 0.1


def check_channel_order(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """D08: a case whose channels fit better when swapped.

    The gray values of a channel are described by the shape of their distribution, which does not
    depend on the scale of the scanner, and by their spread against the other channels.
    """
    names = [channel.name for channel in dataset.manifest.task.channels]
    case_ids, features = _signatures(dataset, len(names))
    if len(names) < 2 or len(case_ids) < config.cohort.min_outlier_cases:
        return []
    distances = _distances(features)
    own = np.diagonal(distances, axis1=1, axis2=2)
    outlying = np.stack([robust_z(column, _MIN_DISTANCE_MAD) for column in own.T], axis=1)
    findings = []
    for case_id, table, z in zip(case_ids, distances, outlying, strict=True):
        order = linear_sum_assignment(table)[1]
        moved = np.flatnonzero(order != np.arange(len(names)))
        if not moved.size or z[moved].max() <= config.cohort.max_channel_robust_z:
            continue
        ratio = float(table[moved, order[moved]].sum() / table[moved, moved].sum())
        if ratio < config.cohort.max_channel_swap_ratio:
            pairs = [(names[c], names[order[c]]) for c in moved]
            findings.append(_swapped(case_id, pairs, float(z[moved].max()), ratio, config))
    return findings


def _signatures(
    dataset: DatasetView, n_channels: int
) -> tuple[list[str], Float[np.ndarray, "case channel feature"]]:
    """One row of features per channel; cases with a channel of one value are left out."""
    case_ids, features = [], []
    for row in dataset.rows:
        channels = row.measures.channels
        if len(channels) == n_channels and all(_spread(c) > 0 for c in channels):
            case_ids.append(row.case_id)
            features.append(_signature(channels))
    empty = np.zeros((0, n_channels, len(LEVELS) - 1))
    return case_ids, np.stack(features) if features else empty


def _spread(channel: ChannelMeasures) -> float:
    return channel.quantiles[_HIGH] - channel.quantiles[_LOW]


def _signature(channels: tuple[ChannelMeasures, ...]) -> Float[np.ndarray, "channel feature"]:
    quantiles = np.array([channel.quantiles for channel in channels], dtype=np.float64)
    spread = (quantiles[:, _HIGH] - quantiles[:, _LOW])[:, None]
    shape = (quantiles[:, _INNER] - quantiles[:, [_MIDDLE]]) / spread
    relative = np.log(spread) - np.log(spread).mean()
    return np.concatenate([shape, relative], axis=1)


def _distances(
    features: Float[np.ndarray, "case channel feature"],
) -> Float[np.ndarray, "case channel kind"]:
    """How far each channel of each case is from what each channel usually is."""
    usual = np.median(features, axis=0)
    deviation = np.median(np.abs(features - usual), axis=0).clip(min=_MIN_DEVIATION)
    offsets = np.abs(features[:, :, None] - usual[None, None]) / deviation[None, None]
    return offsets.mean(axis=3)


def _swapped(
    case_id: str, pairs: list[tuple[str, str]], z: float, ratio: float, config: AuditConfig
) -> Finding:
    listed = ", ".join(f"{place} looks like {kind}" for place, kind in pairs)
    return Finding(
        check_id="D08",
        severity="warning",
        case_id=case_id,
        value=round(z, 2),
        threshold=config.cohort.max_channel_robust_z,
        message=f"the channels of {case_id} seem to be swapped: {listed} of the other cases "
        f"(distance from the usual gray values falls to {ratio:.0%} when swapped back)",
        fix="look at the channels of this case and rename its files if they are in the wrong order",
        evidence={"ratio": ratio},
    )
