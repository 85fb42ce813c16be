"""G13 and G14: is the label shifted or mirrored against the image?

One answer per case: the order of the classes is the surest witness, then the image edges, and a
mirrored label is not reported as a shifted one as well.
"""

import numpy as np

from pipeline.artifacts import Finding
from pipeline.audit.checks.edges import EdgeGains, Move, best_moves, common_shift, edge_gains
from pipeline.audit.checks.orders import ReversedOrder, find_reversed
from pipeline.audit.config import AuditConfig
from pipeline.audit.limits.grids import GridLimits
from pipeline.audit.view import DatasetView

_AXES = ("left-right", "front-back", "head-foot")
_TOWARDS = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
# Edges alone accuse a label of being mirrored only if several structures agree.
_MIN_CLASSES_FOR_ERROR = 3
# A shift along the same axis up to this far from the common one is the common one.
_SHIFT_TOLERANCE_VOXELS = 1


def check_placement(dataset: DatasetView, config: AuditConfig) -> list[Finding]:
    """G13, G14: labels that fit better, or lie like the others, when shifted or mirrored."""
    limits = config.grids
    gains = edge_gains(dataset)
    turned = _turned_cases(dataset, gains, limits)
    moves = best_moves(gains, limits)
    names = dataset.manifest.task.class_names
    common = common_shift(gains, limits)
    findings = [] if common is None else [_common_finding(common, len(gains), limits)]
    for row in dataset.rows:
        own, move = gains.get(row.case_id), moves.get(row.case_id)
        if row.case_id in turned:
            findings.append(_order_finding(row.case_id, turned[row.case_id], own, names, limits))
        elif own is None or move is None:
            continue
        elif move.kind == "flip":
            n_classes = len(row.measures.classes)
            findings.append(_flip_finding(row.case_id, move, own, n_classes, limits))
        elif common is None or not _is_same_shift(move, common):
            findings.append(_shift_finding(row.case_id, move, own, limits))
    return findings


def _turned_cases(
    dataset: DatasetView, gains: dict[str, EdgeGains], limits: GridLimits
) -> dict[str, list[ReversedOrder]]:
    """Cases in reverse order where nearly all others agree, or where the edges say so as well.

    Left and right knees in one dataset disagree on many pairs, and all are right; a site that
    mirrored its labels looks the same to the class order, but not to the image edges.
    """
    sure = find_reversed(dataset, limits, limits.min_order_fraction)
    likely = find_reversed(dataset, limits, limits.min_majority_fraction)
    confirmed = {
        case_id: turned
        for case_id, turned in likely.items()
        if case_id in gains and _mirror_gain(gains[case_id], turned) > np.log(limits.min_shift_gain)
    }
    kept = {i: turned for i, turned in sure.items() if not _is_chance(gains.get(i), turned)}
    return confirmed | kept


def _is_chance(own: EdgeGains | None, turned: list[ReversedOrder]) -> bool:
    """Few pairs along one axis, against the image edges: neither mirrored nor swapped.

    Swapped class values reverse a pair along every axis on which it has an order.
    """
    is_thin = len(turned) == 1 and not turned[0].is_broad
    return is_thin and own is not None and _mirror_gain(own, turned) < 0


def _mirror_gain(own: EdgeGains, turned: list[ReversedOrder]) -> float:
    """Log gain of mirroring along exactly the reversed axes; NaN if it cannot be compared."""
    return float(own.flip[own.profile.flips.index(tuple(axis.axis for axis in turned))])


def _order_finding(
    case_id: str,
    turned: list[ReversedOrder],
    own: EdgeGains | None,
    names: tuple[str, ...],
    limits: GridLimits,
) -> Finding:
    worst = max(turned, key=lambda axis: axis.n_reversed)
    axes = tuple(axis.axis for axis in turned)
    first, second = (names[index - 1] for index in worst.pair)
    is_refuted = own is not None and _mirror_gain(own, turned) < 0
    message = (
        f"classes lie the other way round than in the other cases, along {_axes(axes)}: "
        f"{worst.n_reversed} of {worst.n_pairs} pairs are reversed, such as '{first}' and "
        f"'{second}'"
    )
    message += (
        "; but the borders fit the image edges, so the values of classes may be swapped instead"
        if is_refuted
        else "; the label looks mirrored"
    )
    return Finding(
        check_id="G14",
        severity="warning" if is_refuted else "error",
        case_id=case_id,
        value=worst.n_reversed / worst.n_pairs,
        threshold=limits.max_reversed_fraction,
        message=message,
        fix="look at the overlay: swap the class values back if the names are wrong; mirror the "
        "label array if its shape is"
        if is_refuted
        else f"look at the overlay; if it does not fit, mirror the label array along {_axes(axes)} "
        "in a copy. A patient with mirrored organs (situs inversus) is rare but real",
        evidence={"voxel_ras": worst.voxel, "axes": axes},
    )


def _flip_finding(
    case_id: str, move: Move, own: EdgeGains, n_classes: int, limits: GridLimits
) -> Finding:
    is_error = move.gain > limits.min_flip_gain and n_classes >= _MIN_CLASSES_FOR_ERROR
    return Finding(
        check_id="G14",
        severity="error" if is_error else "warning",
        case_id=case_id,
        value=move.gain,
        threshold=limits.min_flip_gain,
        message=f"label borders fit the image edges {move.gain - 1:.0%} better when the label is "
        f"mirrored along {_axes(move.axes)}",
        fix="look at the overlay; if it does not fit, mirror the label array in a copy, and check "
        "the tool that wrote it for an axis it turned without the header",
        evidence=_evidence(own) | {"axes": move.axes},
    )


def _shift_finding(case_id: str, move: Move, own: EdgeGains, limits: GridLimits) -> Finding:
    return Finding(
        check_id="G13",
        severity="warning",
        case_id=case_id,
        value=move.gain,
        threshold=limits.min_shift_gain,
        message=f"label borders fit the image edges {move.gain - 1:.0%} better {_by_voxels(move)}",
        fix="look at the overlay; if the label is off there, find the step that cropped, padded or "
        "resampled one of the two and repeat it for both",
        evidence=_evidence(own) | {"shift_voxels": _vector(move)},
    )


def _common_finding(move: Move, n_cases: int, limits: GridLimits) -> Finding:
    return Finding(
        check_id="G13",
        severity="warning",
        value=move.gain,
        threshold=limits.min_shift_gain,
        message=f"over all {n_cases} cases that can be judged, label borders fit the image edges "
        f"{move.gain - 1:.0%} better {_by_voxels(move)}",
        fix="look at some overlays; if all labels are off alike, one step of the export cropped, "
        "padded or resampled images and labels differently: repeat it",
        evidence={"shift_voxels": _vector(move)},
    )


def _is_same_shift(move: Move, common: Move) -> bool:
    return move.axes == common.axes and abs(move.shift - common.shift) <= _SHIFT_TOLERANCE_VOXELS


def _evidence(own: EdgeGains) -> dict[str, str | int | float | tuple[int, ...]]:
    ratio: dict[str, str | int | float | tuple[int, ...]] = {"edge_ratio": own.profile.ratio}
    if own.profile.border_voxel is not None:
        ratio["voxel_ras"] = own.profile.border_voxel
    return ratio


def _by_voxels(move: Move) -> str:
    return f"{abs(move.shift)} voxels further {_TOWARDS[move.axes[0]][move.shift > 0]}"


def _vector(move: Move) -> tuple[int, ...]:
    return tuple(move.shift if axis == move.axes[0] else 0 for axis in range(3))


def _axes(axes: tuple[int, ...]) -> str:
    return " and ".join(_AXES[axis] for axis in axes)
