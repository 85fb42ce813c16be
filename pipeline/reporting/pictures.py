"""Three-plane pictures of a volume with its label, as PNG bytes.

Radiological convention: the viewer faces the patient, so the patient's right is on the left of
axial and coronal planes; sagittal planes face left. Colors are the Okabe-Ito set, which color-blind
readers can tell apart.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import Bool, Integer, Real
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image

from pipeline.core.geometry import Shape3, Spacing
from pipeline.reporting.grays import Grays, gray_range

# Okabe and Ito 2008 without black; the blue is lightened because it lies on dark images.
CLASS_COLORS = ("#E69F00", "#56B4E9", "#CC79A7", "#00B488", "#F0E442", "#F0713A", "#5B8DEF")
BACKGROUND = "#0d1117"
INK = "#c9d1d9"
PANEL_HEIGHT_IN = 3.0
LEGEND_ROW_IN = 0.24
TITLE_IN = 0.32
MAX_LEGEND_CLASSES = 15
LEGEND_COLUMN_IN = 1.6
DOTS_PER_INCH = 110
WEBP_QUALITY = 82
SHADOW = (withStroke(linewidth=2.0, foreground=BACKGROUND),)

Image3 = Real[np.ndarray, "i j k"]
Label3 = Integer[np.ndarray, "i j k"]


@dataclass(frozen=True)
class _Plane:
    """One cut: which axis is fixed, which run along the picture and which letters mark them."""

    name: str
    fixed: int
    horizontal: int
    vertical: int
    letters: tuple[str, str, str, str]  # left, right, bottom, top


PLANES = (
    _Plane("axial", 2, 0, 1, ("R", "L", "P", "A")),
    _Plane("coronal", 1, 0, 2, ("R", "L", "I", "S")),
    _Plane("sagittal", 0, 1, 2, ("A", "P", "I", "S")),
)


def class_color(index: int) -> str:
    """Color of a class as "#rrggbb".

    Args:
        index: Class index, from 1; colors repeat after the seventh.
    """
    return CLASS_COLORS[(index - 1) % len(CLASS_COLORS)]


def as_data_uri(png: bytes) -> str:
    """PNG bytes as an address that can stand in an HTML page without another file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def as_small_data_uri(png: bytes) -> str:
    """A picture as a data address, about five times smaller: WebP with slight loss.

    Args:
        png: A PNG file.
    """
    buffer = BytesIO()
    with Image.open(BytesIO(png)) as picture:
        picture.convert("RGB").save(buffer, format="WEBP", quality=WEBP_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay_figure(  # noqa: PLR0913  # everything here is seen in the picture
    image: Image3,
    *,
    label: Label3,
    reference: Label3 | None,
    spacing_mm: Spacing,
    class_names: tuple[str, ...],
    point: Shape3 | None = None,
    is_point_marked: bool = True,
    title: str = "",
) -> bytes:
    """Draw axial, coronal and sagittal cuts through one point.

    Without a reference the label is filled and outlined. With one, the label is taken for a
    prediction and drawn solid, the reference dashed and lighter.

    Args:
        image: Intensities, shape (i, j, k), axes running to R, A, S.
        label: Class indices on the same grid.
        reference: Class indices to compare with, on the same grid, or None.
        spacing_mm: Voxel spacing along i, j, k, in mm; sets the aspect ratio.
        class_names: Foreground class names; class 1 is the first.
        point: Voxel (i, j, k) to cut through; None takes the cuts with most foreground.
        is_point_marked: Draw a cross at the point that is given.
        title: Line above the cuts.

    Returns:
        A PNG file.

    Raises:
        ValueError: If the arrays do not share one shape.
    """
    maps = [label] if reference is None else [label, reference]
    if any(array.shape != image.shape for array in maps):
        raise ValueError("image, label and reference must share one shape")
    grays = gray_range(image)
    full_cut_at = busiest_point(maps) if point is None else _clamp(point, image.shape)
    box = _interesting_box(image, maps, full_cut_at, grays)
    image, label = image[box], label[box]
    reference = None if reference is None else reference[box]
    cut_at = _clamp(_minus(full_cut_at, box), image.shape)
    shown = _classes_on_cuts([label] if reference is None else [label, reference], cut_at)
    n_entries = min(len(shown), MAX_LEGEND_CLASSES + 1) + (0 if reference is None else 2)
    figure, panels = _empty_figure(image.shape, spacing_mm, n_entries, title=title)
    for axes, plane in zip(panels, PLANES, strict=True):
        extent_mm = _extent_mm(image.shape, spacing_mm, plane)
        cut = _cut(image, plane, cut_at)
        axes.imshow(
            # Beyond the range all grays are alike; infinities would break matplotlib's scaling.
            np.nan_to_num(cut.astype(np.float32), nan=grays.low).clip(grays.low, grays.high),
            cmap="gray",
            vmin=grays.low,
            vmax=grays.high,
            origin="lower",
            extent=extent_mm,
            interpolation="antialiased",
        )
        _draw_label(axes, _cut(label, plane, cut_at), extent_mm, is_filled=reference is None)
        if reference is not None:
            _draw_reference(axes, _cut(reference, plane, cut_at), extent_mm)
        if point is not None and is_point_marked:
            _draw_cross(axes, plane, cut_at, spacing_mm)
        _letter(axes, plane, full_cut_at[plane.fixed])
    _legend(figure, shown, class_names, has_reference=reference is not None)
    return _png(figure)


def busiest_point(maps: Sequence[Label3]) -> Shape3:
    """Per axis, the cut with most foreground; the center if there is none.

    Args:
        maps: Label maps of one shape (i, j, k).
    """
    foreground = np.any([array > 0 for array in maps], axis=0)
    point = [n // 2 for n in foreground.shape]
    if foreground.any():
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            point[axis] = int(np.argmax(foreground.sum(axis=others)))
    return point[0], point[1], point[2]


def _clamp(point: Shape3, shape: tuple[int, ...]) -> Shape3:
    i, j, k = (min(max(p, 0), n - 1) for p, n in zip(point, shape, strict=True))
    return i, j, k


def _interesting_box(
    image: Image3, maps: Sequence[Label3], point: Shape3, grays: Grays
) -> tuple[slice, slice, slice]:
    """The part worth showing: without the empty space around the patient."""
    keep = np.any([array > 0 for array in maps], axis=0)
    visible = image > grays.empty_up_to
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        # A hundredth of a cut: noise and table edges do not widen the box.
        is_busy = (visible.mean(axis=others) > 0.01) | keep.any(axis=others)
        is_busy[point[axis]] = True
        busy = np.flatnonzero(is_busy)
        slices.append(slice(max(0, int(busy[0]) - 2), int(busy[-1]) + 3))
    return slices[0], slices[1], slices[2]


def _minus(point: Shape3, box: tuple[slice, slice, slice]) -> Shape3:
    i, j, k = (p - part.start for p, part in zip(point, box, strict=True))
    return i, j, k


def _cut(
    array: Real[np.ndarray, "i j k"], plane: _Plane, point: Shape3
) -> Real[np.ndarray, "row column"]:
    """The plane through a point with rows along its vertical axis."""
    cut = np.take(array, point[plane.fixed], axis=plane.fixed)
    # Removing one axis keeps the order of the other two, and horizontal comes before vertical.
    return cut.T


def _extent_mm(
    shape: tuple[int, ...], spacing_mm: Spacing, plane: _Plane
) -> tuple[float, float, float, float]:
    width = shape[plane.horizontal] * spacing_mm[plane.horizontal]
    height = shape[plane.vertical] * spacing_mm[plane.vertical]
    return 0.0, width, 0.0, height


def _classes_on_cuts(maps: Sequence[Label3], point: Shape3) -> list[int]:
    found: set[int] = set()
    for array in maps:
        for plane in PLANES:
            found.update(int(v) for v in np.unique(_cut(array, plane, point)) if v > 0)
    return sorted(found)


def _empty_figure(
    shape: tuple[int, ...], spacing_mm: Spacing, n_legend_entries: int, *, title: str
) -> tuple[Figure, list[Axes]]:
    """A figure whose three panels have equal height and the widths of their cuts."""
    ratios = []
    for plane in PLANES:
        _, width, _, height = _extent_mm(shape, spacing_mm, plane)
        ratios.append(float(np.clip(width / height, 0.4, 2.5)))
    gap = 0.04
    width_in = PANEL_HEIGHT_IN * (sum(ratios) + gap * 4)
    n_columns = max(1, int(width_in / LEGEND_COLUMN_IN))
    n_rows = -(-max(1, n_legend_entries) // n_columns)
    legend_in = 0.12 + LEGEND_ROW_IN * n_rows
    title_in = TITLE_IN if title else 0.08
    height_in = PANEL_HEIGHT_IN + legend_in + title_in
    figure = Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, facecolor=BACKGROUND)
    panels = []
    left = gap
    for ratio in ratios:
        box = (
            left * PANEL_HEIGHT_IN / width_in,
            legend_in / height_in,
            ratio * PANEL_HEIGHT_IN / width_in,
            PANEL_HEIGHT_IN / height_in,
        )
        panels.append(figure.add_axes(box, facecolor="black"))
        left += ratio + gap
    if title:
        x = gap * PANEL_HEIGHT_IN / width_in
        figure.text(x, 1 - 0.1 / height_in, title, color=INK, fontsize=10, va="top")
    return figure, panels


def _draw_label(
    axes: Axes,
    cut: Integer[np.ndarray, "row column"],
    extent_mm: tuple[float, float, float, float],
    *,
    is_filled: bool,
) -> None:
    for index in _foreground_values(cut):
        mask = cut == index
        if is_filled:
            layer = np.zeros((*mask.shape, 4), dtype=np.float32)
            layer[mask] = (*to_rgb(class_color(index)), 0.30)
            axes.imshow(layer, origin="lower", extent=extent_mm, interpolation="nearest")
        _outline(axes, mask, extent_mm, color=to_rgb(class_color(index)), is_dashed=False)


def _draw_reference(
    axes: Axes,
    cut: Integer[np.ndarray, "row column"],
    extent_mm: tuple[float, float, float, float],
) -> None:
    for index in _foreground_values(cut):
        red, green, blue = (0.45 * part + 0.55 for part in to_rgb(class_color(index)))
        _outline(axes, cut == index, extent_mm, color=(red, green, blue), is_dashed=True)


def _foreground_values(cut: Integer[np.ndarray, "row column"]) -> list[int]:
    return [int(value) for value in np.unique(cut) if value > 0]


def _outline(
    axes: Axes,
    mask: Bool[np.ndarray, "row column"],
    extent_mm: tuple[float, float, float, float],
    *,
    color: tuple[float, float, float],
    is_dashed: bool,
) -> None:
    """Outline a mask; a border of zeros closes the line where the mask leaves the picture."""
    rows, columns = mask.shape
    step_x, step_y = extent_mm[1] / columns, extent_mm[3] / rows
    x = (np.arange(-1, columns + 1) + 0.5) * step_x
    y = (np.arange(-1, rows + 1) + 0.5) * step_y
    padded = np.pad(mask, 1).astype(np.float32)
    style = [(0, (4.0, 2.5))] if is_dashed else ["solid"]
    axes.contour(x, y, padded, levels=[0.5], colors=[color], linewidths=1.3, linestyles=style)
    axes.set_xlim(extent_mm[0], extent_mm[1])
    axes.set_ylim(extent_mm[2], extent_mm[3])


def _draw_cross(axes: Axes, plane: _Plane, point: Shape3, spacing_mm: Spacing) -> None:
    x = (point[plane.horizontal] + 0.5) * spacing_mm[plane.horizontal]
    y = (point[plane.vertical] + 0.5) * spacing_mm[plane.vertical]
    axes.axvline(x, color="white", linewidth=0.6, alpha=0.45)
    axes.axhline(y, color="white", linewidth=0.6, alpha=0.45)


def _letter(axes: Axes, plane: _Plane, position: int) -> None:
    """Mark the four sides, name the cut and hide the ticks."""
    axes.invert_xaxis()  # R and A grow to the right in the array, to the left in the picture
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))
    anchors = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (horizontal, vertical) in zip(plane.letters, places, anchors, strict=True):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            color=INK,
            fontsize=8,
            ha=horizontal,
            va=vertical,
            path_effects=SHADOW,
        )
    axes.text(
        0.02,
        0.98,
        f"{plane.name} {position}",
        transform=axes.transAxes,
        color=INK,
        fontsize=7,
        va="top",
        path_effects=SHADOW,
    )


def _legend(
    figure: Figure, shown: list[int], class_names: tuple[str, ...], *, has_reference: bool
) -> None:
    handles: list[Patch | Line2D] = [
        Patch(color=class_color(index), label=_class_name(index, class_names))
        for index in shown[:MAX_LEGEND_CLASSES]
    ]
    if len(shown) > MAX_LEGEND_CLASSES:
        more = f"and {len(shown) - MAX_LEGEND_CLASSES} more"
        handles.append(Line2D([], [], linestyle="none", label=more))
    if has_reference:
        handles.append(Line2D([], [], color=INK, label="prediction"))
        handles.append(Line2D([], [], color=INK, linestyle=(0, (4.0, 2.5)), label="reference"))
    if not handles:
        handles.append(Line2D([], [], linestyle="none", label="no labelled voxel on these cuts"))
    legend = figure.legend(
        handles=handles,
        loc="lower left",
        ncols=min(len(handles), max(1, int(figure.get_figwidth() / LEGEND_COLUMN_IN))),
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        bbox_to_anchor=(0.005, 0.01),
        borderaxespad=0.2,
    )
    for text in legend.get_texts():
        text.set_color(INK)


def _class_name(index: int, class_names: tuple[str, ...]) -> str:
    name = class_names[index - 1] if index <= len(class_names) else f"undeclared value {index}"
    return name if len(name) <= 24 else name[:23] + "…"


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # No software or date entry, so that the same picture has the same bytes.
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", facecolor=BACKGROUND, metadata={"Software": None})
    return buffer.getvalue()
