"""Where a label would fit the image edges better than where it lies (for G13 and G14)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.audit.checks.robust import robust_center
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.measures import AlignmentProfile
from pipeline.audit.view import DatasetView

# Half the width of a peak: edges are blurred over about this many voxels.
_PEAK_VOXELS = 3
# A curve of fewer positions shows no peak.
_MIN_POSITIONS = 7
# Smallest spread of log gains among cases that is believed.
_MIN_LOG_SPREAD = 0.02
# A pooled curve of fewer cases is just those cases.
_MIN_POOLED_CASES = 3

_Curves = Float[np.ndarray, "axis shift"]


@dataclass(frozen=True)
class Move:
    """A place where the label would fit better.

    Args:
        kind: "shift" or "flip".
        axes: Axes to move or mirror along; one for a shift.
        shift: Voxels to move by; 0 for a flip.
        gain: Edge ratio there over the edge ratio as placed.
    """

    kind: str
    axes: tuple[int, ...]
    shift: int
    gain: float


@dataclass(frozen=True)
class EdgeGains:
    """Log of (edge ratio after a move / edge ratio as placed); NaN where not comparable.

    Args:
        profile: What was measured.
        shift: Shape (3, n_shifts).
        flip: Shape (n_flips,).
    """

    profile: AlignmentProfile
    shift: Float[np.ndarray, "3 n_shifts"]
    flip: Float[np.ndarray, " n_flips"]


def edge_gains(dataset: DatasetView) -> dict[str, EdgeGains]:
    """Gains of every case that can be assessed, by case id."""
    found = {}
    for row in dataset.rows:
        profile = row.measures.alignment
        if profile is not None and profile.is_assessable and profile.ratio > 0:
            found[row.case_id] = EdgeGains(
                profile,
                _log_gain(np.array(profile.shift_ratios), profile.ratio),
                _log_gain(np.array(profile.flip_ratios), profile.ratio),
            )
    return found


def best_moves(gains: dict[str, EdgeGains], limits: GridLimits) -> dict[str, Move]:
    """Cases whose label fits clearly better after one shift or one flip.

    With enough cases the gain must also stand out from what the same move brings in the others:
    anatomy repeats itself, so that some wrong places fit rather well in every case.

    Args:
        gains: Every assessable case.
        limits: How large, how sharp and how unusual a gain must be.

    Returns:
        The better explanation of each such case, by case id.
    """
    shifts = np.array([g.shift for g in gains.values()])
    flips = np.array([g.flip for g in gains.values()])
    found = {}
    for case_id, own in gains.items():
        shift = best_shift(own.shift, own.profile.shifts, limits)
        flip = _best_flip(own, flips, limits)
        # Of two explanations the one that fits better; a flip must beat any shift.
        if flip is not None and (shift is None or flip.gain > shift.gain):
            found[case_id] = flip
        elif shift is not None and _is_shift_unusual(own, shift, shifts, limits):
            found[case_id] = shift
    return found


def common_shift(gains: dict[str, EdgeGains], limits: GridLimits) -> Move | None:
    """A shift that the labels of nearly all cases share, read off the pooled curves.

    Args:
        gains: Every assessable case.
        limits: How large and sharp the gain must be, and how many cases must agree.

    Returns:
        The shift; None if there is none, or too few cases.
    """
    if len(gains) < _MIN_POOLED_CASES:
        return None
    curves = np.array([g.shift for g in gains.values()])
    is_known = np.isfinite(curves).mean(axis=0) >= 0.5
    pooled = np.full(curves.shape[1:], np.nan)
    pooled[is_known] = np.nanmedian(curves[:, is_known], axis=0)
    shifts = next(iter(gains.values())).profile.shifts
    move = best_shift(pooled, shifts, limits)
    if move is None:
        return None
    there = curves[:, move.axes[0], shifts.index(move.shift)]
    return move if np.mean(there > 0) >= limits.min_common_fraction else None


def best_shift(gains: _Curves, shifts: tuple[int, ...], limits: GridLimits) -> Move | None:
    """The shift with the largest gain, if it is large and its curve has a peak there.

    Args:
        gains: Log gain for every axis and shift, NaN where unknown.
        shifts: In voxels, rising.
        limits: Smallest shift, gain and height over the rest of the curve.

    Returns:
        The shift along one axis, or None.
    """
    found = [_peak(curve, axis, shifts, limits) for axis, curve in enumerate(gains)]
    peaks = [peak for peak in found if peak is not None]
    return max(peaks, key=lambda peak: peak.gain) if peaks else None


def _peak(
    curve: Float[np.ndarray, " n"], axis: int, shifts: tuple[int, ...], limits: GridLimits
) -> Move | None:
    known = np.flatnonzero(np.isfinite(curve))
    if known.size < _MIN_POSITIONS:
        return None
    best = int(known[np.argmax(curve[known])])
    if abs(shifts[best]) < limits.min_shift_voxels or best in (known[0], known[-1]):
        return None
    elsewhere = curve[known[np.abs(known - best) >= _PEAK_VOXELS]]
    is_large = curve[best] > np.log(limits.min_shift_gain)
    if not is_large or curve[best] - elsewhere.max() <= np.log(limits.min_peak_gain):
        return None
    return Move("shift", (axis,), shifts[best], float(np.exp(curve[best])))


def _is_shift_unusual(
    own: EdgeGains, move: Move, shifts: Float[np.ndarray, "case 3 n_shifts"], limits: GridLimits
) -> bool:
    axis, place = move.axes[0], own.profile.shifts.index(move.shift)
    if own.profile.shift_ratios[axis][place] < limits.min_edge_ratio:
        return False
    usual = shifts[:, axis, place]
    if not _shows_what_is_usual(usual, limits):
        return move.gain > limits.min_lone_shift_gain
    return _stands_out(float(np.log(move.gain)), usual, limits.min_shift_gain, limits)


def _best_flip(
    own: EdgeGains, flips: Float[np.ndarray, "case n_flips"], limits: GridLimits
) -> Move | None:
    if not np.isfinite(own.flip).any():
        return None
    best = int(np.nanargmax(own.flip))
    gain = float(own.flip[best])
    is_large = gain > np.log(limits.min_shift_gain)
    if not is_large or own.profile.flip_ratios[best] < limits.min_edge_ratio:
        return None
    usual = flips[:, best]
    if _shows_what_is_usual(usual, limits):
        is_clear = _stands_out(gain, usual, limits.min_flip_gain, limits)
    else:
        is_clear = gain > np.log(limits.min_flip_gain)
    return Move("flip", own.profile.flips[best], 0, float(np.exp(gain))) if is_clear else None


def _shows_what_is_usual(gains: Float[np.ndarray, " case"], limits: GridLimits) -> bool:
    return int(np.isfinite(gains).sum()) >= limits.min_cohort_cases


def _stands_out(
    log_gain: float, others: Float[np.ndarray, " case"], min_gain: float, limits: GridLimits
) -> bool:
    median, spread = robust_center(others[np.isfinite(others)], _MIN_LOG_SPREAD)
    above = log_gain - median
    return bool(above > np.log(min_gain) and above > limits.min_robust_z * spread)


def _log_gain(ratios: Float[np.ndarray, "..."], ratio: float) -> Float[np.ndarray, "..."]:
    gains = np.full(ratios.shape, np.nan)
    np.log(ratios / ratio, out=gains, where=ratios > 0)
    return gains
