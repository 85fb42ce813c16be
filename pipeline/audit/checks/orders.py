"""Do the classes of a case lie in the same order as in the other cases (for G14)?"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.audit.checks.robust import robust_center
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.core.geometry import Shape3, spacing_of

# The spread of a distance is believed to be at least this part of the distance.
_MIN_RELATIVE_SPREAD = 0.02
# Reversed "far": beyond this part of the usual distance on the wrong side.
_FAR = 0.5

_Centers = Float[np.ndarray, "case class 3"]


@dataclass(frozen=True)
class ReversedOrder:
    """A case in which classes lie the other way round along one axis.

    Args:
        axis: 0 R, 1 A, 2 S.
        n_pairs: Pairs of classes in the case whose order is always the same in the others.
        n_reversed: How many of them are reversed.
        is_broad: Whether that stays so whichever class is left out: no single class explains it.
        pair: Class indices of the pair that is reversed by the largest distance.
        voxel: Center of the first class of that pair.
    """

    axis: int
    n_pairs: int
    n_reversed: int
    is_broad: bool
    pair: tuple[int, int]
    voxel: Shape3


@dataclass(frozen=True)
class _UsualOrders:
    """The pairs of classes that enough cases show; positions in the class table.

    Args:
        first: First class of each pair.
        second: Second class of each pair.
        offset_mm: Median offset from first to second, NaN along axes where it is not stable.
        n_cases: Cases that show both.
    """

    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]
    offset_mm: Float[np.ndarray, "pair 3"]
    n_cases: Int[np.ndarray, " pair"]


def find_reversed(
    dataset: DatasetView, limits: GridLimits, min_agreement: float
) -> dict[str, list[ReversedOrder]]:
    """Cases whose classes lie in reverse order along an axis.

    A pair of classes has a usual order along an axis if enough cases agree on its sign and the
    median distance of the two centers is several times its spread: then a chance reversal is rarer
    than the tail of a normal distribution beyond that many deviations. More than half of these
    pairs must be reversed, also without any one class: a single misplaced structure is no mirror.
    Where there are too few pairs to tell, more cases are needed, all pairs must be reversed, and
    far: then the distance lies 1.5 times `min_order_effect` deviations off.

    Args:
        dataset: All cases with their class centers.
        limits: How many cases a pair needs, and how stable its distance must be.
        min_agreement: Share of the other cases that must agree on the order of a pair.

    Returns:
        By case id, one entry per reversed axis; only cases that have any.
    """
    centers = _centers_mm(dataset)
    usual = _usual_orders(centers, limits, min_agreement)
    found = {}
    for row, own in zip(dataset.rows, centers, strict=True):
        # 1 where usual, negative where mirrored, NaN where a class or a usual order is missing.
        shares = (own[usual.second] - own[usual.first]) / usual.offset_mm
        axes = [_judge(row, shares[:, axis], usual, axis, limits) for axis in range(3)]
        reversed_axes = [judged for judged in axes if judged is not None]
        if reversed_axes:
            found[row.case_id] = reversed_axes
    return found


def _centers_mm(dataset: DatasetView) -> _Centers:
    """Class centers along the voxel axes; NaN where a case does not show a class."""
    centers = np.full((len(dataset.rows), len(dataset.manifest.task.classes), 3), np.nan)
    records = {record.case_id: record for record in dataset.manifest.cases}
    for number, row in enumerate(dataset.rows):
        stored = records[row.case_id].label
        if stored is None:
            continue
        spacing_mm = spacing_of(np.array(stored.affine, dtype=np.float64))
        extent_mm = np.array(stored.shape[-3:]) * spacing_mm
        for one in row.measures.classes:
            centers[number, one.class_index - 1] = extent_mm * one.centroid_fraction
    return centers


def _usual_orders(centers: _Centers, limits: GridLimits, min_agreement: float) -> _UsualOrders:
    is_shown = np.isfinite(centers[:, :, 0])
    pairs, offsets, counts = [], [], []
    for pair in combinations(range(centers.shape[1]), 2):
        both = centers[is_shown[:, pair].all(axis=1)][:, pair]
        if len(both) >= limits.min_cohort_cases:
            values_mm = both[:, 1] - both[:, 0]
            pairs.append(pair)
            offsets.append([_stable_offset(v, limits, min_agreement) for v in values_mm.T])
            counts.append(len(both))
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return _UsualOrders(
        first=table[:, 0],
        second=table[:, 1],
        offset_mm=np.array(offsets, dtype=np.float64).reshape(-1, 3),
        n_cases=np.array(counts, dtype=np.int64),
    )


def _stable_offset(
    values_mm: Float[np.ndarray, " n"], limits: GridLimits, min_agreement: float
) -> float:
    median = float(np.median(values_mm))
    # The case that is judged is one of the reversed ones; the others must agree.
    agreeing = np.count_nonzero(values_mm * median > 0) / (values_mm.size - 1)
    if agreeing < min_agreement:
        return float("nan")
    _, spread = robust_center(values_mm, _MIN_RELATIVE_SPREAD * abs(median))
    return median if abs(median) >= limits.min_order_effect * spread else float("nan")


def _judge(
    row: CaseRow,
    shares: Float[np.ndarray, " pair"],
    usual: _UsualOrders,
    axis: int,
    limits: GridLimits,
) -> ReversedOrder | None:
    known = np.flatnonzero(np.isfinite(shares))
    is_turned = shares[known] < 0
    if not _prevails(is_turned, limits):
        return None
    first, second = usual.first[known], usual.second[known]
    is_broad = all(
        _prevails(is_turned[(first != one) & (second != one)], limits)
        for one in np.unique([first, second])
    )
    is_far = bool((shares[known] < -_FAR).all())
    is_well_known = bool((usual.n_cases[known] >= limits.min_lone_pair_cases).all())
    if not is_broad and not (is_far and is_well_known):
        return None
    distance_mm = np.abs(shares[known] * usual.offset_mm[known, axis])
    worst = int(np.argmax(np.where(is_turned, distance_mm, -1.0)))
    pair = (int(first[worst]) + 1, int(second[worst]) + 1)
    n_reversed = int(is_turned.sum())
    return ReversedOrder(axis, known.size, n_reversed, is_broad, pair, _center(row, pair[0]))


def _prevails(is_turned: Bool[np.ndarray, " pair"], limits: GridLimits) -> bool:
    return bool(is_turned.sum() > limits.max_reversed_fraction * is_turned.size)


def _center(row: CaseRow, class_index: int) -> Shape3:
    one = row.measures.of_class(class_index)
    if one is None:
        return (0, 0, 0)
    i, j, k = ((a + b) // 2 for a, b in zip(one.start, one.stop, strict=True))
    return (i, j, k)
