"""From the grid of the network back to the voxels of the source file."""

import math

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt
from torch import Tensor
from torch.nn import functional

from pipeline.core.errors import GeometryError
from pipeline.core.geometry import (
    Geometry,
    Shape3,
    corner_displacement_voxels,
    inverse_reorientation,
    reorient_geometry,
    reorientation_to_ras,
)
from pipeline.core.volume import Volume, reorient

# Numbers held at once while restoring, 32 MB of float32: small beside any volume, large enough that
# the cost per call does not matter.
_MAX_SLAB_VALUES = 8_000_000
# A restored grid is the same numbers computed twice: anything visible is another grid.
_MAX_DISPLACEMENT_VOXELS = 0.01


def restore_labels(
    logits: Float[Tensor, "classes i j k"], shape: Shape3
) -> UInt[np.ndarray, "new_i new_j new_k"]:
    """Turn logits on the prepared grid into labels on the source grid.

    Logits are interpolated linearly over the same extent and the largest wins, slab by slab along i
    and a few classes at a time: the logits of the whole source volume never exist. On a tie the
    lower class index wins.

    Args:
        logits: Shape (classes, i, j, k), any float dtype, on any device.
        shape: Number of voxels of the source grid along i, j, k (RAS).

    Returns:
        Class indices on the CPU, uint8, or uint16 for more than 256 classes.
    """
    n_classes = logits.shape[0]
    # torch has no working uint16: int32 on the device, uint16 in the result.
    dtype, narrow = (np.uint8, torch.uint8) if n_classes <= 256 else (np.uint16, torch.int32)
    labels = np.empty(shape, dtype=dtype)
    lower, upper, upper_weight = _linear_taps(logits.shape[1], shape[0])
    n_planes, n_chunk = _slab_size(n_classes, tuple(logits.shape[1:]), shape)
    with torch.inference_mode():
        for start in range(0, shape[0], n_planes):
            planes = slice(start, min(start + n_planes, shape[0]))
            taps = (lower[planes], upper[planes], upper_weight[planes])
            winner = _winner_in_slab(logits, taps, shape, n_chunk)
            # Narrow before the copy: 8 times less to move from a GPU.
            labels[planes] = winner.to(narrow).cpu().numpy()
    return labels


def to_native(label: Volume, native: Geometry) -> Volume:
    """Bring a RAS label map back to the axes of the source file, exactly.

    Args:
        label: Label map in RAS on the source grid.
        native: Grid of the source file, in its own orientation.

    Returns:
        A contiguous copy with the shape and the very affine of the source file.

    Raises:
        GeometryError: If the label map is not on that grid.
    """
    to_ras = reorientation_to_ras(native.affine)
    expected = reorient_geometry(native, to_ras)
    if (
        label.shape != expected.shape
        or corner_displacement_voxels(expected, label.geometry) > _MAX_DISPLACEMENT_VOXELS
    ):
        raise GeometryError(
            f"the label map of shape {label.shape} is not on the grid of the source file, "
            f"which has shape {expected.shape} in RAS",
            fix="restore predictions with the geometry of the image they were made from",
        )
    restored = reorient(label, inverse_reorientation(to_ras))
    return Volume(np.ascontiguousarray(restored.array), native.affine)


def _linear_taps(
    n_in: int, n_out: int
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Both neighbours of each output plane, and the weight of the upper one."""
    position = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    lower = np.floor(position).astype(np.int64)
    return lower, np.minimum(lower + 1, n_in - 1), position - lower


def _slab_size(n_classes: int, shape_in: tuple[int, ...], shape_out: Shape3) -> tuple[int, int]:
    """Planes and classes to interpolate at once within the memory allowed; at least one of each."""
    # A slab is mixed from its source planes before these are resized: the larger side counts.
    n_source = math.ceil(shape_in[1] * shape_in[2] * max(1.0, shape_in[0] / shape_out[0]))
    n_plane = max(n_source, shape_out[1] * shape_out[2])
    n_planes = max(1, _MAX_SLAB_VALUES // (n_plane * n_classes))
    n_chunk = max(1, _MAX_SLAB_VALUES // (n_plane * n_planes))
    return n_planes, min(n_chunk, n_classes)


def _winner_in_slab(
    logits: Float[Tensor, "classes i j k"],
    taps: tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"], Float[np.ndarray, " n"]],
    shape: Shape3,
    n_chunk: int,
) -> Integer[Tensor, "n new_j new_k"]:
    """Index of the largest interpolated logit, for some planes of the source grid."""
    best, winner = _largest(_interpolated(logits[:n_chunk], taps, shape))
    for first in range(n_chunk, logits.shape[0], n_chunk):
        values, index = _largest(_interpolated(logits[first : first + n_chunk], taps, shape))
        is_larger = values > best
        best = torch.where(is_larger, values, best)
        winner = torch.where(is_larger, index + first, winner)
    return winner


def _largest(
    values: Float[Tensor, "classes n j k"],
) -> tuple[Float[Tensor, "n j k"], Integer[Tensor, "n j k"]]:
    best, winner = values.max(dim=0)
    return best, winner


def _interpolated(
    logits: Float[Tensor, "classes i j k"],
    taps: tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"], Float[np.ndarray, " n"]],
    shape: Shape3,
) -> Float[Tensor, "classes n new_j new_k"]:
    """Some planes of the source grid, linearly between the planes and in them."""
    lower, upper, upper_weight = taps
    # Only the planes between the first and the last neighbour are touched.
    first, last = int(lower[0]), int(upper[-1])
    near = logits[:, first : last + 1].float()
    if near.shape[1] != len(lower) or upper_weight.any():
        weight = torch.as_tensor(upper_weight, dtype=torch.float32, device=logits.device)
        below = near[:, torch.as_tensor(lower - first, device=logits.device)]
        above = near[:, torch.as_tensor(upper - first, device=logits.device)]
        near = torch.lerp(below, above, weight[:, None, None])
    if tuple(near.shape[2:]) == shape[1:]:
        return near
    return functional.interpolate(near, size=shape[1:], mode="bilinear", align_corners=False)
