"""Read augmented patches straight from volumes: one crop, one interpolation, on any device."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the field's name for it
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from pipeline.core.geometry import Shape3
from pipeline.transforms.elastic import displacements
from pipeline.transforms.pose import PatchPose
from pipeline.transforms.to_device import to_device

# Image and label; the volumes of a batch differ in shape.
Volume = tuple[Float[Tensor, "channel _ _ _"], UInt8[Tensor, "_ _ _"]]


def read_patch(
    image: Float[Tensor, "channel i j k"],
    label: UInt8[Tensor, "i j k"],
    pose: PatchPose,
    patch_size: Shape3,
) -> tuple[Float[Tensor, "channel pi pj pk"], UInt8[Tensor, "pi pj pk"]]:
    """Read a patch of a volume; what lies outside the volume is 0.

    Args:
        image: Prepared volume, float16 or float32.
        label: Class index per voxel.
        pose: Where and how the patch lies.
        patch_size: Voxels of the patch along i, j, k.

    Returns:
        Image patch (float32) and label patch.
    """
    if pose.is_plain:
        return _read_crop(image, label, pose, patch_size)
    patches, labels = _interpolate([(image, label)], [pose], patch_size, image.device)
    return patches[0], labels[0]


def read_patches(
    volumes: Sequence[Volume],
    poses: Sequence[PatchPose],
    patch_size: Shape3,
    device: torch.device | None = None,
) -> tuple[Float[Tensor, "batch channel pi pj pk"], UInt8[Tensor, "batch pi pj pk"]]:
    """Read the patches of a batch with one interpolation for all that need one.

    The same patches as `read_patch` gives, to rounding. Worth it on a GPU, where the calls cost
    more than the work; a CPU gains nothing from it and pays for boxes as large as the largest.

    Args:
        volumes: Image and label of each patch, on one device.
        poses: Where and how each patch lies.
        patch_size: Voxels of a patch along i, j, k.
        device: Where patches are wanted, and interpolated: of volumes elsewhere only the boxes
            around the patches travel. None: where the volumes are.

    Returns:
        Image patches (float32) and label patches, in the order of the volumes.
    """
    n_channels, device = volumes[0][0].shape[0], device or volumes[0][0].device
    shape = (len(poses), n_channels, *patch_size)
    patches = torch.empty(shape, dtype=torch.float32, device=device)
    labels = torch.empty((len(poses), *patch_size), dtype=torch.uint8, device=device)
    moved = [row for row, pose in enumerate(poses) if not pose.is_plain]
    if moved:
        several = [volumes[row] for row in moved], [poses[row] for row in moved]
        index = to_device(moved, device, np.int64)
        image, label = _interpolate(*several, patch_size, device)
        patches.index_copy_(0, index, image)
        labels.index_copy_(0, index, label)
    for row, (volume, pose) in enumerate(zip(volumes, poses, strict=True)):
        if pose.is_plain:
            image, label = _read_crop(*volume, pose, patch_size)
            patches[row].copy_(image, non_blocking=True)
            labels[row].copy_(label, non_blocking=True)
    return patches, labels


def _interpolate(
    volumes: Sequence[Volume],
    poses: Sequence[PatchPose],
    patch_size: Shape3,
    device: torch.device,
) -> tuple[Float[Tensor, "batch channel pi pj pk"], UInt8[Tensor, "batch pi pj pk"]]:
    """Cut a box around each patch, all as large as the largest, and sample them together."""
    boxes = [_box(pose, volume[1], patch_size) for volume, pose in zip(volumes, poses, strict=True)]
    size = np.max([high - low for low, high in boxes], axis=0)
    # Zeros around a box are what lies outside its volume: 0 is the mean intensity after
    # normalization, and background for labels. Beyond the box the padding mode says the same.
    shape = (len(poses), volumes[0][0].shape[0], *(int(n) for n in size))
    image_boxes = torch.zeros(shape, dtype=torch.float32, device=device)
    label_boxes = torch.zeros((shape[0], 1, *shape[2:]), dtype=torch.float32, device=device)
    for row, (low, high) in enumerate(boxes):
        source = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        target = tuple(slice(0, int(n)) for n in high - low)
        image, label = volumes[row]
        box = image_boxes[row][(slice(None), *target)]
        box.copy_(image[(slice(None), *source)], non_blocking=True)
        label_boxes[row, 0][target].copy_(label[source], non_blocking=True)
    centers = np.array([pose.center - low for pose, (low, _) in zip(poses, boxes, strict=True)])
    grid = _sampling_grid(poses, centers, size, patch_size, device)
    patches = F.grid_sample(image_boxes, grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(label_boxes, grid, mode="nearest", align_corners=False)
    return patches, labels[:, 0].to(torch.uint8)


def _box(
    pose: PatchPose, label: UInt8[Tensor, "i j k"], patch_size: Shape3
) -> tuple[Integer[np.ndarray, "3"], Integer[np.ndarray, "3"]]:
    """First and last (exclusive) voxel that a patch may touch."""
    reach, shape = pose.reach(patch_size), np.array(label.shape)
    low = np.clip(np.floor(pose.center - reach), 0, shape - 1).astype(int)
    high = np.clip(np.ceil(pose.center + reach) + 1, low + 1, shape).astype(int)
    return low, high


def _sampling_grid(
    poses: Sequence[PatchPose],
    centers: Float[np.ndarray, "batch 3"],
    box_shape: Integer[np.ndarray, "3"],
    patch_size: Shape3,
    device: torch.device,
) -> Float[Tensor, "batch pi pj pk 3"]:
    """Coordinates for grid_sample: normalized to [-1, 1] over voxel faces, order k, j, i."""
    scale = 2.0 / box_shape
    matrices = np.array([pose.matrix * scale[:, None] for pose in poses])
    grid = _on_device((centers + 0.5) * scale - 1, device)[:, None, None, None]
    # From the small axes' sums to the whole grid: only the last sum is as large as the patch.
    for axis, size in enumerate(patch_size):
        offsets = np.arange(size) - (size - 1) / 2
        steps = _on_device(offsets[None, :, None] * matrices[:, None, :, axis], device)
        shape = [len(poses), 1, 1, 1, 3]
        shape[axis + 1] = size
        grid = grid + steps.view(shape)
    for row, pose in enumerate(poses):
        if pose.elastic is not None:
            moved = displacements(pose.elastic, patch_size, device)
            grid[row] += moved @ to_device(matrices[row, ::-1], device).T
    return grid


def _on_device(
    values: Float[np.ndarray, "*shape 3"], device: torch.device
) -> Float[Tensor, "*shape 3"]:
    """As float32, the last axis turned round to k, j, i."""
    return to_device(values[..., ::-1], device)


def _read_crop(
    image: Float[Tensor, "channel i j k"],
    label: UInt8[Tensor, "i j k"],
    pose: PatchPose,
    patch_size: Shape3,
) -> tuple[Float[Tensor, "channel pi pj pk"], UInt8[Tensor, "pi pj pk"]]:
    # Column a of the matrix says which axis of the volume axis a of the patch runs along.
    order = [int(axis) for axis in np.abs(pose.matrix).argmax(axis=0)]
    flipped = [a for a, axis in enumerate(order) if pose.matrix[axis, a] < 0]
    sides = np.abs(pose.matrix).astype(int) @ np.array(patch_size)
    patch = image.new_zeros((image.shape[0], *(int(n) for n in sides)), dtype=torch.float32)
    label_patch = label.new_zeros(patch.shape[1:])
    source, target = [], []
    for center, size, limit in zip(pose.center, patch.shape[1:], label.shape, strict=True):
        first = round(float(center) - (size - 1) / 2)
        low, high = max(first, 0), max(min(first + size, limit), max(first, 0))
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    patch[(slice(None), *target)] = image[(slice(None), *source)].float()
    label_patch[tuple(target)] = label[tuple(source)]
    if order != [0, 1, 2]:
        patch = patch.permute(0, *(axis + 1 for axis in order))
        label_patch = label_patch.permute(*order)
    if flipped:
        patch = patch.flip([axis + 1 for axis in flipped])
        label_patch = label_patch.flip(flipped)
    return patch.contiguous(), label_patch.contiguous()
