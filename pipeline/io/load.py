"""One door to volumes of any format: facts about the file, and voxels ready for work."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError, GeometryError
from pipeline.core.geometry import check_affine
from pipeline.core.volume import Volume
from pipeline.io.nifti import read_nifti

# Longest first, so that stripping takes ".nii.gz" whole.
NIFTI_SUFFIXES = (".nii.gz", ".nii")
OTHER_SUFFIXES = (
    *(".seg.nrrd", ".img.gz", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".img", ".hdr"),
    *(".mgz", ".mgh", ".mnc", ".dcm"),
)

Role = Literal["image", "label"]


def is_volume_file(path: Path) -> bool:
    """Whether a name promises a volume that can be read; hidden files never do."""
    return not path.name.startswith(".") and path.name.lower().endswith(NIFTI_SUFFIXES)


def strip_suffix(name: str) -> str:
    """Take the format suffix off a file name: "a.1.nii.gz" becomes "a.1"."""
    lower = name.lower()
    for suffix in (*NIFTI_SUFFIXES, *OTHER_SUFFIXES):
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def load_volume(file: Path, *, root: Path, role: Role) -> tuple[FileFacts, Volume]:
    """Read a volume in the orientation of its file.

    Intensity scaling (scl_slope, scl_inter) is applied, in float32, only where it changes values.

    Args:
        file: The file.
        root: Folder that `facts.file` is relative to.
        role: An "image" comes back as (channel, i, j, k), its fourth axis being channels; a
            "label" as (i, j, k).

    Returns:
        Header facts, with the number of voxels that are not finite; and the volume.

    Raises:
        FileFormatError: What `read_nifti` raises; F05 for a format that is not supported yet; F06
            for a label with several volumes; G07 for an affine that does not place voxels in space.
    """
    if not file.name.lower().endswith(NIFTI_SUFFIXES):
        raise FileFormatError(
            "this file format is not supported yet",
            check_id="F05",
            where=str(file),
            fix="convert it to .nii.gz",
        )
    raw = read_nifti(file, root=root)
    affine = np.array(raw.facts.affine)
    try:
        check_affine(affine)
    except GeometryError as error:
        raise FileFormatError(error.what, check_id="G07", where=str(file), fix=error.fix) from None
    array = _scaled(_with_role(raw.array, role, file), raw.facts)
    n_nonfinite = 0
    if array.dtype.kind == "f":
        n_nonfinite = array.size - int(np.count_nonzero(np.isfinite(array)))
    return raw.facts.model_copy(update={"n_nonfinite": n_nonfinite}), Volume(array, affine)


def _with_role(
    array: Shaped[np.ndarray, "..."], role: Role, file: Path
) -> Shaped[np.ndarray, "..."]:
    spatial: NDArray[Any] = array.reshape(array.shape[:3] + array.shape[3:4], order="F")
    if role == "image":
        return spatial[np.newaxis] if spatial.ndim == 3 else np.moveaxis(spatial, 3, 0)
    if spatial.ndim == 3:
        return spatial
    if spatial.shape[3] == 1:
        return spatial[..., 0]
    raise FileFormatError(
        f"a label map has three axes, this one has a fourth of {spatial.shape[3]}",
        check_id="F06",
        where=str(file),
        fix="write one label map per case with one number per class",
    )


def _scaled(array: Shaped[np.ndarray, "..."], facts: FileFacts) -> Shaped[np.ndarray, "..."]:
    slope, inter = facts.scl_slope or 1.0, facts.scl_inter or 0.0
    if slope == 1.0 and inter == 0.0:
        return array
    # What overflows here becomes infinite, is counted, and is the audit's to report.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = array.astype(np.float32)
        scaled *= np.float32(slope)
        scaled += np.float32(inter)
    return scaled
