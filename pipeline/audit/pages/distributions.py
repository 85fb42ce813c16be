"""Where a case stands among all cases, for checks that look for outliers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artifacts import Finding, LabelClass
from pipeline.audit.measures import LEVELS, ClassMeasures
from pipeline.audit.view import CaseRow, DatasetView
from pipeline.reporting.pictures import class_color
from pipeline.reporting.strips import StripChart, Values, strip_chart

# A strip of fewer cases shows no distribution.
MIN_CASES = 5
_PLAIN_COLOR = "#7d8b99"
_MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True)
class _Quantity:
    """A number of every case.

    Args:
        unit: Name and unit of the axis.
        read: The number of one row; None if the case has none.
        is_log: Logarithmic axis.
    """

    unit: str
    read: Callable[[CaseRow], float | None]
    is_log: bool = False


@dataclass(frozen=True)
class _ClassQuantity:
    """A number of every case for one class; `read` gets the measures of that class."""

    unit: str
    read: Callable[[ClassMeasures], float | None]
    is_log: bool = False


@dataclass(frozen=True)
class _Numbers:
    """The number of every case; None where a case has none."""

    unit: str
    by_case: Mapping[str, float | None]
    is_log: bool


def volumes_ml(row: CaseRow) -> tuple[float, ...]:
    """Volume of every class of one case in ml, task order; empty if the case cannot be used."""
    if row.fingerprint is None:
        return ()
    voxel_ml = float(np.prod(row.fingerprint.spacing_mm)) / 1000
    return tuple(n * voxel_ml for n in row.n_class_voxels)


def _voxel_mm3(row: CaseRow) -> float | None:
    return None if row.fingerprint is None else float(np.prod(row.fingerprint.spacing_mm))


def _thickness_ratio(row: CaseRow) -> float | None:
    if row.fingerprint is None:
        return None
    return max(row.fingerprint.spacing_mm) / min(row.fingerprint.spacing_mm)


def _alignment_ratio(row: CaseRow) -> float | None:
    profile = row.measures.alignment
    return profile.ratio if profile is not None and profile.is_assessable else None


def _foreground_share(row: CaseRow) -> float | None:
    return sum(row.n_class_voxels) / row.n_voxels if row.n_voxels else None


def _saturation(row: CaseRow) -> float | None:
    shares = [max(c.minimum_share, c.maximum_share) for c in row.measures.channels]
    return 100.0 * max(shares) if shares else None


def _median_intensity(one: ClassMeasures) -> float | None:
    return one.quantiles[_MEDIAN] if len(one.quantiles) > _MEDIAN else None


CASE_QUANTITIES: Mapping[str, _Quantity] = {
    "E09": _Quantity("share of foreground", _foreground_share),
    "F11": _Quantity("voxels at the smallest or largest value, %", _saturation),
    "F13": _Quantity("voxel volume, mm\N{SUPERSCRIPT THREE}", _voxel_mm3, is_log=True),
    "G10": _Quantity("thickest / thinnest voxel side", _thickness_ratio),
    "G11": _Quantity("voxel volume, mm\N{SUPERSCRIPT THREE}", _voxel_mm3, is_log=True),
    "G13": _Quantity("edge ratio of the label border", _alignment_ratio),
    "G14": _Quantity("edge ratio of the label border", _alignment_ratio),
}

CLASS_QUANTITIES: Mapping[str, _ClassQuantity] = {
    "S04": _ClassQuantity("pieces", lambda one: float(one.n_components), is_log=True),
    "S05": _ClassQuantity("islands", lambda one: float(one.n_islands)),
    "S06": _ClassQuantity("enclosed holes, % of the class", lambda one: 100.0 * one.hole_share),
    "S07": _ClassQuantity("surface on the edge of the image, %", lambda one: 100 * one.edge_share),
    "S08": _ClassQuantity("voxels on air, %", lambda one: 100.0 * one.air_share),
    "S09": _ClassQuantity("median intensity under the label", _median_intensity),
    "S11": _ClassQuantity(
        "missing slices", lambda one: float(sum(gap.n_slices for gap in one.gaps))
    ),
    "S12": _ClassQuantity(
        "slices equal to the one before, %", lambda one: 100 * one.repeated_share
    ),
}
# These compare volumes, which need the voxel size of the case beside the measures of the class.
VOLUME_CHECKS = frozenset({"S01", "S03"})


def distribution_of(finding: Finding, dataset: DatasetView) -> StripChart | None:
    """The case of a finding among all cases.

    Args:
        finding: A finding of one case.
        dataset: All cases.

    Returns:
        One strip with the case marked; None if the check compares no number, or too few cases
        have one.
    """
    one = next((c for c in dataset.manifest.task.classes if c.name == finding.class_name), None)
    numbers = _numbers(finding.check_id, one, dataset)
    if numbers is None:
        return None
    kept = {case_id: value for case_id, value in numbers.by_case.items() if value is not None}
    if len(kept) < MIN_CASES or finding.case_id not in kept:
        return None
    name = "all cases" if one is None else one.name
    color = _PLAIN_COLOR if one is None else class_color(one.index)
    row = Values(name, color, tuple(kept.values()), kept[finding.case_id])
    chart = strip_chart([row], numbers.unit, is_log=numbers.is_log)
    return chart if chart.rows else None


def _numbers(check_id: str, one: LabelClass | None, dataset: DatasetView) -> _Numbers | None:
    rows = dataset.rows
    if check_id in CASE_QUANTITIES:
        quantity = CASE_QUANTITIES[check_id]
        values = {row.case_id: quantity.read(row) for row in rows}
        return _Numbers(quantity.unit, values, quantity.is_log)
    return None if one is None else _class_numbers(check_id, one, rows)


def _class_numbers(check_id: str, one: LabelClass, rows: Sequence[CaseRow]) -> _Numbers | None:
    if check_id in VOLUME_CHECKS:
        volumes = {row.case_id: _volume_of(row, one) for row in rows}
        return _Numbers("volume, ml", volumes, is_log=True)
    if check_id not in CLASS_QUANTITIES:
        return None
    quantity = CLASS_QUANTITIES[check_id]
    shown = ((row.case_id, row.measures.of_class(one.index)) for row in rows)
    values = {case_id: quantity.read(found) for case_id, found in shown if found is not None}
    return _Numbers(quantity.unit, values, quantity.is_log)


def _volume_of(row: CaseRow, one: LabelClass) -> float | None:
    volumes = volumes_ml(row)
    return volumes[one.index - 1] if volumes and volumes[one.index - 1] > 0 else None
