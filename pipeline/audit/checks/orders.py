"""Do the classes of a case lie in the same order as in the other cases (for G14)?"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import CaseRecord
from pipeline.audit.checks.robust import robust_center
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.core.geometry import Shape3, spacing_of

# The spread of a distance is believed to be at least this part of the distance.
_MIN_RELATIVE_SPREAD = 0.02
# Reversed "far": beyond this part of the usual distance on the wrong side.
_FAR = 0.5

_Pair = tuple[int, int]
_Offset = Float[np.ndarray, " axis"]
_Offsets = dict[_Pair, _Offset]


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
class _UsualOrder:
    """Median offset of a pair in mm, NaN along axes where the order is not stable."""

    offset_mm: _Offset
    n_cases: int


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
    records = {record.case_id: record for record in dataset.manifest.cases}
    offsets = {row.case_id: _offsets_mm(row, records[row.case_id]) for row in dataset.rows}
    usual = _usual_orders(list(offsets.values()), limits, min_agreement)
    found = {}
    for row in dataset.rows:
        axes = [_judge(row, offsets[row.case_id], usual, axis, limits) for axis in range(3)]
        reversed_axes = [judged for judged in axes if judged is not None]
        if reversed_axes:
            found[row.case_id] = reversed_axes
    return found


def _offsets_mm(row: CaseRow, record: CaseRecord) -> _Offsets:
    """From the first to the second class center of every pair, along the voxel axes."""
    stored = record.label
    if stored is None:
        return {}
    extent_mm = np.array(stored.shape[-3:]) * spacing_of(np.array(stored.affine, dtype=np.float64))
    centers = {c.class_index: extent_mm * c.centroid_fraction for c in row.measures.classes}
    return {(a, b): centers[b] - centers[a] for a, b in combinations(sorted(centers), 2)}


def _usual_orders(
    cases: list[_Offsets], limits: GridLimits, min_agreement: float
) -> dict[_Pair, _UsualOrder]:
    by_pair: dict[_Pair, list[_Offset]] = defaultdict(list)
    for offsets in cases:
        for pair, offset in offsets.items():
            by_pair[pair].append(offset)
    usual = {}
    for pair, found in by_pair.items():
        if len(found) >= limits.min_cohort_cases:
            by_axis = [
                _stable_offset(values, limits, min_agreement) for values in np.array(found).T
            ]
            usual[pair] = _UsualOrder(np.array(by_axis), len(found))
    return usual


def _stable_offset(
    values_mm: Float[np.ndarray, " n"], limits: GridLimits, min_agreement: float
) -> float:
    median = float(np.median(values_mm))
    if median == 0:
        return float("nan")
    _, spread = robust_center(values_mm, _MIN_RELATIVE_SPREAD * abs(median))
    # The case that is judged is one of the reversed ones; the others must agree.
    agreeing = float(np.sum(values_mm * median > 0)) / (values_mm.size - 1)
    is_far = abs(median) >= limits.min_order_effect * spread
    return median if is_far and agreeing >= min_agreement else float("nan")


def _judge(
    row: CaseRow,
    offsets: _Offsets,
    usual: dict[_Pair, _UsualOrder],
    axis: int,
    limits: GridLimits,
) -> ReversedOrder | None:
    known = [p for p in offsets if p in usual and np.isfinite(usual[p].offset_mm[axis])]
    # 1 where usual, -1 where mirrored.
    share = {p: float(offsets[p][axis] / usual[p].offset_mm[axis]) for p in known}
    turned = {p for p in known if share[p] < 0}
    if not _prevails(turned, known, limits):
        return None
    is_broad = all(
        _prevails(turned, [p for p in known if c not in p], limits) for c in {*chain(*known)}
    )
    is_far = all(share[p] < -_FAR for p in known)
    is_well_known = all(usual[p].n_cases >= limits.min_lone_pair_cases for p in known)
    if not is_broad and not (is_far and is_well_known):
        return None
    worst = max(turned, key=lambda p: abs(float(offsets[p][axis])))
    return ReversedOrder(axis, len(known), len(turned), is_broad, worst, _center(row, worst[0]))


def _prevails(turned: set[_Pair], pairs: list[_Pair], limits: GridLimits) -> bool:
    return len(turned & set(pairs)) > limits.max_reversed_fraction * len(pairs)


def _center(row: CaseRow, class_index: int) -> Shape3:
    one = row.measures.of_class(class_index)
    if one is None:
        return (0, 0, 0)
    i, j, k = ((a + b) // 2 for a, b in zip(one.start, one.stop, strict=True))
    return (i, j, k)
