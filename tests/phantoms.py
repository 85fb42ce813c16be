"""Small volumes and data sets with known answers, built in memory or on disk."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Layout = Literal["decathlon", "nnunet", "two_folders"]
Shape3 = tuple[int, int, int]

CLASS_NAMES = ("liver", "kidney", "lesion", "spleen", "pancreas")


def ball(shape: Shape3, center: ArrayLike, radius_voxels: ArrayLike) -> NDArray[np.bool_]:
    """A filled ball (or an ellipsoid, given three radii) as a mask.

    Args:
        shape: Voxels along i, j, k.
        center: Center in voxels; voxel (0, 0, 0) has its center at the origin.
        radius_voxels: Radius, or one radius per axis. The surface belongs to the ball.

    Returns:
        Mask of that shape.
    """
    radii = np.broadcast_to(np.asarray(radius_voxels, dtype=float), 3)
    grid = np.indices(shape, dtype=float)
    offsets = (grid - np.reshape(center, (3, 1, 1, 1))) / radii.reshape(3, 1, 1, 1)
    return (offsets**2).sum(axis=0) <= 1.0


def box(shape: Shape3, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.bool_]:
    """A filled box from `start` (inside) to `stop` (outside) as a mask."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def ramp(shape: Shape3, affine: NDArray[np.floating]) -> NDArray[np.float32]:
    """An image whose value is a linear function of the world position in mm.

    Any correct change of grid reproduces it: value = 100 + x + 2 y - 0.5 z.
    """
    homogeneous = np.concatenate([np.indices(shape, dtype=float), np.ones((1, *shape))])
    world_mm = np.tensordot(affine, homogeneous, axes=1)[:3]
    return np.asarray(100 + world_mm[0] + 2 * world_mm[1] - 0.5 * world_mm[2], dtype=np.float32)


def affine_of(
    shape: Shape3,
    spacing_mm: Sequence[float],
    orientation: str = "RAS",
    *,
    oblique_degrees: float = 0.0,
    center_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """An affine for a grid *of that shape*, centered at a point of the world.

    Args:
        shape: Voxels along i, j, k of the array that will carry the affine.
        spacing_mm: Spacing along i, j, k of that array.
        orientation: Direction of i, j, k, such as "RAS" or "PIR".
        oblique_degrees: Rotation about the x axis of the world, and half as much about z.
        center_mm: World position of the middle of the grid.

    Returns:
        Voxel index to world mm, 4x4.
    """
    directions = np.zeros((3, 3))
    for voxel_axis, code in enumerate(orientation):
        world_axis = next(w for w, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        directions[world_axis, voxel_axis] = 1.0 if code in "RAS" else -1.0
    affine = np.eye(4)
    affine[:3, :3] = _rotation(oblique_degrees) @ directions * np.asarray(spacing_mm)
    affine[:3, 3] = center_mm - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def case(
    seed: int | np.random.Generator,
    shape: Shape3,
    spacing_mm: Sequence[float],
    orientation: str = "RAS",
    n_classes: int = 2,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """One learnable case: bright ellipsoids, one brightness per class, in a noisy body.

    Class 1 always lies to the patient's right, class 2 to the left, further ones above: a mirrored
    axis is visible. Every class is present and in one piece, no voxel is on the border.

    Args:
        seed: Seed or generator; the same seed gives the same case.
        shape: Voxels to R, A, S; at least 16 along each. Permuted with the axes if `orientation`
            is another one.
        spacing_mm: Spacing to R, A, S.
        orientation: Direction of i, j, k of the arrays returned.
        n_classes: Foreground classes, 1 to 7.

    Returns:
        Image (i, j, k), label (i, j, k) with values 0 to n_classes, affine.
    """
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.uint8)
    size = np.asarray(shape, dtype=float)
    # Right, left, three small ones in a row above the other two, one behind and one in front.
    centers = (
        (0.72, 0.5, 0.4),
        (0.28, 0.5, 0.4),
        (0.5, 0.5, 0.78),
        (0.25, 0.5, 0.8),
        (0.75, 0.5, 0.8),
        (0.5, 0.2, 0.45),
        (0.5, 0.8, 0.45),
    )
    radii = (0.15, 0.13, 0.10, 0.09, 0.09, 0.08, 0.08)
    for index in range(n_classes):
        center = (np.array(centers[index]) + rng.uniform(-0.03, 0.03, 3)) * size
        radius = np.maximum(radii[index] * rng.uniform(0.9, 1.1, 3) * size, 1.6)
        label[ball(shape, center, radius) & (label == 0)] = index + 1
    body = ball(shape, (size - 1) / 2, 0.48 * size)
    brightness = np.array([0.0, 180.0, 260.0, 340.0, 420.0, 500.0, 580.0, 660.0])[: n_classes + 1]
    image = np.where(label > 0, brightness[label], 80.0 * body)
    image = ndimage.gaussian_filter(image, 0.4) * rng.uniform(0.9, 1.1)
    image = (image + rng.normal(0.0, 12.0, shape)).astype(np.float32)
    return _reoriented(image, label, affine_of(shape, spacing_mm), orientation)


def write_nifti(
    file: Path, array: NDArray[np.generic], affine: NDArray[np.floating], *, code: int = 1
) -> Path:
    """Write one NIfTI-1 file with equal sform and qform in mm; same bytes for the same input."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    data = image.to_bytes()
    if file.suffix == ".gz":
        data = gzip.compress(data, compresslevel=1, mtime=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def write_dataset(
    folder: Path,
    n_cases: int,
    seed: int = 0,
    *,
    layout: Layout = "decathlon",
    n_channels: int = 1,
    n_classes: int = 2,
    shape: Shape3 = (24, 28, 20),
    spacing_mm: Sequence[float] = (2.0, 2.0, 2.5),
    orientations: Sequence[str] = ("RAS", "LPS"),
) -> Path:
    """Write a small data set that a tiny network can learn and that has no faults.

    Case ids are case_000, case_001, ... The orientations take turns. Images are int16, labels
    uint8. With several channels, each is a differently scaled and noised view of the same anatomy.

    Args:
        folder: Dataset folder to create.
        n_cases: Number of cases.
        seed: Two different seeds give different cases.
        layout: decathlon and nnunet write imagesTr, labelsTr and dataset.json in the respective
            dialect; two_folders writes images and labels without any description.
        n_channels: Channels: a fourth axis (decathlon) or one file each (nnunet, two_folders
            needs 1).
        n_classes: Foreground classes.
        shape: Voxels to R, A, S.
        spacing_mm: Spacing to R, A, S.
        orientations: Used in turn.

    Returns:
        The folder.
    """
    images, labels = ("images", "labels") if layout == "two_folders" else ("imagesTr", "labelsTr")
    case_ids = [f"case_{number:03d}" for number in range(n_cases)]
    for number, case_id in enumerate(case_ids):
        rng = np.random.default_rng((seed, number))
        orientation = orientations[number % len(orientations)]
        image, label, affine = case(rng, shape, spacing_mm, orientation, n_classes)
        channels = [np.round(_channel(image, c, rng)).astype(np.int16) for c in range(n_channels)]
        write_nifti(folder / labels / f"{case_id}.nii.gz", label, affine)
        if layout == "nnunet":
            for index, channel in enumerate(channels):
                write_nifti(folder / images / f"{case_id}_{index:04d}.nii.gz", channel, affine)
        else:
            array = channels[0] if n_channels == 1 else np.stack(channels, axis=-1)
            write_nifti(folder / images / f"{case_id}.nii.gz", array, affine)
    description = _description(layout, case_ids, n_channels, n_classes)
    if description:
        (folder / "dataset.json").write_text(json.dumps(description, indent=1))
    return folder


def _rotation(degrees: float) -> NDArray[np.float64]:
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_z @ about_x


def _reoriented(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    affine: NDArray[np.float64],
    orientation: str,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    # nibabel, not pipeline.core: a builder of known answers must not use the code under test.
    move = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    moved = [nib.orientations.apply_orientation(a, move) for a in (image, label)]
    new_affine = affine @ inv_ornt_aff(move, image.shape)
    return np.ascontiguousarray(moved[0]), np.ascontiguousarray(moved[1]), new_affine


def _channel(
    image: NDArray[np.float32], index: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    if index == 0:
        return image
    return (image * (0.5 + 0.2 * index) + 40 + rng.normal(0, 10, image.shape)).astype(np.float32)


def _description(
    layout: Layout, case_ids: Sequence[str], n_channels: int, n_classes: int
) -> dict[str, object]:
    names = CLASS_NAMES[:n_classes]
    channels = {str(c): ("T1", "T2", "FLAIR", "PD")[c % 4] for c in range(n_channels)}
    if layout == "nnunet":
        return {
            "channel_names": channels,
            "labels": {"background": 0, **{name: i + 1 for i, name in enumerate(names)}},
            "numTraining": len(case_ids),
            "file_ending": ".nii.gz",
        }
    if layout == "decathlon":
        pairs = [
            {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in case_ids
        ]
        return {
            "name": "Phantoms",
            "tensorImageSize": "3D" if n_channels == 1 else "4D",
            "modality": channels,
            "labels": {"0": "background", **{str(i + 1): name for i, name in enumerate(names)}},
            "numTraining": len(case_ids),
            "numTest": 0,
            "training": pairs,
            "test": [],
        }
    return {}
