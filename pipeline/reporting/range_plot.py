"""The curve of a learning rate range test as a picture."""

from collections.abc import Sequence
from io import BytesIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_range(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    *,
    suggestion: float | None,
    planned: float | None = None,
) -> bytes:
    """Draw loss over learning rate.

    Args:
        rates: Learning rates, rising.
        losses: Loss of each step.
        smoothed: The same, averaged over the past.
        suggestion: Rate to mark; None marks nothing.
        planned: The rate that would be used without the test; None marks nothing.

    Returns:
        A PNG; the same curve gives the same bytes.
    """
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="#b8c4d0", linewidth=1, label="one batch")
    axes.plot(rates, smoothed, color="#1f5fa8", linewidth=2, label="smoothed")
    if suggestion is not None:
        label = f"suggestion {suggestion:.2g}"
        axes.axvline(suggestion, color="#c0392b", linestyle="--", linewidth=1.5, label=label)
    if planned is not None:
        label = f"planned {planned:.2g}"
        axes.axvline(planned, color="#5d6d7e", linestyle=":", linewidth=1.5, label=label)
    axes.set_xscale("log")
    if smoothed:
        # A diverging end would flatten the part that matters.
        low, high = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
        margin = 0.15 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + 2 * margin)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    buffer = BytesIO()
    # No software entry, so that the same picture has the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
