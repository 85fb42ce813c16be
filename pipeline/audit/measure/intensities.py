"""What the image shows under a class."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, Real

from pipeline.audit.measures import LEVELS
from pipeline.core.geometry import Shape3

# Quantiles of so many voxels are exact enough; more only cost time.
_MAX_SAMPLE = 2_000_000


@dataclass(frozen=True)
class Intensities:
    """Channel 0 under one class.

    Args:
        quantiles: At LEVELS; empty if no voxel is finite.
        air_share: Share of the voxels below the threshold of air.
        air_voxel: One of them, None if there is none.
    """

    quantiles: tuple[float, ...] = ()
    air_share: float = 0.0
    air_voxel: Shape3 | None = None


def measure_intensities(
    image: Real[np.ndarray, "i j k"],
    label: Integer[np.ndarray, "i j k"],
    class_index: int,
    n_voxels: int,
    air_below: float | None,
) -> Intensities:
    """Describe the image under one class.

    Args:
        image: Image values, shape (i, j, k); the bounding box of the class is enough.
        label: Class index per voxel of the same box.
        class_index: The class; its first plane along i must lie in the box.
        n_voxels: Voxels of the class. Of very many, every n-th plane is used.
        air_below: Values below this are air; None if that is unknown.

    Returns:
        Quantiles and air; voxels that are not finite are left out.
    """
    step = -(-n_voxels // _MAX_SAMPLE)
    label, image = label[::step], image[::step]
    mask = label == class_index
    values = image[mask]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return Intensities()
    quantiles = quantiles_of(values)
    if air_below is None or quantiles[0] >= air_below:
        return Intensities(quantiles)
    places = np.argwhere(mask & (image < air_below))
    i, j, k = places[len(places) // 2]
    return Intensities(quantiles, len(places) / int(mask.sum()), (int(i) * step, int(j), int(k)))


def quantiles_of(values: Real[np.ndarray, " n"]) -> tuple[float, ...]:
    """Quantiles of some finite values at LEVELS, linear between neighbors.

    Args:
        values: At least one value; in the order of the caller, which is not changed.

    Returns:
        One number per level, as numpy's `quantile` gives.
    """
    ordered = np.sort(values)
    places = np.array(LEVELS) * (ordered.size - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, ordered.size - 1)
    below, above = ordered[low].astype(np.float64), ordered[high].astype(np.float64)
    return tuple(float(q) for q in below + (places - low) * (above - below))
