"""What planning needs to know about a case: size, spacing, intensities, class sizes."""

import numpy as np
from jaxtyping import Float, Real

from pipeline.artifacts import QUANTILE_LEVELS, CaseFingerprint, ChannelStatistics
from pipeline.audit.view import CaseView, count_classes, foreground_values, mask_of_values
from pipeline.core.errors import GeometryError
from pipeline.core.geometry import spacing_of

# Quantiles of so many voxels are exact enough for any clip; sorting more only costs time.
_MAX_SAMPLE = 2_000_000


def fingerprint_case(view: CaseView) -> CaseFingerprint:
    """Describe one case.

    Intensities are those of the foreground (label of any class), or of the whole image if the label
    is empty; voxels that are not finite are left out.

    Args:
        view: A case whose image and label share one grid.

    Returns:
        Numbers of this case alone; nothing is pooled here, so that no fold sees another's data.

    Raises:
        GeometryError: If image or label is missing or their shapes differ.
    """
    image, label, stored = view.image, view.label, view.record.image
    is_counted = view.values is not None
    if image is None or label is None or not is_counted or stored is None or not view.is_aligned:
        raise GeometryError(
            "image and label do not share one grid",
            where=f"case {view.case_id}",
            fix="repair what the audit reports for this case",
        )
    mask = mask_of_values(label, foreground_values(view.task))
    is_inside = mask if mask.any() else np.ones_like(mask)
    i, j, k = stored.shape[-3:]
    return CaseFingerprint(
        case_id=view.case_id,
        shape=(i, j, k),
        spacing_mm=spacing_of(np.array(stored.affine, dtype=np.float64)),
        foreground=tuple(channel_statistics(channel[is_inside]) for channel in image),
        nonzero_fraction=float(np.mean((image != 0).any(axis=0))),
        n_class_voxels=count_classes(view),
        unannotated=view.record.unannotated,
    )


def channel_statistics(intensities: Real[np.ndarray, " n"]) -> ChannelStatistics:
    """Mean, spread and quantiles of some voxels.

    Args:
        intensities: Values of the voxels; those not finite are ignored.

    Returns:
        The statistics; all zero if no voxel is finite.
    """
    finite: Float[np.ndarray, " n"] = intensities[np.isfinite(intensities)].astype(np.float64)
    if not finite.size:
        zeros = (0.0,) * len(QUANTILE_LEVELS)
        return ChannelStatistics(n_voxels=0, mean=0.0, std=0.0, quantiles=zeros)
    # Evenly spaced voxels of the sample, so that the same case always gives the same numbers.
    sample = finite[:: -(-finite.size // _MAX_SAMPLE)]
    quantiles = np.quantile(sample, QUANTILE_LEVELS)
    return ChannelStatistics(
        n_voxels=int(finite.size),
        mean=float(finite.mean()),
        std=float(finite.std()),
        quantiles=tuple(float(q) for q in quantiles),
    )
