"""Tables and strips of the report about classes, grids and intensities."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.artifacts import QUANTILE_LEVELS, CaseFingerprint
from pipeline.audit.pages.distributions import volumes_ml
from pipeline.audit.view import DatasetView
from pipeline.reporting.page import format_number
from pipeline.reporting.pictures import class_color
from pipeline.reporting.strips import StripChart, Values, strip_chart

# A cell is text, a number, None, or a mapping as macros.html.j2 describes it.
Cell = object
Table = dict[str, object]

AXIS_NAMES = ("right-left", "anterior-posterior", "superior-inferior")
# MR scanners differ in scale by a factor of hundreds; CT values never reach this.
_WIDE_RATIO = 50.0
_MEDIAN = QUANTILE_LEVELS.index(0.5)
_MIN_MEDIAN_MAX: tuple[Callable[[Sequence[float]], float], ...] = (
    min,
    lambda values: float(np.median(values)),
    max,
)


def column(name: str, *, is_number: bool = False, help_text: str = "") -> dict[str, object]:
    """One column of a table."""
    return {"name": name, "is_number": is_number, "help": help_text}


def usable_cases(dataset: DatasetView) -> list[CaseFingerprint]:
    """Fingerprints of the cases that can be trained on."""
    return [row.fingerprint for row in dataset.rows if row.fingerprint is not None]


def class_table(dataset: DatasetView, hits: Mapping[str, float]) -> Table:
    """Volumes, presence and imbalance of every class.

    Args:
        dataset: All cases.
        hits: Class name to probability that a random patch holds the class; empty if unknown.

    Returns:
        One row per class.
    """
    rows: list[list[Cell]] = []
    for one, volumes in zip(dataset.manifest.task.classes, _class_volumes(dataset), strict=True):
        labelled = [r for r in dataset.rows if r.n_voxels and one.name not in r.unannotated]
        n_background = sum(row.n_voxels - sum(row.n_class_voxels) for row in labelled)
        n_voxels = sum(row.n_class_voxels[one.index - 1] for row in labelled)
        n_present = sum(row.n_class_voxels[one.index - 1] > 0 for row in labelled)
        cells: list[Cell] = [
            {"text": one.name, "color": class_color(one.index)},
            ", ".join(str(v) for v in one.source_values),
            {"text": f"{n_present} of {len(labelled)}", "sort": n_present},
            *(rounded(f(volumes)) if volumes else None for f in _MIN_MEDIAN_MAX),
            rounded(max(volumes) / min(volumes)) if volumes else None,
            rounded(n_background / n_voxels) if n_voxels else None,
        ]
        rows.append([*cells, _percent(hits.get(one.name))] if hits else cells)
    return {"columns": _class_columns(has_hits=bool(hits)), "rows": rows}


def _class_columns(*, has_hits: bool) -> list[dict[str, object]]:
    columns = [column("Class"), column("Value")]
    columns += [
        column(name, is_number=True, help_text=text)
        for name, text in (
            ("In cases", "cases that show the class, of those in which it was annotated"),
            ("Min ml", "smallest volume"),
            ("Median ml", "median volume"),
            ("Max ml", "largest volume"),
            ("Max : min", "largest volume divided by the smallest"),
            ("Background : class", "background voxels per voxel of the class, all cases together"),
        )
    ]
    if has_hits:
        text = "probability that a patch placed at random holds a voxel of the class"
        columns.append(column("Random patch hits", is_number=True, help_text=text))
    return columns


def volume_strips(dataset: DatasetView) -> StripChart:
    """Volume of every class in every case that shows it."""
    rows = [
        Values(one.name, class_color(one.index), tuple(volumes))
        for one, volumes in zip(dataset.manifest.task.classes, _class_volumes(dataset), strict=True)
    ]
    return strip_chart(rows, "volume, ml", is_log=True)


def geometry_table(cases: Sequence[CaseFingerprint]) -> Table:
    """Spacing, voxels and extent along the three axes.

    Args:
        cases: The usable cases.

    Returns:
        One row per axis: median with smallest and largest.
    """
    rows: list[list[Cell]] = []
    for axis, name in enumerate(AXIS_NAMES):
        spacings = [case.spacing_mm[axis] for case in cases]
        n_voxels = [float(case.shape[axis]) for case in cases]
        extents = [s * n for s, n in zip(spacings, n_voxels, strict=True)]
        rows.append([name, _span_cell(spacings), _span_cell(n_voxels), _span_cell(extents)])
    names = ("Spacing, mm", "Voxels", "Extent, mm")
    return {
        "columns": [column("Axis"), *(column(name, is_number=True) for name in names)],
        "rows": rows,
    }


def geometry_strips(cases: Sequence[CaseFingerprint]) -> list[StripChart]:
    """Spacing and extent of every case, one strip per axis."""
    colors = [class_color(index) for index in range(1, 4)]
    spacings = [[case.spacing_mm[axis] for case in cases] for axis in range(3)]
    extents = [[case.spacing_mm[axis] * case.shape[axis] for case in cases] for axis in range(3)]
    return [
        strip_chart(
            [
                Values(name, color, tuple(numbers[axis]))
                for axis, (name, color) in enumerate(zip(AXIS_NAMES, colors, strict=True))
            ],
            unit,
            is_log=True,
        )
        for unit, numbers in (("spacing, mm", spacings), ("extent, mm", extents))
    ]


def intensity_table(dataset: DatasetView) -> Table:
    """Intensities inside the labels, medians over the cases.

    Args:
        dataset: All cases.

    Returns:
        One row per channel.
    """
    rows: list[list[Cell]] = []
    for position, channel in enumerate(dataset.manifest.task.channels):
        found = _channel_statistics(dataset, position)
        middle = np.median(found, axis=0) if found else np.zeros(5)
        cells = [rounded(float(v)) for v in middle] if found else [None] * 5
        means = [one[2] for one in found]
        span = f"{format_number(min(means))} to {format_number(max(means))}" if means else None
        rows.append([channel.name, channel.modality, *cells, span])
    names = ("Minimum", "Median", "Mean", "SD", "Maximum", "Case means from")
    columns = [column("Channel"), column("Modality")]
    return {"columns": columns + [column(name, is_number=True) for name in names], "rows": rows}


def intensity_strips(dataset: DatasetView) -> list[StripChart]:
    """Median intensity inside the labels of every case, one chart per channel."""
    charts = []
    for position, channel in enumerate(dataset.manifest.task.channels):
        medians = tuple(one[1] for one in _channel_statistics(dataset, position))
        unit = f"median intensity inside the labels, {channel.name}"
        row = Values(channel.name, class_color(position + 1), medians)
        charts.append(strip_chart([row], unit, is_log=_spans_decades(medians)))
    return charts


def _spans_decades(values: Sequence[float]) -> bool:
    """Whether a linear axis would press most values onto one spot."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > _WIDE_RATIO


def rounded(value: float) -> float:
    """Four significant digits, as many as a table of volumes bears."""
    return float(f"{value:.4g}")


def _channel_statistics(dataset: DatasetView, position: int) -> list[tuple[float, ...]]:
    """Minimum, median, mean, standard deviation and maximum of every case."""
    statistics = [
        case.foreground[position]
        for case in usable_cases(dataset)
        if position < len(case.foreground) and case.foreground[position].n_voxels
    ]
    return [
        (s.quantiles[0], s.quantiles[_MEDIAN], s.mean, s.std, s.quantiles[-1]) for s in statistics
    ]


def _class_volumes(dataset: DatasetView) -> list[list[float]]:
    """Per class, the volumes of the cases that show it, in ml."""
    per_case = [volumes_ml(row) for row in dataset.rows]
    return [
        [volumes[position] for volumes in per_case if volumes and volumes[position] > 0]
        for position in range(len(dataset.manifest.task.classes))
    ]


def _span_cell(values: Sequence[float]) -> Cell:
    """Median with smallest and largest value; one number if all are equal."""
    if not values:
        return None
    low, middle, high = (rounded(f(values)) for f in _MIN_MEDIAN_MAX)
    text = format_number(middle)
    if low != high:
        text += f" ({format_number(low)} to {format_number(high)})"
    return {"text": text, "sort": middle}


def _percent(share: float | None) -> Cell:
    return None if share is None else {"text": f"{100 * share:.3g} %", "sort": share}
