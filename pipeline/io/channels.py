"""Images made of several files, one per channel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry, corner_displacement_voxels, reorientation_to_ras
from pipeline.core.volume import Volume, reorient, to_ras
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
    volumes = [volume for _, volume in loaded]
    native = volumes[0].geometry
    turned = [reorient(volumes[0], reorientation_to_ras(native.affine))]
    for file, volume in zip(files[1:], volumes[1:], strict=True):
        channel = to_ras(volume)
        difference = grid_difference(turned[0].geometry, channel.geometry)
        if difference:
            raise FileFormatError(
                f"this channel lies on another grid than {files[0].name}: {difference}",
                check_id="G15",
                where=str(file),
                fix="resample all channels of the case onto one grid",
            )
        turned.append(channel)
    arrays = [volume.array for volume in turned]
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=0)
    return Image(loaded[0][0], native, Volume(array, turned[0].affine))


def grid_difference(first: Geometry, other: Geometry) -> str:
    """How two grids in RAS differ, in words; empty if channels on them fit together."""
    if other.shape != first.shape:
        return f"shape {other.shape}, not {first.shape} (in RAS order)"
    shift_voxels = corner_displacement_voxels(first, other)
    if shift_voxels <= MAX_CHANNEL_SHIFT_VOXELS:
        return ""
    return f"corners up to {shift_voxels:.2f} voxels away"
