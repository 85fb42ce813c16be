#!/usr/bin/env python3
"""Make a demo data set: upper-abdominal CT volumes with liver, kidney and tumor labels.

    python scripts/make_demo_dataset.py OUT [--n-cases 24] [--seed 0]

The bodies are drawn, not scanned (demo_anatomy.py); every case is another patient on another
scanner. What is written is an ordinary Decathlon folder; the same seed gives the same bytes.
"""

import argparse
import gzip
import json
import math
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from demo_anatomy import CLASS_NAMES, KIDNEY, LIVER, TUMOR, Array, Body, Canvas, draw_patient
from numpy.typing import NDArray
from scipy import ndimage

Vector = tuple[float, float, float]

VERSION = 1
MARKER = ".demo.json"
N_HELD_OUT = 6
HU_LIMITS = (-1024, 3071)  # what 12-bit CT scanners export


@dataclass(frozen=True)
class Protocol:
    """How one scanner exports its volumes.

    Args:
        spacing_mm: Spacing to R, A, S before the axes are reordered.
        orientation: Direction of the stored axes.
        oblique_degrees: Tilt of the grid against the patient about the left-right axis.
    """

    spacing_mm: Vector
    orientation: str
    oblique_degrees: float = 0.0


PROTOCOLS = (
    Protocol((3.6, 3.6, 3.6), "RAS"),
    Protocol((3.5, 3.5, 4.0), "LPS"),
    Protocol((3.4, 3.4, 5.0), "LAS"),
    Protocol((4.0, 4.0, 4.0), "LPS"),
    Protocol((3.7, 3.7, 3.0), "PIR"),
    Protocol((3.8, 3.8, 3.8), "RAS", oblique_degrees=12.0),
    Protocol((3.75, 3.75, 5.0), "LPS"),
    Protocol((3.6, 3.6, 3.6), "LPI"),
)


# --- one case -------------------------------------------------------------------------------------


def make_case(
    seed: int, number: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Make one patient.

    Args:
        seed: Seed of the data set.
        number: Case number; chooses the scanner protocol as well.

    Returns:
        Image in HU and label, both (i, j, k) in the protocol's orientation, and the affine.
    """
    rng = np.random.default_rng((VERSION, seed, number))
    protocol = PROTOCOLS[number % len(PROTOCOLS)]
    fov_mm = rng.uniform((262, 198, 168), (284, 216, 186))
    shape = np.round(fov_mm / protocol.spacing_mm).astype(int)
    affine = grid_affine(shape, protocol, center_mm=rng.uniform((-6, -8, -6), (6, -2, 8)))
    points_mm = template_points(shape, affine, rng)
    body = Body(
        half_width_mm=rng.uniform(118, 130),
        half_depth_mm=rng.uniform(90, 98),
        fat_mm=rng.uniform(5, 13),
        enhancement=rng.uniform(0.8, 1.2),
        liver_scale=rng.uniform(0.92, 1.06),
    )
    n_voxels = points_mm.shape[1]
    canvas = Canvas(
        points_mm,
        np.full(n_voxels, -1000, dtype=np.float32),
        np.zeros(n_voxels, dtype=np.uint8),
        blur_mm=1.15 * float(np.mean(protocol.spacing_mm)),
    )
    draw_patient(canvas, body, rng)
    hu = canvas.hu.reshape(shape) + scanner_effects(shape, rng)
    image = np.clip(np.round(hu), *HU_LIMITS).astype(np.int16)
    # The scanner's table moved: where the origin of the world is says nothing about the patient.
    affine[:3, 3] += rng.uniform(-150, 150, 3)
    label = without_specks(canvas.label.reshape(shape))
    return reordered(image, label, affine, protocol.orientation)


def without_specks(label: NDArray[np.uint8], n_voxels: int = 8) -> NDArray[np.uint8]:
    """Drop crumbs that organ borders leave where they cross; an annotator would not draw them."""
    clean = label.copy()
    for class_index, below in ((LIVER, 0), (KIDNEY, 0), (TUMOR, LIVER)):
        parts, _ = ndimage.label(label == class_index, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())
        clean[(sizes < n_voxels)[parts] & (parts > 0)] = below
    return clean


def grid_affine(
    shape: NDArray[np.int_], protocol: Protocol, center_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Affine of a RAS grid around a point, tilted about the left-right axis."""
    angle = math.radians(protocol.oblique_degrees)
    tilt = np.eye(3)
    tilt[1:, 1:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = tilt * np.asarray(protocol.spacing_mm)
    affine[:3, 3] = center_mm - affine[:3, :3] @ ((shape - 1) / 2)
    return affine


def template_points(
    shape: NDArray[np.int_], affine: NDArray[np.float64], rng: np.random.Generator
) -> Array:
    """Template position in mm of every voxel of a deformed patient, shape (3, voxel)."""
    voxels = np.indices(tuple(shape), dtype=np.float32).reshape(3, -1)
    world_mm = affine[:3, :3].astype(np.float32) @ voxels + affine[:3, 3:].astype(np.float32)
    turn = math.radians(rng.uniform(-4, 4))
    rotation = np.array(
        [[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]]
    )
    scale = rng.uniform(0.95, 1.05, 3)
    points_mm = (rotation * scale).astype(np.float32) @ world_mm
    for axis in range(3):
        points_mm[axis] += 4.5 * smooth_field(shape, rng, n_knots=5).ravel()
    return np.asarray(points_mm, dtype=np.float32)


def smooth_field(shape: NDArray[np.int_], rng: np.random.Generator, n_knots: int) -> Array:
    """A low-frequency random field with unit variance at its knots, of the given shape."""
    field = rng.normal(size=(n_knots, n_knots, n_knots))
    for axis, size in enumerate(shape):
        # Splines are separable: one small matrix per axis instead of 64 knots per voxel.
        zoom = (size / n_knots, 1)
        matrix = ndimage.zoom(np.eye(n_knots), zoom, order=3, mode="nearest", grid_mode=True)
        field = np.moveaxis(np.tensordot(matrix, field, axes=(1, axis)), 0, axis)
    return np.asarray(field, dtype=np.float32)


def scanner_effects(shape: NDArray[np.int_], rng: np.random.Generator) -> Array:
    """What the scanner adds in HU: correlated noise, stronger in the middle, and shading."""
    noise = ndimage.gaussian_filter(rng.normal(size=tuple(shape)).astype(np.float32), 0.55)
    noise *= rng.uniform(8, 15) / noise.std()
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    middle = np.exp(-(grid[0] ** 2 + grid[1] ** 2))
    shading = rng.uniform(2, 6) * smooth_field(shape, rng, n_knots=3)
    return np.asarray(noise * (0.7 + 0.6 * middle) + shading, dtype=np.float32)


def reordered(
    image: NDArray[np.int16],
    label: NDArray[np.uint8],
    affine: NDArray[np.float64],
    orientation: str,
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Bring a RAS grid into another axis order and direction; nothing moves in the world."""
    axes = [
        next(w for w, pair in enumerate(("LR", "PA", "IS")) if code in pair) for code in orientation
    ]
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new_axis, (old_axis, code) in enumerate(zip(axes, orientation, strict=True)):
        forward = code in "RAS"
        step[old_axis, new_axis] = 1 if forward else -1
        step[old_axis, 3] = 0 if forward else image.shape[old_axis] - 1
    flips = tuple(slice(None, None, 1 if code in "RAS" else -1) for code in orientation)
    image, label = image.transpose(axes)[flips], label.transpose(axes)[flips]
    return np.ascontiguousarray(image), np.ascontiguousarray(label), affine @ step


# --- the folder -----------------------------------------------------------------------------------


def write_nifti(file: Path, array: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write a compressed NIfTI-1 file; equal content gives equal bytes."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    file.write_bytes(gzip.compress(image.to_bytes(), compresslevel=5, mtime=0))


def write_folder(folder: Path, *, n_cases: int, seed: int) -> None:
    """Write all cases and dataset.json into an empty folder."""
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir()
    n_total = n_cases + N_HELD_OUT
    for number in range(n_total):
        image, label, affine = make_case(seed, number)
        part = "Tr" if number < n_cases else "Ts"
        write_nifti(folder / f"images{part}" / f"{case_name(number)}.nii.gz", image, affine)
        write_nifti(folder / f"labels{part}" / f"{case_name(number)}.nii.gz", label, affine)
        sys.stderr.write(f"\rdemo data set: {number + 1}/{n_total} volumes")
        sys.stderr.flush()
    sys.stderr.write("\n")
    description = describe(n_cases)
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    (folder / MARKER).write_text(json.dumps(marker(n_cases, seed)) + "\n")


def case_name(number: int) -> str:
    """Name of a case from its number, counted from 0."""
    return f"demo_{number + 1:03d}"


def describe(n_cases: int) -> dict[str, object]:
    """Content of dataset.json in the dialect of the Medical Segmentation Decathlon."""
    names = [case_name(number) for number in range(n_cases + N_HELD_OUT)]
    return {
        "name": "Abdomen",
        "description": "Liver, kidneys and liver tumors in contrast-enhanced CT",
        "reference": "drawn by scripts/make_demo_dataset.py of Voxline",
        "licence": "Apache-2.0",
        "release": f"{VERSION}.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(i): n for i, n in enumerate(CLASS_NAMES, start=1)}},
        "numTraining": n_cases,
        "numTest": N_HELD_OUT,
        "training": [
            {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"}
            for n in names[:n_cases]
        ],
        "test": [f"./imagesTs/{n}.nii.gz" for n in names[n_cases:]],
    }


def marker(n_cases: int, seed: int) -> dict[str, int]:
    """What tells which data set a folder holds."""
    return {"version": VERSION, "seed": seed, "n_cases": n_cases}


def make_dataset(folder: Path, *, n_cases: int = 24, seed: int = 0) -> bool:
    """Make the data set unless it is there; a folder is never left half-written.

    Args:
        folder: Where; a data set made earlier with other settings is replaced.
        n_cases: Training cases; six held-out cases come on top.
        seed: Equal seeds give equal bytes.

    Returns:
        Whether anything was written.

    Raises:
        FileExistsError: If the folder holds anything that this script did not write.
    """
    state = folder_state(folder, marker(n_cases, seed))
    if state == "complete":
        return False
    if state == "foreign":
        raise FileExistsError(f"{folder} holds other files; choose another folder or empty it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fresh = temporary / "fresh"
        fresh.mkdir()
        write_folder(fresh, n_cases=n_cases, seed=seed)
        if folder.exists():
            folder.rename(temporary / "old")
        fresh.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def folder_state(folder: Path, wanted: dict[str, int]) -> str:
    """Say whether a folder is "absent", "complete", "outdated" (ours, but other) or "foreign"."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "absent"
    if not (folder / MARKER).is_file():
        return "foreign"
    found = json.loads((folder / MARKER).read_text())
    names = [case_name(number) for number in range(found["n_cases"] + N_HELD_OUT)]
    parts = ["Tr"] * found["n_cases"] + ["Ts"] * N_HELD_OUT
    ours = {
        folder / f"{role}{part}" / f"{name}.nii.gz"
        for role in ("images", "labels")
        for name, part in zip(names, parts, strict=True)
    } | {folder / "dataset.json", folder / MARKER}
    present = {file for file in folder.rglob("*") if not file.is_dir()}
    if present - ours:
        return "foreign"
    return "complete" if found == wanted and present == ours else "outdated"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the demo data set (Decathlon layout).")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument("--n-cases", type=int, default=24, help="training cases (default 24)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.n_cases < 1:
        parser.error("--n-cases must be at least 1")
    try:
        written = make_dataset(arguments.out, n_cases=arguments.n_cases, seed=arguments.seed)
    except FileExistsError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    print(f"{arguments.out}: " + ("written" if written else "already complete, nothing to do"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
