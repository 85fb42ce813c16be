"""Does a label fit the picture better as its header says, or as its voxels lie?"""

import numpy as np
from jaxtyping import Bool, Float, Real

from pipeline.artifacts import FileFacts
from pipeline.audit.view import CaseView
from pipeline.core.geometry import (
    inverse_reorientation,
    reorient_array,
    reorientation_to_ras,
)

# A mirrored label loses about a third of its contrast on anatomy; noise alone moves it by less.
_MIN_ADVANTAGE = 1.15


def fits_as_header_says(view: CaseView) -> bool:
    """Compare two readings of a label that is stored in another orientation than its image.

    Structures have edges where their label ends. If the header is right, the image changes more
    along the label border as read by the header than along the border of the raw voxel order.

    Args:
        view: A case whose image and label share one grid shape after turning to RAS.

    Returns:
        True if the header reading is clearly the better one, or the only one possible.
    """
    image, label, label_file = view.image, view.label, view.record.label_file
    if image is None or label is None or label_file is None or not view.record.image_files:
        return False
    to_ras = reorientation_to_ras(_affine(label_file))
    native = reorient_array(label, inverse_reorientation(to_ras))
    by_voxels = reorient_array(native, reorientation_to_ras(_affine(view.record.image_files[0])))
    if by_voxels.shape != label.shape:
        return True
    edges = _gradient_magnitude(image[0])
    as_header, as_voxels = edges[_border(label)], edges[_border(by_voxels)]
    if not as_header.size:
        return False
    return float(as_header.mean()) > _MIN_ADVANTAGE * float(as_voxels.mean())


def _affine(facts: FileFacts) -> Float[np.ndarray, "4 4"]:
    return np.array(facts.affine, dtype=np.float64)


def _gradient_magnitude(image: Real[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
    squares = np.zeros(image.shape, dtype=np.float32)
    finite = np.nan_to_num(image.astype(np.float32))
    for axis in range(3):
        if image.shape[axis] > 1:
            squares += np.gradient(finite, axis=axis) ** 2
    return np.sqrt(squares)


def _border(
    label: Real[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k"],
) -> Bool[np.ndarray, "i j k"]:
    """Voxels whose next neighbor along any axis has another value."""
    border = np.zeros(label.shape, dtype=bool)
    for axis in range(3):
        here = [slice(None)] * 3
        following = [slice(None)] * 3
        here[axis], following[axis] = slice(None, -1), slice(1, None)
        differs = label[tuple(here)] != label[tuple(following)]
        border[tuple(here)] |= differs
        border[tuple(following)] |= differs
    return border
