"""From a source volume to what the network sees; the same code for training and inference.

Intensities are normalized first and resampled second, as in nnU-Net: statistics belong to the
measured voxels. Where voxels are much longer along one axis, nothing is invented between the
slices: that axis is resized by nearest neighbour.
"""

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from pipeline.artifacts import Normalization, Preprocessing
from pipeline.core.errors import DataError
from pipeline.core.geometry import Geometry, Shape3, Spacing, resized_geometry
from pipeline.core.volume import Volume
from pipeline.transforms.resample import Orders, resample_image, resample_label

IMAGE_ORDER = 3
LABEL_ORDER = 1
# Ratio of the longest to the shortest voxel edge beyond which slices are kept apart (nnU-Net).
MAX_ISOTROPIC_RATIO = 3.0
# Spacings closer than this are the same scanner setting, rounded differently in the header.
SAME_SPACING_FRACTION = 0.01
# A constant channel has no contrast to scale (nnU-Net uses the same floor).
_MIN_STD = 1e-8


def prepared_shape(geometry: Geometry, spacing_mm: Spacing) -> Shape3:
    """Number of voxels a volume has after preprocessing.

    Args:
        geometry: Source grid in RAS.
        spacing_mm: Target spacing along i, j, k, in mm.

    Returns:
        Extent over spacing along each axis, rounded, at least 1; an axis whose spacing is within
        1 % of the target keeps its voxels.
    """
    shape = [
        n
        if abs(source_mm / target_mm - 1) < SAME_SPACING_FRACTION
        else max(1, round(n * source_mm / target_mm))
        for n, source_mm, target_mm in zip(
            geometry.shape, geometry.spacing_mm, spacing_mm, strict=True
        )
    ]
    return shape[0], shape[1], shape[2]


def interpolation_orders(source_mm: Spacing, target_mm: Spacing, order: int) -> Orders:
    """Spline order along each axis: nearest neighbour across thick slices, else as asked for.

    Slices are thick where one axis of the source grid, or else of the target grid, has voxels more
    than three times as long as the shortest edge. Two equally long axes (a stack of lines) have no
    slices to keep apart.

    Args:
        source_mm: Spacing before along i, j, k, in mm.
        target_mm: Spacing after.
        order: Spline order of the other axes.

    Returns:
        The order along i, j, k.

    Source:
        nnU-Net v2, the rule that decides to resample the low-resolution axis separately.
    """
    thick = _thick_axis(source_mm)
    if thick is None and not _is_anisotropic(source_mm):
        thick = _thick_axis(target_mm)
    orders = [0 if axis == thick else order for axis in range(3)]
    return orders[0], orders[1], orders[2]


# Sums go by so many voxels: little memory, and few calls for small volumes.
_SLAB_VOXELS = 1 << 20


def preprocess_image(volume: Volume, preprocessing: Preprocessing) -> Volume:
    """Normalize an image and bring it to the target spacing.

    Args:
        volume: RAS image, array (channel, i, j, k) of any real dtype.
        preprocessing: Target spacing and one normalization per channel.

    Returns:
        The network input, float32 (channel, i, j, k), on a grid over the same extent.

    Raises:
        DataError: If the channels do not match, or a voxel is not finite or beyond float32.
    """
    n_channels = volume.array.shape[0] if volume.array.ndim == 4 else 0
    if n_channels != len(preprocessing.normalizations):
        raise DataError(
            f"the image has {n_channels} channels, the model expects "
            f"{len(preprocessing.normalizations)}",
            fix="give the same channels in the same order as in training",
        )
    with np.errstate(over="ignore"):  # what overflows float32 is reported as not finite below
        array = np.array(volume.array, dtype=np.float32, order="C")
    _check_finite(array)
    _normalize(array, preprocessing.normalizations)
    shape = prepared_shape(volume.geometry, preprocessing.spacing_mm)
    if shape == volume.shape:
        return Volume(array, volume.affine)
    grid = resized_geometry(volume.geometry, shape)
    orders = interpolation_orders(volume.geometry.spacing_mm, grid.spacing_mm, IMAGE_ORDER)
    return Volume(resample_image(array, shape, orders), grid.affine)


def preprocess_label(label: Volume, preprocessing: Preprocessing) -> Volume:
    """Bring a label map to the grid of the preprocessed image.

    Args:
        label: RAS label map, array (i, j, k) of class indices.
        preprocessing: Target spacing.

    Returns:
        Same dtype, on the same grid as `preprocess_image` gives for an image of the same geometry;
        no class appears that was not there.

    Raises:
        DataError: If the array is not an integer label map.
    """
    if label.array.ndim != 3 or not np.issubdtype(label.array.dtype, np.integer):
        raise DataError(
            f"a label map holds integers on 3 axes, not {label.array.dtype} on {label.array.ndim}",
            fix="store class indices as integers",
        )
    shape = prepared_shape(label.geometry, preprocessing.spacing_mm)
    if shape == label.shape:
        return label
    grid = resized_geometry(label.geometry, shape)
    orders = interpolation_orders(label.geometry.spacing_mm, grid.spacing_mm, LABEL_ORDER)
    return Volume(resample_label(label.array, shape, orders), grid.affine)


def _is_anisotropic(spacing_mm: Spacing) -> bool:
    return max(spacing_mm) / min(spacing_mm) > MAX_ISOTROPIC_RATIO


def _thick_axis(spacing_mm: Spacing) -> int | None:
    """The one axis along which voxels are much longer, if there is one."""
    longest_mm = max(spacing_mm)
    longest = [
        axis
        for axis, edge_mm in enumerate(spacing_mm)
        if edge_mm > longest_mm * (1 - SAME_SPACING_FRACTION)
    ]
    return longest[0] if _is_anisotropic(spacing_mm) and len(longest) == 1 else None


def _check_finite(array: Float32[np.ndarray, "channel i j k"]) -> None:
    with np.errstate(invalid="ignore"):  # +inf and -inf
        total = array.sum(dtype=np.float64)
    if np.isfinite(total):
        return  # a voxel that is not finite makes the sum so
    for channel, values in enumerate(array):
        # Plane by plane: a bool volume for nearly always nothing would be wasted.
        for i, plane in enumerate(values):
            is_bad = ~np.isfinite(plane)
            if is_bad.any():
                j, k = (int(index[0]) for index in np.nonzero(is_bad))
                raise DataError(
                    "the image holds voxels that are NaN, infinite or beyond float32",
                    where=f"channel {channel}, first at voxel ({i}, {j}, {k}) of the RAS grid",
                    fix="export the image again; 'voxline audit' names all such cases (check F09)",
                )


def _normalize(
    array: Float32[np.ndarray, "channel i j k"], normalizations: tuple[Normalization, ...]
) -> None:
    """Normalize every channel in place."""
    nonzero = None
    if any(n.kind == "zscore_nonzero" for n in normalizations):
        # Before any channel changes: 0 in one channel but not in another is a measurement.
        nonzero = (array != 0).any(axis=0)
    for values, normalization in zip(array, normalizations, strict=True):
        match normalization.kind:
            case "ct":
                np.clip(values, normalization.lower, normalization.upper, out=values)
                values -= np.float32(normalization.mean)
                values /= np.float32(normalization.std)
            case "zscore":
                _standardize(values, None)
            case "zscore_nonzero":
                _standardize(values, nonzero)


def _standardize(
    values: Float32[np.ndarray, "i j k"], inside: Bool[np.ndarray, "i j k"] | None
) -> None:
    """Subtract the mean and divide by the standard deviation in place; 0 outside the mask."""
    n_inside = values.size if inside is None else int(np.count_nonzero(inside))
    if n_inside == 0:
        return
    # float64 sums lose no digits over 10^8 voxels; slab by slab they need no float64 copy.
    n_planes = max(1, _SLAB_VOXELS // values[0].size)
    slabs = [slice(i, i + n_planes) for i in range(0, len(values), n_planes)]
    mean = sum(float(_inside(values, inside, s).sum()) for s in slabs) / n_inside
    variance = (
        sum(float(np.square(_inside(values, inside, s) - mean).sum()) for s in slabs) / n_inside
    )
    values -= np.float32(mean)
    values /= np.float32(max(np.sqrt(variance), _MIN_STD))
    if inside is not None:
        values[~inside] = 0


def _inside(
    values: Float32[np.ndarray, "i j k"], inside: Bool[np.ndarray, "i j k"] | None, slab: slice
) -> Shaped[np.ndarray, "..."]:
    """Voxels of some planes that count, as float64."""
    planes = values[slab] if inside is None else values[slab][inside[slab]]
    return planes.astype(np.float64)
