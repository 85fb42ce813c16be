"""Ways to damage a dataset on purpose, and clean datasets to damage."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt
from numpy.typing import NDArray
from phantoms import write_dataset, write_nifti

from pipeline.artifacts import Findings
from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest

Found = set[tuple[str, str]]
Array = NDArray[Any]
Affine = NDArray[np.float64]

QUICK = AuditConfig(max_pictures=0)  # pictures have their own tests
# Byte offsets in the NIfTI-1 header.
PIXDIM, SCL_SLOPE, QFORM_CODE, SFORM_CODE, QOFFSET_X, SROW_X = 76, 112, 252, 254, 268, 280


def quick(_: Path) -> AuditConfig:
    """The settings of nearly all faults."""
    return QUICK


@dataclass(frozen=True)
class Fault:
    """Something wrong with a dataset, and what the audit has to say about it.

    Args:
        name: In a few words.
        inject: Damages the dataset folder.
        expected: Check ids and severities that must be reported.
        also: Check ids that may speak up as well: further symptoms of the same fault.
        base: Clean dataset that is damaged, a name in BASES.
        settings: Makes the audit settings, given the dataset folder.
    """

    name: str
    inject: Callable[[Path], object]
    expected: Found
    also: frozenset[str] = frozenset()
    base: str = "small"
    settings: Callable[[Path], AuditConfig] = quick


@dataclass(frozen=True)
class Harmless:
    """A peculiarity that no check may call an error or a warning."""

    name: str
    inject: Callable[[Path], object]
    base: str = "small"
    settings: Callable[[Path], AuditConfig] = quick


# Clean datasets. Outliers need ten cases to stand out from, folds to compare twenty on each side.
BASES: Mapping[str, Mapping[str, Any]] = {
    "small": {"n_cases": 6, "seed": 1},
    "cohort": {"n_cases": 12, "n_classes": 3, "shape": (40, 40, 32), "spacing_mm": (1.5, 1.5, 2.0)},
    "channels": {"n_cases": 12, "layout": "nnunet", "n_channels": 2, "shape": (20, 20, 16)},
    "crowd": {"n_cases": 40, "shape": (16, 18, 16), "spacing_mm": (3.0, 3.0, 3.0)},
}


def write_base(name: str, folder: Path) -> Path:
    """Write one of the clean datasets; returns its folder."""
    values = dict(BASES[name])
    return write_dataset(folder, values.pop("n_cases"), values.pop("seed", 0), **values)


def write_real_base(source: Path, folder: Path, n_cases: int) -> Path:
    """Copy the first cases of a real Decathlon dataset as case_000, case_001, ..."""
    content = json.loads((source / "dataset.json").read_text())
    pairs = []
    for number, pair in enumerate(content["training"][:n_cases]):
        copied = {}
        for role, file in (("image", image_file), ("label", label_file)):
            target = file(folder, number)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / pair[role], target)
            copied[role] = f"./{target.relative_to(folder)}"
        pairs.append(copied)
    content |= {"training": pairs, "numTraining": n_cases, "test": [], "numTest": 0}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def run_audit(data_dir: Path, work_dir: Path, config: AuditConfig | None = None) -> Findings:
    """Ingest and audit a dataset folder as the command line does."""
    workspace = Workspace(work_dir)
    ingest(IngestConfig(), TaskConfig(), data_dir, workspace, NullTracker())
    return audit(config or QUICK, workspace, NullTracker())


def all_found(findings: Findings) -> Found:
    """Every check that said something."""
    return {(f.check_id, f.severity) for f in findings.findings}


def loud(findings: Findings) -> Found:
    """Errors and warnings; information is not a fault."""
    return {one for one in all_found(findings) if one[1] != "info"}


# --- Files of a dataset ---------------------------------------------------------------------------


def image_file(folder: Path, number: int = 1, channel: int | None = None) -> Path:
    """The image of a case, of one channel if the dataset has one file per channel."""
    end = "" if channel is None else f"_{channel:04d}"
    return folder / "imagesTr" / f"case_{number:03d}{end}.nii.gz"


def label_file(folder: Path, number: int = 1) -> Path:
    """The label of a case."""
    return folder / "labelsTr" / f"case_{number:03d}.nii.gz"


def both_files(folder: Path, number: int = 1) -> tuple[Path, Path]:
    """Image and label of a case."""
    return image_file(folder, number), label_file(folder, number)


def case_numbers(folder: Path) -> range:
    """Numbers of all cases."""
    return range(len(list((folder / "labelsTr").glob("*.nii.gz"))))


def description(folder: Path) -> dict[str, Any]:
    """Content of dataset.json."""
    return dict(json.loads((folder / "dataset.json").read_text()))


def describe(folder: Path, **changes: object) -> None:
    """Change entries of dataset.json."""
    (folder / "dataset.json").write_text(json.dumps(description(folder) | changes))


def rename_classes(folder: Path, *names: str) -> None:
    """Give the classes 1, 2, ... other names."""
    labels = {"0": "background", **{str(n): name for n, name in enumerate(names, 1)}}
    describe(folder, labels=labels)


def write_csv(folder: Path, header: str, rows: Iterable[tuple[object, ...]]) -> Path:
    """Write a table beside the dataset folder."""
    file = folder.parent / "groups.csv"
    lines = [header, *(",".join(str(value) for value in row) for row in rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


# --- Changes of one file --------------------------------------------------------------------------


def read(file: Path) -> tuple[Array, Affine]:
    """Voxels as stored and affine."""
    image = nib.load(file)
    return np.asanyarray(image.dataobj).copy(), np.array(image.affine)


def rewrite(file: Path, change: Callable[[Array], Array]) -> None:
    """Change the voxels of a file and keep its affine."""
    array, affine = read(file)
    write_nifti(file, change(array), affine)


def move(file: Path, change: Callable[[Affine], Affine]) -> None:
    """Change the affine of a file and keep its voxels."""
    array, affine = read(file)
    write_nifti(file, array, change(affine))


def move_pair(folder: Path, change: Callable[[Affine], Affine], number: int = 1) -> None:
    """Change the affine of image and label alike."""
    for file in both_files(folder, number):
        move(file, change)


def patch(file: Path, offset: int, form: str, *values: float) -> None:
    """Change single header fields, leaving everything else as it is."""
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<" + form, content, offset, *values)
    file.write_bytes(gzip.compress(bytes(content), mtime=0))


def content_of(file: Path) -> bytes:
    """The uncompressed bytes."""
    return gzip.decompress(file.read_bytes())


def relabel(folder: Path, change: Callable[[Array], Array], *numbers: int) -> None:
    """Change the labels of some cases, of all if none is named."""
    for number in numbers or case_numbers(folder):
        rewrite(label_file(folder, number), change)


def repaint(folder: Path, change: Callable[[Array], Array], *numbers: int) -> None:
    """Change the images of some cases, of all if none is named."""
    for number in numbers or case_numbers(folder):
        rewrite(image_file(folder, number), change)


def in_ras(file: Path, change: Callable[[Array], Array]) -> None:
    """Change the voxels as they lie in the patient, axes running to R, A and S, and turn back."""
    image = nib.load(file)
    own = nib.orientations.io_orientation(image.affine)
    canonical = nib.as_closest_canonical(image)
    changed = change(np.asanyarray(canonical.dataobj).copy())
    back = nib.orientations.ornt_transform(axcodes2ornt("RAS"), own)
    other = nib.Nifti1Image(changed, canonical.affine).as_reoriented(back)
    write_nifti(file, np.asanyarray(other.dataobj), np.array(other.affine))


def copy_case(folder: Path, source: int, target: int) -> None:
    """Store one case under two ids."""
    shutil.copy(image_file(folder, source), image_file(folder, target))
    shutil.copy(label_file(folder, source), label_file(folder, target))


# --- Changes of arrays and affines ----------------------------------------------------------------


def recoded(table: Mapping[int, int]) -> Callable[[Array], Array]:
    """Replace label values, all at once."""

    def change(label: Array) -> Array:
        changed = label.copy()
        for before, after in table.items():
            changed[label == before] = after
        return changed

    return change


def painted(value: int, where: tuple[slice, ...]) -> Callable[[Array], Array]:
    """Set a region to a value."""

    def change(array: Array) -> Array:
        changed = array.copy()
        changed[where] = value
        return changed

    return change


def middle_of(label: Array, value: int) -> tuple[int, int, int]:
    """Voxel in the middle of a class."""
    i, j, k = (int((places.min() + places.max()) // 2) for places in np.nonzero(label == value))
    return i, j, k


def shifted(mm: float) -> Callable[[Affine], Affine]:
    """Move along x."""
    return lambda affine: affine + np.array([[0, 0, 0, mm]] + [[0.0] * 4] * 3)


def scaled(*factors: float) -> Callable[[Affine], Affine]:
    """Scale the voxel size along i, j, k; one factor for all or one each."""
    return lambda affine: affine @ np.diag([*np.broadcast_to(factors, 3), 1.0])


def turned(degrees: float) -> Callable[[Affine], Affine]:
    """Turn about the patient's x axis."""
    a = np.radians(degrees)
    about_x = np.eye(4)
    about_x[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return lambda affine: about_x @ affine


def sheared(slope: float) -> Callable[[Affine], Affine]:
    """Tilt the second axis toward the first."""
    shear = np.eye(4)
    shear[0, 1] = slope
    return lambda affine: affine @ shear
