"""One pass over the voxels of a case."""

import numpy as np
from jaxtyping import Integer, Real

from pipeline.audit.config import AuditConfig
from pipeline.audit.measure.alignment import measure_alignment
from pipeline.audit.measure.classes import measure_classes
from pipeline.audit.measure.images import measure_channel
from pipeline.audit.measure.readers import compare_readers
from pipeline.audit.measures import AlignmentProfile, CaseMeasures
from pipeline.audit.view import CaseView, index_map


def measure_case(view: CaseView, config: AuditConfig) -> CaseMeasures:
    """Measure image and label of one case.

    Args:
        view: The case; arrays that could not be read are None.
        config: Says which second reading is wanted.

    Returns:
        The measures; parts whose array is missing, or whose label is no label map, are empty.
    """
    channels = () if view.image is None else tuple(measure_channel(c) for c in view.image)
    readers = compare_readers(view, config.images)
    label = index_map(view)
    stored = view.record.label
    if label is None or stored is None:
        return CaseMeasures(channels=channels, readers=readers)
    affine = np.array(stored.affine, dtype=np.float64)
    image = view.image[0] if view.image is not None and view.is_aligned else None
    threshold = channels[0].body_threshold if channels else None
    is_ct = bool(view.task.channels) and view.task.channels[0].modality == "ct"
    return CaseMeasures(
        classes=measure_classes(
            label,
            len(view.task.classes),
            affine,
            image=image,
            body_threshold=threshold,
            is_ct=is_ct,
        ),
        channels=channels,
        alignment=None if image is None else _alignment(view, image, label, config),
        readers=readers,
    )


def _alignment(
    view: CaseView,
    image: Real[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    config: AuditConfig,
) -> AlignmentProfile:
    # Where drawing stopped, there is no edge to be expected in the image.
    is_drawn = label >= 0 if view.task.ignore_values else None
    return measure_alignment(image, label, config.grids, is_drawn=is_drawn)
