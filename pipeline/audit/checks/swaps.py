"""E11: two classes of one case carry each other's values."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from pipeline.artifacts import Finding, StoredArray
from pipeline.audit.checks.robust import robust_center
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.codes import CodeLimits
from pipeline.audit.measures import LEVELS, CaseMeasures, ClassMeasures
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.core.geometry import spacing_of

# Below this many cases the usual place and size of a class are not known well enough.
_MIN_CASES = 10
# Smallest deviations that are believed: volume (log), place (3 x mm), intensity (rank).
_FLOORS = (0.05, 2.0, 2.0, 2.0, 0.05)
_PLACE = slice(1, 4)
# With fewer classes, a displacement of the whole case cannot be told from a swap.
_MIN_CLASSES_TO_CENTER = 4
# A single absurd feature must not outweigh all others.
_MAX_FEATURE_Z = 6.0
# Stands for the distance to a class that the cohort does not show often enough.
_UNKNOWN = 1e6

_Features = Float[np.ndarray, "case class feature"]
_Distances = Float[np.ndarray, "own other"]


@dataclass(frozen=True)
class _Cohort:
    """What is usual for every class: center and spread of every feature, NaN if unknown."""

    center: Float[np.ndarray, "class feature"]
    spread: Float[np.ndarray, "class feature"]


@dataclass(frozen=True)
class _Move:
    """A structure that fits another class; positions in the class table."""

    own: int
    other: int
    gain: float


def check_swapped_classes(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """E11: structures that fit their own class badly and another class of the case well.

    Every structure of a case is compared with every class of the cohort by volume, place and
    intensity; the best assignment is found, and reported if it is far better than the given one.
    Silent below ten cases.
    """
    if len(dataset.rows) < _MIN_CASES:
        return []
    features = _features(dataset)
    _center_places(features)
    cohort = _learn(features)
    findings = []
    for row, described in zip(dataset.rows, features, strict=True):
        shown = np.flatnonzero(np.isfinite(described[:, 0]))
        moves = _find_moves(_squared_distances(described[shown], cohort), shown, config.codes)
        if moves:
            findings.append(_finding(dataset, row, moves, config.codes))
    return findings


def _features(dataset: DatasetView) -> _Features:
    """Log volume, place and intensity of every class of every case; NaN where absent."""
    n_classes = len(dataset.manifest.task.classes)
    features = np.full((len(dataset.rows), n_classes, len(_FLOORS)), np.nan)
    records = {record.case_id: record for record in dataset.manifest.cases}
    for number, row in enumerate(dataset.rows):
        stored = records[row.case_id].label if row.case_id in records else None
        if stored is None:
            continue
        for one in row.measures.classes:
            features[number, one.class_index - 1] = _describe(one, row.measures, stored)
    return features


def _describe(
    one: ClassMeasures, measures: CaseMeasures, stored: StoredArray
) -> Float[np.ndarray, " feature"]:
    sizes_mm = np.array(spacing_of(np.array(stored.affine, dtype=np.float64)))
    extent_mm = sizes_mm * np.array(stored.shape[-3:])
    place_mm = (np.array(one.centroid_fraction) - 0.5) * extent_mm
    rank = 0.0
    if measures.channels and one.quantiles:
        # The rank in the own image, so that the scale of an MR image does not matter.
        middle = one.quantiles[LEVELS.index(0.5)]
        rank = float(np.interp(middle, measures.channels[0].quantiles, LEVELS))
    volume_mm3 = one.n_voxels * float(np.prod(sizes_mm))
    return np.array([np.log(max(volume_mm3, 1e-9)), *place_mm, rank])


def _center_places(features: _Features) -> None:
    """Take out, in place, how far a whole case is displaced: another field of view."""
    is_shown = np.isfinite(features[:, :, 0])
    known = is_shown.any(axis=0)
    usual = np.full((features.shape[1], 3), np.nan)
    usual[known] = np.nanmedian(features[:, known, _PLACE], axis=0)
    for described, shown in zip(features, is_shown, strict=True):
        if np.count_nonzero(shown) >= _MIN_CLASSES_TO_CENTER:
            moved_mm = described[shown, _PLACE] - usual[shown]
            described[shown, _PLACE] -= np.median(moved_mm, axis=0)


def _learn(features: _Features) -> _Cohort:
    center = np.full(features.shape[1:], np.nan)
    spread = np.full(features.shape[1:], np.nan)
    for position in range(features.shape[1]):
        known = features[np.isfinite(features[:, position, 0]), position]
        if len(known) < _MIN_CASES:
            continue
        for feature, floor in enumerate(_FLOORS):
            center[position, feature], spread[position, feature] = robust_center(
                known[:, feature], floor
            )
    return _Cohort(center, spread)


def _squared_distances(described: Float[np.ndarray, "own feature"], cohort: _Cohort) -> _Distances:
    """Squared robust z of every structure as every class, summed over the features."""
    z = (described[:, None, :] - cohort.center) / cohort.spread
    distances = (np.clip(z, -_MAX_FEATURE_Z, _MAX_FEATURE_Z) ** 2).sum(axis=2)
    return np.where(np.isfinite(distances), distances, _UNKNOWN)


def _find_moves(
    distances: _Distances, shown: Int[np.ndarray, " own"], limits: CodeLimits
) -> tuple[_Move, ...]:
    """Structures whose best class is another one, if the evidence is strong."""
    if len(shown) == 0:
        return ()
    rows, best = linear_sum_assignment(distances)
    moves = [
        _Move(
            int(shown[row]), int(other), float(distances[row, shown[row]] - distances[row, other])
        )
        for row, other in zip(rows, best, strict=True)
        if other != shown[row]
    ]
    farthest = len(_FLOORS) * limits.max_swap_distance**2
    is_plausible = all(
        distances[row, other] <= farthest and distances[row, shown[row]] < _UNKNOWN
        for row, other in zip(rows, best, strict=True)
        if other != shown[row]
    )
    # One structure under the name of an absent class needs the evidence of two that swapped.
    needed = limits.min_swap_gain * max(2, len(moves))
    is_strong = sum(move.gain for move in moves) >= needed
    return tuple(moves) if moves and is_plausible and is_strong else ()


def _finding(
    dataset: DatasetView, row: CaseRow, moves: tuple[_Move, ...], limits: CodeLimits
) -> Finding:
    names = dataset.manifest.task.class_names
    words = ", ".join(f"'{names[move.own]}' looks like '{names[move.other]}'" for move in moves)
    evidence: dict[str, str | int | float | tuple[int, ...]] = {}
    first = row.measures.of_class(moves[0].own + 1)
    if first is not None:
        i, j, k = ((a + b) // 2 for a, b in zip(first.start, first.stop, strict=True))
        evidence["voxel_ras"] = (i, j, k)
    return Finding(
        check_id="E11",
        severity="warning",
        case_id=row.case_id,
        class_name=names[moves[0].own],
        value=sum(move.gain for move in moves) / len(moves),
        threshold=limits.min_swap_gain,
        message=f"by volume, place and intensity {words} in {len(dataset.rows) - 1} other cases: "
        "their values may be swapped",
        fix="look at the case: if the values are swapped, exchange them in a copy; if the whole "
        "label is mirrored (G14) correct that; if the patient is unusual, waive E11",
        evidence=evidence,
    )
