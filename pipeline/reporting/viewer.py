"""Volumes inside a report, for the interactive viewer (NiiVue, vendored in `assets`).

A report embeds a few cases as 8-bit NIfTI files. A case that is too big is thinned by whole steps,
never blended: every voxel shown is a voxel of the file, and the point of interest is always one of
them. What is still too big is cut to a box around that point.
"""

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import nibabel as nib
import numpy as np
import xxhash
from jaxtyping import Integer, Real, UInt

from pipeline.core.geometry import Shape3, Spacing
from pipeline.reporting.grays import as_bytes, gray_range

LIBRARY = "niivue-0.69.0.umd.js.gz"
LICENSE = "niivue-LICENSE.txt"
# Noise does not compress: a million bytes are at most 1.4 MB in the page, labels included.
MAX_VOXELS = 1_000_000
# Thinning may coarsen the grid up to here; beyond it small structures would be lost.
MAX_SPACING_MM = 3.0
_MAX_VALUE = 65_535


@dataclass(frozen=True)
class Overlay:
    """A label map drawn over the image.

    Args:
        name: What it is, such as "label" or "errors".
        array: Values on the grid of the image, 0 where nothing is drawn.
        names: Name of value 1, 2, ...
        colors: Color of value 1, 2, ... as "#rrggbb".
    """

    name: str
    array: Integer[np.ndarray, "i j k"]
    names: tuple[str, ...]
    colors: tuple[str, ...]


@dataclass(frozen=True)
class Sampling:
    """Which voxels are embedded: from `start`, every `step`-th, `shape` of them."""

    start: Shape3
    step: Shape3
    shape: Shape3

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The same as an index."""
        i, j, k = (
            slice(start, start + step * n, step)
            for start, step, n in zip(self.start, self.step, self.shape, strict=True)
        )
        return i, j, k


@dataclass(frozen=True)
class ViewerCase:
    """One case as the page embeds it.

    Args:
        key: Name of the case in the page; a button with this key opens it.
        title: Shown in the list of cases.
        note: What to look at.
        data: Contents for the viewer script, plain JSON values.
    """

    key: str
    title: str
    note: str
    data: dict[str, object]

    @property
    def n_bytes(self) -> int:
        """Size of the embedded volumes in the page."""
        overlays = self.data["overlays"]
        files = [self.data["image"]]
        files += [one["file"] for one in overlays] if isinstance(overlays, list) else []
        return sum(len(str(file)) for file in files)


def viewer_case(
    title: str,
    image: Real[np.ndarray, "i j k"],
    overlays: Sequence[Overlay],
    *,
    spacing_mm: Spacing,
    point: Shape3,
    note: str = "",
) -> ViewerCase:
    """Make one case ready to be embedded.

    Args:
        title: Shown in the list of cases; with the point it makes the key.
        image: Intensities, shape (i, j, k), axes running to R, A, S; may be a memory map.
        overlays: Label maps on the same grid.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        point: Voxel (i, j, k) where the viewer opens.
        note: What to look at.

    Returns:
        The case.

    Raises:
        ValueError: If an overlay is on another grid.
    """
    if any(overlay.array.shape != image.shape for overlay in overlays):
        raise ValueError("image and overlays must share one shape")
    i, j, k = (min(max(p, 0), n - 1) for p, n in zip(point, image.shape, strict=True))
    sampling = sample_grid((image.shape[0], image.shape[1], image.shape[2]), spacing_mm, (i, j, k))
    coarse = [s * step for s, step in zip(spacing_mm, sampling.step, strict=True)]
    spacing = (coarse[0], coarse[1], coarse[2])
    part = image[sampling.slices]
    grays = gray_range(part)
    data: dict[str, object] = {
        "image": _embed(as_bytes(part, grays), spacing),
        "overlays": [_overlay(one, sampling, spacing) for one in overlays],
        "low": grays.low,
        "high": grays.high,
        "start": sampling.start,
        "step": sampling.step,
        "point": _minus((i, j, k), sampling),
        "spacing": [round(s, 3) for s in spacing],
        "is_whole": int(np.prod(sampling.shape)) == image.size,
    }
    return ViewerCase(_key(title, (i, j, k)), title, note, data)


def library_text() -> str:
    """The viewer library as base64 of gzip, and nothing decompressed."""
    content = resources.files("pipeline.reporting").joinpath("assets", LIBRARY).read_bytes()
    return base64.b64encode(content).decode("ascii")


def license_text() -> str:
    """The license that must travel with the library."""
    file = resources.files("pipeline.reporting").joinpath("assets", LICENSE)
    return file.read_text(encoding="utf-8")


def sample_grid(shape: Shape3, spacing_mm: Spacing, point: Shape3) -> Sampling:
    """Choose the voxels of a volume that fit into a page.

    Args:
        shape: Voxels along i, j, k.
        spacing_mm: Voxel spacing along i, j, k, in mm.
        point: A voxel that must be among them.

    Returns:
        At most about `MAX_VOXELS` voxels.
    """
    step = _steps(shape, spacing_mm)
    coarse_mm = [s * t for s, t in zip(spacing_mm, step, strict=True)]
    side_mm = float(MAX_VOXELS * np.prod(coarse_mm)) ** (1 / 3)
    starts, counts = [], []
    for n, t, p, s in zip(shape, step, point, coarse_mm, strict=True):
        # Voxels of the thinned axis that contains the point, and the part of it that is kept.
        n_all = (n - 1 - p % t) // t + 1
        n_kept = n_all
        if np.prod(_counts(shape, step)) > MAX_VOXELS:
            n_kept = max(1, min(n_all, int(side_mm / s)))
        first = min(max(p // t - n_kept // 2, 0), n_all - n_kept)
        starts.append(p % t + first * t)
        counts.append(n_kept)
    return Sampling(
        (starts[0], starts[1], starts[2]),
        (step[0], step[1], step[2]),
        (counts[0], counts[1], counts[2]),
    )


def _steps(shape: Shape3, spacing_mm: Spacing) -> list[int]:
    """Thin the finest axis until the volume fits or every axis is coarse enough."""
    step = [1, 1, 1]
    while np.prod(_counts(shape, step)) > MAX_VOXELS:
        next_mm = [s * (t + 1) for s, t in zip(spacing_mm, step, strict=True)]
        axis = int(np.argmin(next_mm))
        if next_mm[axis] > MAX_SPACING_MM:
            break
        step[axis] += 1
    return step


def _counts(shape: Shape3, step: Sequence[int]) -> list[int]:
    return [-(-n // t) for n, t in zip(shape, step, strict=True)]


def _minus(point: Shape3, sampling: Sampling) -> Shape3:
    i, j, k = (
        (p - start) // step
        for p, start, step in zip(point, sampling.start, sampling.step, strict=True)
    )
    return i, j, k


def _overlay(overlay: Overlay, sampling: Sampling, spacing_mm: Spacing) -> dict[str, object]:
    part = overlay.array[sampling.slices].clip(0, _MAX_VALUE)
    is_small = int(part.max(initial=0)) < 256
    return {
        "name": overlay.name,
        "file": _embed(part.astype(np.uint8 if is_small else np.uint16), spacing_mm),
        "names": list(overlay.names),
        "colors": list(overlay.colors),
        "present": [int(value) for value in np.unique(part) if value > 0],
    }


def _embed(array: UInt[np.ndarray, "i j k"], spacing_mm: Spacing) -> str:
    """An array as a compressed NIfTI file in base64; the same array gives the same text."""
    affine = np.diag([*spacing_mm, 1.0])
    volume = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]  # nibabel has no types
    return base64.b64encode(gzip.compress(volume.to_bytes(), 6, mtime=0)).decode("ascii")


def _key(title: str, point: Shape3) -> str:
    return "v" + xxhash.xxh3_64_hexdigest(f"{title} {point}".encode())
