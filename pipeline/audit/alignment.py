"""Does a label fit the picture better as its header says, or as its voxels lie?"""

import numpy as np
from jaxtyping import Float

from pipeline.artifacts import FileFacts
from pipeline.audit.measure.alignment import border_points, edge_strength, mean_strength
from pipeline.audit.view import CaseView
from pipeline.core.geometry import (
    inverse_reorientation,
    reorient_array,
    reorientation_to_ras,
)

# On 340 real cases no right label fitted the edges 5 % better when mirrored along one axis.
_MIN_ADVANTAGE = 1.05
# Enough for a mean that noise does not move.
_N_BORDER_POINTS = 50_000


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
    edges, steps = edge_strength(image[0])
    points, n_border = border_points(label, _N_BORDER_POINTS)
    points_by_voxels, _ = border_points(by_voxels, _N_BORDER_POINTS)
    if n_border == 0:
        return False
    as_header = mean_strength(edges, points, steps)
    return as_header > _MIN_ADVANTAGE * mean_strength(edges, points_by_voxels, steps)


def _affine(facts: FileFacts) -> Float[np.ndarray, "4 4"]:
    return np.array(facts.affine, dtype=np.float64)
