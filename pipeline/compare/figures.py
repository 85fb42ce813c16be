"""Where the marks of the comparison's drawings go; the template turns them into SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from pipeline.compare.result import Difference, RunRanking
from pipeline.metrics.paired import TIE

LABEL_WIDTH = 190
PLOT_WIDTH = 760
ROW_HEIGHT = 40
DENSE_ROW_HEIGHT = 24
MAX_ROWS_AT_FULL_HEIGHT = 12
DOT_RADIUS = 3.0
N_TICKS = 5
SLOPE_WIDTH = 330
SLOPE_HEIGHT = 300
# Cases further from the quartiles than this many times their distance are drawn at the edge: one
# rescued case must not squeeze all others into a line.
OUTLIER_REACH = 5.0
# Of more cases every so many-th in the order of their differences is drawn, with both extremes.
MAX_DOTS = 300
# More lines than this are a gray cloud.
MAX_SLOPES = 150

# Which way a mark points: the run is better, worse, or equal.
BETTER, WORSE, EQUAL = "better", "worse", "equal"


@dataclass(frozen=True)
class Dot:
    """Difference of one case, at pixel (x, y) within its row; beyond: -1 or 1 off the axis."""

    x: float
    y: float
    kind: str
    text: str
    beyond: int = 0


@dataclass(frozen=True)
class DifferenceRow:
    """One class of the difference plot; shares of wins, ties and losses in percent."""

    name: str
    dots: tuple[Dot, ...]
    mean_x: float | None
    ci_x: tuple[float, float] | None
    text: str
    bars: tuple[tuple[str, float, int], ...]


@dataclass(frozen=True)
class DifferencePlot:
    """Differences of all cases, one row per class; sizes in pixels."""

    rows: tuple[DifferenceRow, ...]
    row_height: int
    zero_x: float
    has_outliers: bool
    is_thinned: bool
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Slope:
    """One case as a line from the baseline to the run."""

    y_baseline: float
    y_run: float
    kind: str
    text: str


@dataclass(frozen=True)
class SlopePlot:
    """Every case in both runs; sizes in pixels."""

    slopes: tuple[Slope, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class RankDot:
    """How often a run took a rank; the area is the share."""

    rank: int
    radius: float
    share: float


def difference_plot(
    differences: Sequence[Difference],
    values: Sequence[Float64[np.ndarray, "case"]],
    case_ids: Sequence[str],
    *,
    is_higher_better: bool,
) -> DifferencePlot:
    """Lay out the difference of every case beside mean and interval.

    Args:
        differences: One per row.
        values: Differences of the cases per row; NaN is missing.
        case_ids: Names of the cases.
        is_higher_better: Direction of the metric.

    Returns:
        Positions; x runs from 0 to `PLOT_WIDTH`.
    """
    low, high, ticks = _axis(_shown_range(differences, values))
    height = ROW_HEIGHT if len(differences) <= MAX_ROWS_AT_FULL_HEIGHT else DENSE_ROW_HEIGHT

    def to_x(value: float) -> float:
        return round((min(max(value, low), high) - low) / (high - low) * PLOT_WIDTH, 1)

    rows = []
    for difference, row in zip(differences, values, strict=True):
        points = [
            Dot(
                to_x(float(v)),
                0.0,
                _kind(float(v), is_higher_better=is_higher_better),
                f"{case}: {v:+.3f}",
                beyond=int(v > high) - int(v < low),
            )
            for v, case in _drawn(row, case_ids)
        ]
        ci = difference.ci95
        rows.append(
            DifferenceRow(
                name=difference.class_name or "mean over classes",
                dots=_stacked(points, height),
                mean_x=None if difference.mean is None else to_x(difference.mean),
                ci_x=None if ci is None else (to_x(ci[0]), to_x(ci[1])),
                text=f"{difference.n_wins} better, {difference.n_ties} equal, "
                f"{difference.n_losses} worse",
                bars=_bars(difference),
            )
        )
    return DifferencePlot(
        tuple(rows),
        height,
        to_x(0.0),
        has_outliers=any(dot.beyond for row in rows for dot in row.dots),
        is_thinned=any(int(np.isfinite(row).sum()) > MAX_DOTS for row in values),
        ticks=tuple((to_x(tick), f"{tick:+.3g}") for tick in ticks),
    )


def _drawn(values: Float64[np.ndarray, "case"], case_ids: Sequence[str]) -> list[tuple[float, str]]:
    """The cases that get a dot: all, or `MAX_DOTS` evenly spread over their order."""
    pairs = zip(values, case_ids, strict=True)
    known = [(float(v), case_id) for v, case_id in pairs if math.isfinite(v)]
    if len(known) <= MAX_DOTS:
        return known
    known.sort()
    return [known[place] for place in np.linspace(0, len(known) - 1, MAX_DOTS).astype(int)]


def slope_plot(
    baseline: Float64[np.ndarray, "case"],
    run: Float64[np.ndarray, "case"],
    case_ids: Sequence[str],
    *,
    is_higher_better: bool,
) -> SlopePlot:
    """Draw each case as a line between its two values, the largest changes if there are many.

    Args:
        baseline: Values of the baseline; NaN is missing.
        run: Values of the other run.
        case_ids: Names of the cases.
        is_higher_better: Direction of the metric.

    Returns:
        Positions; y runs from 0 (top) to `SLOPE_HEIGHT`.
    """
    pairs = [
        (float(a), float(b), case)
        for a, b, case in zip(baseline, run, case_ids, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]
    if not pairs:
        return SlopePlot((), ())
    low, high, ticks = _axis(np.array([value for a, b, _ in pairs for value in (a, b)]))

    def to_y(value: float) -> float:
        return round((high - value) / (high - low) * SLOPE_HEIGHT, 1)

    pairs.sort(key=lambda pair: -abs(pair[1] - pair[0]))
    slopes = tuple(
        Slope(
            to_y(a),
            to_y(b),
            _kind(b - a, is_higher_better=is_higher_better),
            f"{case}: {a:.3f} to {b:.3f} ({b - a:+.3f})",
        )
        for a, b, case in pairs[:MAX_SLOPES]
    )
    return SlopePlot(slopes, tuple((to_y(tick), f"{tick:.3g}") for tick in ticks))


def rank_dots(ranking: RunRanking, place: int, *, max_radius: float) -> tuple[RankDot, ...]:
    """Size a dot for every rank a run took.

    Args:
        ranking: The ranking.
        place: Which run.
        max_radius: Radius of a share of 1, in pixels.

    Returns:
        One dot per rank that occurred.
    """
    return tuple(
        RankDot(rank, round(max_radius * math.sqrt(share), 1), share)
        for rank, share in enumerate(ranking.frequencies[place], start=1)
        if share > 0
    )


def _axis(values: Float64[np.ndarray, "value"]) -> tuple[float, float, list[float]]:
    """Round bounds around all values, and round ticks between them."""
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 0.1
    power = 10.0 ** math.floor(math.log10(span / N_TICKS))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power * N_TICKS >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return first * step, last * step, [n * step for n in range(first, last + 1)]


def _kind(difference: float, *, is_higher_better: bool) -> str:
    if abs(difference) <= TIE:
        return EQUAL
    return BETTER if (difference > 0) == is_higher_better else WORSE


def _stacked(dots: Sequence[Dot], row_height: int) -> tuple[Dot, ...]:
    """Spread dots of nearly equal value over the height of their row, in a fixed order."""
    columns: dict[int, list[Dot]] = {}
    for dot in sorted(dots, key=lambda dot: (dot.x, dot.text)):
        columns.setdefault(int(dot.x // (2 * DOT_RADIUS)), []).append(dot)
    placed = []
    for column in columns.values():
        step = min(2 * DOT_RADIUS, (row_height - 3 * DOT_RADIUS) / len(column))
        for place, dot in enumerate(column):
            y = row_height / 2 + (place - (len(column) - 1) / 2) * step
            placed.append(replace(dot, y=round(y, 1)))
    return tuple(placed)


def _shown_range(
    differences: Sequence[Difference], values: Sequence[Float64[np.ndarray, "case"]]
) -> Float64[np.ndarray, "value"]:
    """What the axis must hold: zero, intervals, and the cases that are not far outliers."""
    known = np.concatenate([v[np.isfinite(v)] for v in values])
    lower, upper = np.quantile(known, (0.25, 0.75)) if known.size else (0.0, 0.0)
    reach = OUTLIER_REACH * (upper - lower)
    near = known[(known >= lower - reach) & (known <= upper + reach)]
    bounds = [x for d in differences for x in (*(d.ci95 or ()), d.mean or 0.0)]
    return np.concatenate([[0.0], bounds, near if reach > 0 else known])


def _bars(difference: Difference) -> tuple[tuple[str, float, int], ...]:
    total = difference.n_wins + difference.n_ties + difference.n_losses
    counts = (
        (BETTER, difference.n_wins),
        (EQUAL, difference.n_ties),
        (WORSE, difference.n_losses),
    )
    return tuple((kind, round(100 * n / total, 2), n) for kind, n in counts if n)
