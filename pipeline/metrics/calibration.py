"""Calibration: whether a predicted probability of 0.8 is right eight times out of ten."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from pipeline.core.errors import DataError, GeometryError

N_BINS = 15
# float16 and float32 softmax may pass 0 and 1 by rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class CalibrationBins:
    """Voxels sorted by predicted probability; bins of parts and of cases can be added.

    Args:
        n_voxels: Voxels per bin, shape (bin,), equal widths over [0, 1].
        n_right: How many of them the prediction was right about.
        sum_of_probabilities: Sum of their probabilities.
    """

    n_voxels: Int64[np.ndarray, "bin"]
    n_right: Int64[np.ndarray, "bin"]
    sum_of_probabilities: Float64[np.ndarray, "bin"]

    def __add__(self, other: "CalibrationBins") -> "CalibrationBins":
        """Bins of both parts together."""
        return CalibrationBins(
            n_voxels=self.n_voxels + other.n_voxels,
            n_right=self.n_right + other.n_right,
            sum_of_probabilities=self.sum_of_probabilities + other.sum_of_probabilities,
        )

    @property
    def error(self) -> float | None:
        """Expected calibration error, range [0, 1], 0 is best; None without voxels."""
        n_all = int(self.n_voxels.sum())
        if not n_all:
            return None
        return float(np.abs(self.sum_of_probabilities - self.n_right).sum() / n_all)


def calibration_bins(
    *, probabilities: Float[np.ndarray, "..."], is_right: Bool[np.ndarray, "..."]
) -> CalibrationBins:
    """Sort voxels into bins by the probability that was predicted for them.

    For a whole segmentation give the probability of the predicted class and where it equals the
    reference; for one class its probability and where the reference has it. Large volumes can be
    given in parts and added up. Voxels of plain background far from everything make any network
    look calibrated: leave them out.

    Args:
        probabilities: Predicted probabilities in [0, 1], any shape.
        is_right: Whether what was predicted with this probability is true, same shape.

    Returns:
        Bins of equal width.

    Raises:
        GeometryError: If the two shapes differ.
        DataError: If a probability lies outside [0, 1] or is NaN.

    Source:
        Guo et al. 2017 (arXiv 1706.04599), eq. 3, with 15 bins as there.
    """
    if probabilities.shape != is_right.shape:
        raise GeometryError(
            f"probabilities {probabilities.shape} and labels {is_right.shape} differ in shape",
            fix="give one probability per voxel",
        )
    values = probabilities.ravel().astype(np.float64)
    right = is_right.ravel()
    if not np.all((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)):
        raise DataError(
            "probabilities lie outside 0 to 1, or are NaN",
            fix="give the softmax or sigmoid of the network's output",
        )
    values = values.clip(0.0, 1.0)
    bins = np.minimum((values * N_BINS).astype(np.intp), N_BINS - 1)
    return CalibrationBins(
        n_voxels=np.bincount(bins, minlength=N_BINS),
        n_right=np.bincount(bins[right], minlength=N_BINS),
        # Without voxels bincount forgets that its weights were floats.
        sum_of_probabilities=np.bincount(bins, weights=values, minlength=N_BINS).astype(np.float64),
    )
