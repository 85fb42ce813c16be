"""Agreement of volumes: bias, limits of agreement, and where their drawing puts every case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.metrics.overlap import OverlapScores, Status

# Limits of fewer cases would only pretend to know something.
MIN_CASES_FOR_LIMITS = 3
# Share of a normal distribution within the limits: 95 %.
LIMIT_DEVIATIONS = 1.96
WIDTH = 320
HEIGHT = 190
# More cases than this are drawn as one shape, without a name each.
MAX_NAMED_POINTS = 150
_MARGIN = 0.06


@dataclass(frozen=True)
class VolumePair:
    """Predicted and reference volume of one case, in ml."""

    case_id: str
    reference_ml: float
    prediction_ml: float
    status: Status

    @property
    def error_ml(self) -> float:
        """Predicted minus reference volume, in ml."""
        return self.prediction_ml - self.reference_ml

    @property
    def mean_ml(self) -> float:
        """Mean of both volumes, in ml: neither of the two is taken for the truth."""
        return (self.prediction_ml + self.reference_ml) / 2


@dataclass(frozen=True)
class VolumeAgreement:
    """How well two volumes agree over cases.

    Args:
        points: Cases that hold the class in at least one of the maps.
        bias_ml: Mean error, in ml; None without cases.
        limits_ml: Bias -/+ 1.96 standard deviations, in ml; None for too few cases.
    """

    points: tuple[VolumePair, ...]
    bias_ml: float | None
    limits_ml: tuple[float, float] | None


@dataclass(frozen=True)
class Mark:
    """One case at pixel (x, y)."""

    x: float
    y: float
    text: str
    is_failure: bool


@dataclass(frozen=True)
class BlandAltmanPlot:
    """A drawing of `WIDTH` x `HEIGHT` pixels; y grows downwards.

    Args:
        marks: Cases with a name each.
        path: Cases drawn as one shape instead, as SVG path data.
        failure_path: Missed and hallucinated ones of those.
        lines: Height and kind ("zero", "bias", "limit") of the horizontal lines.
        x_ticks: Place and text along the mean volume.
        y_ticks: Place and text along the error.
        text: The numbers in words.
    """

    marks: tuple[Mark, ...]
    path: str
    failure_path: str
    lines: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    text: str


def volume_agreement(overlaps: Sequence[tuple[str, OverlapScores]]) -> VolumeAgreement:
    """Compare predicted with reference volumes of one class.

    Args:
        overlaps: Case id and overlap; cases with the class in neither map say nothing.

    Returns:
        Bias and limits of agreement.

    Source:
        Bland and Altman 1986 (Lancet 327:307-310).
    """
    points = tuple(
        VolumePair(case_id, scores.reference_ml, scores.prediction_ml, scores.status)
        for case_id, scores in overlaps
        if scores.status != "absent"
    )
    if not points:
        return VolumeAgreement((), None, None)
    errors_ml = np.array([p.error_ml for p in points])
    bias_ml = float(errors_ml.mean())
    limits_ml = None
    if len(points) >= MIN_CASES_FOR_LIMITS:
        half_ml = LIMIT_DEVIATIONS * float(errors_ml.std(ddof=1))
        limits_ml = (bias_ml - half_ml, bias_ml + half_ml)
    return VolumeAgreement(points, bias_ml, limits_ml)


def bland_altman_plot(agreement: VolumeAgreement) -> BlandAltmanPlot | None:
    """Lay out the error of every case over the mean of both volumes.

    Args:
        agreement: The volumes.

    Returns:
        Positions in pixels; None without cases.
    """
    if agreement.bias_ml is None:
        return None
    limits = agreement.limits_ml or ()
    heights = [0.0, agreement.bias_ml, *limits, *(p.error_ml for p in agreement.points)]
    x_axis = _Axis.around([p.mean_ml for p in agreement.points], WIDTH)
    y_axis = _Axis.around(heights, HEIGHT)
    marks = [
        Mark(
            x_axis.place(p.mean_ml),
            round(HEIGHT - y_axis.place(p.error_ml), 1),
            f"{p.case_id}: {p.error_ml:+.3g} ml" + ("" if p.status == "ok" else f" ({p.status})"),
            p.status != "ok",
        )
        for p in agreement.points
    ]
    is_dense = len(marks) > MAX_NAMED_POINTS
    lines = [(0.0, "zero"), (agreement.bias_ml, "bias"), *((x, "limit") for x in limits)]
    return BlandAltmanPlot(
        marks=() if is_dense else tuple(marks),
        path=_path([m for m in marks if not m.is_failure]) if is_dense else "",
        failure_path=_path([m for m in marks if m.is_failure]) if is_dense else "",
        lines=tuple((round(HEIGHT - y_axis.place(value), 1), kind) for value, kind in lines),
        x_ticks=x_axis.ticks(),
        y_ticks=tuple((round(HEIGHT - place, 1), text) for place, text in y_axis.ticks()),
        text=_in_words(agreement),
    )


@dataclass(frozen=True)
class _Axis:
    """A range of values over a number of pixels."""

    low: float
    high: float
    n_pixels: int

    @classmethod
    def around(cls, values: Sequence[float], n_pixels: int) -> "_Axis":
        """The range of the values with a margin, never empty."""
        low, high = min(values), max(values)
        margin = (high - low) * _MARGIN or max(abs(high) * 0.1, 1e-3)
        return cls(low - margin, high + margin, n_pixels)

    def place(self, value: float) -> float:
        """Pixels from the lower end."""
        return round((value - self.low) / (self.high - self.low) * self.n_pixels, 1)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Round values inside the range."""
        values = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        return tuple(
            (self.place(float(v)), f"{round(float(v), 9):.4g}")
            for v in values
            if self.low <= v <= self.high
        )


def _path(marks: Sequence[Mark]) -> str:
    """Lines of no length: with round ends they are dots, a dozen bytes each."""
    return "".join(f"M{m.x:g} {m.y:g}h0" for m in marks)


def _in_words(agreement: VolumeAgreement) -> str:
    n = len(agreement.points)
    text = f"bias {agreement.bias_ml:+.3g} ml"
    if agreement.limits_ml is not None:
        low, high = agreement.limits_ml
        text += f", limits of agreement {low:+.3g} to {high:+.3g} ml"
    return f"{text}, n = {n}"
