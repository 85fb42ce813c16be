"""Probabilities of all classes of one case: never all of them in memory.

They are collected in a file on disk while they are computed, and written class by class. NIfTI has
no 16-bit floating numbers: values are stored as 16-bit integers with a scale of 2^-15, which is
finer than float16 near 1 and exact in every program that applies the scale.
"""

import gzip
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float16, UInt16

from pipeline.core.errors import DataError
from pipeline.core.geometry import (
    Geometry,
    Shape3,
    inverse_reorientation,
    reorient_array,
    reorientation_to_ras,
)
from pipeline.core.workspace import atomic_write

# A power of two, so that 1 and every stored value are exact.
SCALE = 2.0**-15
_BYTES = 2
# Most voxels of most classes are 0: more effort gains nothing.
_GZIP_LEVEL = 1


class ProbabilityBuffer:
    """Probabilities on their way to a file; the space on disk is free again when it is dropped.

    Args:
        folder: On the disk that will hold the file.
        n_outputs: Background and classes, or regions.
        shape: Source grid in RAS.

    Raises:
        DataError: If the disk has no room.
    """

    def __init__(self, folder: Path, n_outputs: int, shape: Shape3) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        n_bytes, n_free = _BYTES * n_outputs * math.prod(shape), shutil.disk_usage(folder).free
        if n_bytes > n_free:
            raise DataError(
                f"the probabilities need {n_bytes / 1e9:.1f} GB on disk, {n_free / 1e9:.1f} GB are "
                "free",
                where=str(folder),
                fix="free disk space, or set infer.save_probabilities=false",
            )
        # Without a name: whatever ends this process, nothing is left behind.
        with tempfile.TemporaryFile(dir=folder) as file:
            self._values = np.memmap(file, np.uint16, "w+", shape=(n_outputs, *shape))

    def put(self, first: int, planes: Float16[np.ndarray, "output n j k"]) -> None:
        """Take the probabilities of some planes; may be called again for the same ones.

        Args:
            first: First plane along i, RAS.
            planes: Shape (output, n, j, k).
        """
        values = np.rint(planes.astype(np.float32) / np.float32(SCALE))
        self._values[:, first : first + planes.shape[1]] = values.astype(np.uint16)

    def write(self, file: Path, *, like: Path, native: Geometry) -> None:
        """Write a 4-D NIfTI file, outputs along the last axis, on the grid of a prediction.

        Args:
            file: Name ending in .nii.gz; complete or not there at all.
            like: The prediction file, which lends its header.
            native: Grid of the source file.
        """
        header: Any = nib.load(like).header.copy()
        header.set_data_dtype(np.uint16)
        header.set_data_shape((*native.shape, len(self._values)))
        header.set_slope_inter(SCALE, 0.0)
        header["vox_offset"] = header.single_vox_offset
        back = inverse_reorientation(reorientation_to_ras(native.affine))
        with (
            atomic_write(file) as stream,
            gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed,
        ):
            packed.write(header.binaryblock + bytes(4))
            for values in self._values:
                # One class in memory; a memory map read across its planes would be very slow.
                loaded: UInt16[np.ndarray, "i j k"] = np.array(values)
                turned = reorient_array(loaded, back)
                for k in range(turned.shape[2]):
                    packed.write(turned[:, :, k].tobytes(order="F"))
