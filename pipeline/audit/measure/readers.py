"""What SimpleITK makes of the same files.

Training code elsewhere may use either reader. SimpleITK fills what is missing from a truncated file
with zeros, turns NaN into 0, and places files without a position elsewhere, without a word.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK
from jaxtyping import Float, Shaped

from pipeline.artifacts import FileFacts, Problem
from pipeline.audit.limits.images import ImageLimits
from pipeline.audit.measures import ReaderFacts
from pipeline.audit.view import CaseView, Role
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import (
    Geometry,
    Shape3,
    corner_displacement_voxels,
    reorient_array,
    reorientation_to_ras,
)
from pipeline.io.files import GZIP_MAGIC, check_memory, gunzip_head

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
# SimpleITK ends the process on files with more axes.
_MAX_AXES = 4
# What ingest refuses although the header was understood; SimpleITK may read these.
_READABLE_PROBLEMS = frozenset({"F02", "F03", "F04"})
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
# Rounding of scl_slope, which one reader applies in 32 and the other in 64 bits.
_RELATIVE_ROUNDING = 1e-6
# Voxels compared at once: keeps the copies small.
_SLAB_VOXELS = 1 << 20
_HEAD_BYTES = 540

_Array3 = Shaped[np.ndarray, "i j k"]


def compare_readers(view: CaseView, limits: ImageLimits) -> tuple[ReaderFacts, ...]:
    """Read every source file of a case with SimpleITK and compare it with our own reading.

    Args:
        view: The case; its voxels are our reading.
        limits: Says whether a second reading is wanted.

    Returns:
        One entry per file that SimpleITK was given: files of more than four axes, of an unknown
        header or that are gone are left out, and all of them if the dataset folder is unknown.
    """
    if limits.readers == "own" or view.dataset_root is None:
        return ()
    # SimpleITK talks about every odd header on stderr; the findings say it better.
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    found = [*_compare_known(view, view.dataset_root)]
    for problem in view.record.problems:
        file = view.dataset_root / problem.file
        if problem.check_id in _READABLE_PROBLEMS and _is_safe(file):
            found.append(_read_refused(file, problem))
    return tuple(found)


def _compare_known(view: CaseView, root: Path) -> Iterator[ReaderFacts]:
    first_channel = 0
    for role, facts in view.files():
        file = root / facts.file
        n_channels = math.prod(facts.shape[3:])
        is_known = file.is_file() and len(facts.shape) <= _MAX_AXES
        if is_known and file.name.lower().endswith(_NIFTI_SUFFIXES):
            own = view.label if role == "label" else None
            if role == "image" and view.image is not None:
                own = view.image[first_channel : first_channel + n_channels]
            yield _compare_file(file, role, facts, own)
        if role == "image":
            first_channel += n_channels


def _compare_file(
    file: Path, role: Role, facts: FileFacts, own: Shaped[np.ndarray, "..."] | None
) -> ReaderFacts:
    try:
        other = SimpleITK.ReadImage(str(file))
    except RuntimeError as error:
        return ReaderFacts(file=facts.file, role=role, error=_reason(error))
    shape = tuple(int(n) for n in other.GetSize())
    ours = facts.shape[:3] if math.prod(facts.shape[3:]) == 1 else facts.shape
    known = ReaderFacts(file=facts.file, role=role, shape=shape)
    if shape != ours or other.GetNumberOfComponentsPerPixel() != 1:
        return known
    grid = (shape[0], shape[1], shape[2])
    affine = _affine_of(other)
    if np.isfinite(affine).all():
        shift = corner_displacement_voxels(
            Geometry(grid, np.array(facts.affine)), Geometry(grid, affine)
        )
        known = known.model_copy(update={"corner_shift_voxels": shift})
    if own is None:
        return known
    return known.model_copy(update=_compare_values(other, facts, own))


def _compare_values(
    other: SimpleITK.Image, facts: FileFacts, own: Shaped[np.ndarray, "..."]
) -> dict[str, int | str | Shape3 | None]:
    """Fields of `ReaderFacts` about values; the arrays are compared slab by slab."""
    # SimpleITK shows its voxels as (channel, k, j, i); turned to RAS this is still a view.
    array = SimpleITK.GetArrayViewFromImage(other)
    native = array.transpose(*range(array.ndim - 3), -1, -2, -3)
    theirs = reorient_array(native, reorientation_to_ras(np.array(facts.affine)))
    tolerance = _tolerance(own, facts)
    n_different, place, values = 0, None, ""
    for ours, second in zip(_volumes(own), _volumes(theirs), strict=True):
        if ours.shape != second.shape:
            return {}
        for start, stop in _slabs(ours.shape):
            differs = _differs(ours[start:stop], second[start:stop], tolerance)
            n_slab = int(np.count_nonzero(differs))
            if n_slab and place is None:
                i, j, k = (int(n[0]) for n in np.nonzero(differs))
                place = (start + i, j, k)
                values = f"{ours[place]:g} here, {second[place]:g} in SimpleITK"
            n_different += n_slab
    return {"n_different_voxels": n_different, "different_voxel": place, "values": values}


def _differs(
    ours: _Array3, theirs: Shaped[np.ndarray, "i j k"], tolerance: float
) -> Shaped[np.ndarray, "i j k"]:
    differs = ours != theirs
    if ours.dtype.kind != "f" or not differs.any():
        return differs
    differs &= ~(np.isnan(ours) & np.isnan(theirs))
    if tolerance > 0:
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            near = np.abs(ours.astype(np.float64) - theirs) <= tolerance
        differs &= ~near
    return differs


def _tolerance(own: Shaped[np.ndarray, "..."], facts: FileFacts) -> float:
    """Largest difference that rounding explains; 0 where nothing was rescaled."""
    intercept = facts.scl_inter or 0.0
    if (facts.scl_slope or 1.0) == 1.0 and intercept == 0.0:
        return 0.0
    largest = max(abs(float(own.min())), abs(float(own.max())))
    return _RELATIVE_ROUNDING * (largest + abs(intercept)) if np.isfinite(largest) else 0.0


def _volumes(array: Shaped[np.ndarray, "..."]) -> list[Shaped[np.ndarray, "..."]]:
    return [array] if array.ndim == 3 else list(array)


def _slabs(shape: Shape3) -> Iterator[tuple[int, int]]:
    depth = max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], depth):
        yield start, min(start + depth, shape[0])


def _affine_of(image: SimpleITK.Image) -> Float[np.ndarray, "4 4"]:
    """Voxel to RAS+ mm; SimpleITK counts millimeters to L, P and S."""
    n = image.GetDimension()
    direction = np.array(image.GetDirection(), dtype=np.float64).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = _LPS_TO_RAS @ np.array(image.GetOrigin()[:3])
    return affine


def _read_refused(file: Path, problem: Problem) -> ReaderFacts:
    """What SimpleITK makes of a file that we refuse."""
    role = "label" if problem.message.startswith("label") else "image"
    try:
        other = SimpleITK.ReadImage(str(file))
    except RuntimeError as error:
        return ReaderFacts(file=problem.file, role=role, error=_reason(error))
    array = SimpleITK.GetArrayViewFromImage(other)
    n_zero = array.size - int(np.count_nonzero(array))
    return ReaderFacts(
        file=problem.file,
        role=role,
        shape=tuple(int(n) for n in other.GetSize()),
        values=f"{100 * n_zero / max(1, array.size):.3g} % of its voxels are 0",
    )


def _is_safe(file: Path) -> bool:
    """Whether the header says, in bounds, what SimpleITK would allocate."""
    if not (file.is_file() and file.name.lower().endswith(_NIFTI_SUFFIXES)):
        return False
    with file.open("rb") as stream:
        raw = stream.read(1 << 16)
    try:
        head = gunzip_head(raw, _HEAD_BYTES, file) if raw[:2] == GZIP_MAGIC else raw[:_HEAD_BYTES]
        shape, n_bits = _dimensions(head)
        check_memory(2 * math.prod(shape) * n_bits // 8, file)
    except FileFormatError:
        return False
    return 3 <= len(shape) <= _MAX_AXES


def _dimensions(head: bytes) -> tuple[tuple[int, ...], int]:
    """Shape and bits per voxel of a NIfTI-1 header, the only kind SimpleITK reads."""
    for order in ("<", ">"):
        if len(head) >= 348 and np.frombuffer(head, f"{order}i4", 1)[0] == 348:
            n_axes, *sizes = (int(n) for n in np.frombuffer(head, f"{order}i2", 8, 40))
            shape = tuple(sizes[:n_axes]) if 1 <= n_axes <= 7 else ()
            return shape if min(shape, default=0) > 0 else (), int(
                np.frombuffer(head, f"{order}i2", 1, 72)[0]
            )
    return (), 0


def _reason(error: RuntimeError) -> str:
    """The last line of a SimpleITK message, without paths of its source."""
    last = str(error).strip().splitlines()[-1]
    text = last.split("ERROR:", 1)[-1].strip()
    return "it does not know the file format" if "determine ImageIO" in text else text
