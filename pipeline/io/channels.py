"""Images made of several files, one per channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry, corner_displacement_voxels
from pipeline.core.volume import Volume, to_ras
from pipeline.io.load import load_volume

# Check G15 of the audit: below half a voxel, channels still show the same tissue.
MAX_CHANNEL_SHIFT_VOXELS = 0.5


@dataclass(frozen=True)
class Image:
    """All channels of one image, and the file grid they came from.

    Args:
        facts: Header facts of the first file.
        native: Grid of the first file as stored.
        volume: Channels (channel, i, j, k) in RAS.
    """

    facts: FileFacts
    native: Geometry
    volume: Volume


def load_image(files: Sequence[Path], *, root: Path) -> Image:
    """Read all channels of one image.

    Args:
        files: One file per channel, or one file with all channels.
        root: Folder that messages are relative to.

    Returns:
        The channels, turned to RAS.

    Raises:
        FileFormatError: If a file cannot be read, or a channel lies on another grid (G15).
    """
    loaded = [load_volume(file, root=root, role="image") for file in files]
    first_facts, first = loaded[0]
    return Image(first_facts, first.geometry, join_channels(loaded))


def join_channels(loaded: Sequence[tuple[FileFacts, Volume]]) -> Volume:
    """Join images of the same grid into one image, axes running to R, A and S.

    Args:
        loaded: Results of `load_volume`; the files may have different axis orders.

    Returns:
        Image (channel, i, j, k) with the affine of the first one, in RAS.

    Raises:
        FileFormatError: G15 if a channel has another shape, or corners more than
            MAX_CHANNEL_SHIFT_VOXELS away.
    """
    first_facts, first = loaded[0][0], to_ras(loaded[0][1])
    volumes = [first]
    for number, (facts, native) in enumerate(loaded[1:], start=1):
        volume = to_ras(native)
        if difference := grid_difference(first.geometry, volume.geometry):
            raise FileFormatError(
                f"channel {number} lies on another grid than {first_facts.file}: {difference}",
                check_id="G15",
                where=facts.file,
                fix="resample all channels of the case onto one grid",
            )
        volumes.append(volume)
    if len(volumes) == 1:
        return first
    return Volume(_stacked([volume.array for volume in volumes]), first.affine)


def _stacked(arrays: Sequence[Shaped[np.ndarray, "..."]]) -> Shaped[np.ndarray, "..."]:
    """One array in C order, as the store wants it: `np.concatenate` would keep the files' order."""
    n_channels = sum(array.shape[0] for array in arrays)
    stacked = np.empty((n_channels, *arrays[0].shape[1:]), np.result_type(*arrays))
    start = 0
    for array in arrays:
        stacked[start : start + array.shape[0]] = array
        start += array.shape[0]
    return stacked


def grid_difference(first: Geometry, other: Geometry) -> str:
    """How two grids in RAS differ, in words; empty if channels on them fit together."""
    if other.shape != first.shape:
        return f"shape {other.shape}, not {first.shape} (in RAS order)"
    shift_voxels = corner_displacement_voxels(first, other)
    if shift_voxels <= MAX_CHANNEL_SHIFT_VOXELS:
        return ""
    return f"corners up to {shift_voxels:.2f} voxels away"
