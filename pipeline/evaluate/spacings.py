"""How coarse the grids are: read from the headers alone, for the warning about fine tolerances."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage

from pipeline.core.geometry import Spacing, spacing_of


def read_spacings_mm(references: Mapping[str, Path]) -> dict[str, Spacing]:
    """Voxel spacing of every label file along i, j, k, in mm.

    Args:
        references: Case id to label file.

    Returns:
        Case id to spacing; files whose header cannot be read are left out, they fail elsewhere.
    """
    found: dict[str, Spacing] = {}
    for case_id, file in references.items():
        try:
            image = nib.load(file)
        except (OSError, EOFError, ValueError, ImageFileError):
            continue
        if isinstance(image, SpatialImage):
            found[case_id] = spacing_of(np.asarray(image.affine, dtype=np.float64))
    return found
