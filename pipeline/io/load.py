"""One door to volumes of any format: facts about the file, and voxels ready for work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError, GeometryError
from pipeline.core.geometry import check_affine
from pipeline.core.volume import Volume
from pipeline.io.files import file_size
from pipeline.io.metaimage import metaimage_data_file, read_metaimage
from pipeline.io.nifti import pair_files, read_nifti, read_nifti_pair
from pipeline.io.nrrd import nrrd_data_file, read_nrrd
from pipeline.io.raw import RawVolume
from pipeline.io.segments import merge_segments

# Longest first, so that stripping takes ".nii.gz" whole.
NIFTI_SUFFIXES = (".nii.gz", ".nii")
IMG_SUFFIXES = (".img.gz", ".img")
HDR_SUFFIXES = (".hdr.gz", ".hdr")
NRRD_SUFFIXES = (".seg.nrrd", ".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
DICOM_SUFFIXES = (".dcm",)
# Everything that is a volume by itself; the header of a pair is not.
VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *IMG_SUFFIXES, *NRRD_SUFFIXES, *META_SUFFIXES)
# Volumes of formats that are not supported.
OTHER_SUFFIXES = (".mgz", ".mgh", ".mnc", ".mif", ".mif.gz", ".brik", ".gipl")
_KNOWN_SUFFIXES = (*VOLUME_SUFFIXES, *HDR_SUFFIXES, *DICOM_SUFFIXES, *OTHER_SUFFIXES)
_READERS: tuple[tuple[tuple[str, ...], Callable[..., RawVolume]], ...] = (
    (NIFTI_SUFFIXES, read_nifti),
    ((*IMG_SUFFIXES, *HDR_SUFFIXES), read_nifti_pair),
    (NRRD_SUFFIXES, read_nrrd),
    (META_SUFFIXES, read_metaimage),
)
# Bytes at which DICOM files say what they are.
_DICOM_MAGIC = (128, b"DICM")
# Voxels looked at together, so that looking takes no memory worth mentioning.
_SLAB_VOXELS = 1 << 22

Role = Literal["image", "label"]


@dataclass(frozen=True)
class LabelContext:
    """What a label file needs to know beside itself.

    Args:
        image: Image file, or folder of a DICOM series, that the label was drawn on.
        class_values: Stored values of each class name, in a data set whose labels name their
            structures; the first value of a name is written, 0 leaves it out, whatever it overlaps.
            None keeps the values of the file.
    """

    image: Path
    class_values: Mapping[str, tuple[int, ...]] | None


def is_volume_file(path: Path) -> bool:
    """Whether a name promises one volume that can be read; hidden files never do.

    Of a .hdr/.img pair the .img counts; a .hdr without its .img counts too, so that reading it
    reports what is missing. DICOM slices do not: there a folder is a volume.
    """
    name = path.name.lower()
    if name.startswith("."):
        return False
    if name.endswith(HDR_SUFFIXES):
        return not _has_partner(path)
    return name.endswith(VOLUME_SUFFIXES)


def strip_suffix(name: str) -> str:
    """Take the format suffix off a file name: "a.1.nii.gz" becomes "a.1"."""
    lower = name.lower()
    for suffix in _KNOWN_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def source_files(file: Path) -> tuple[Path, ...]:
    """All files that one volume is made of: both of a pair, header and data, a folder's slices.

    Args:
        file: What `load_volume` takes; it need not exist.

    Returns:
        The file itself first; of a folder, its files.
    """
    if file.is_dir():
        return tuple(sorted(path for path in file.iterdir() if path.is_file()))
    name = file.name.lower()
    partner: Path | None = None
    if name.endswith((*IMG_SUFFIXES, *HDR_SUFFIXES)) and _has_partner(file):
        partner = next(path for path in pair_files(file) if path != file)
    elif name.endswith(".nhdr"):
        partner = nrrd_data_file(file)
    elif name.endswith(".mhd"):
        partner = metaimage_data_file(file)
    return (file,) if partner is None else (file, partner)


def load_volume(
    file: Path, *, root: Path, role: Role, context: LabelContext | None = None
) -> tuple[FileFacts, Volume]:
    """Read a volume in the orientation of its file.

    Intensity scaling (scl_slope, scl_inter) is applied, in float32, only where it changes values.
    The label of a file that names its structures (.seg.nrrd, DICOM-SEG, RTSTRUCT) is one label map
    with one value per name, see `LabelContext`.

    Args:
        file: The file, or the folder of a DICOM series.
        root: Folder that `facts.file` is relative to.
        role: An "image" comes back as (channel, i, j, k), its fourth axis being channels; a
            "label" as (i, j, k).
        context: What a label needs to know beside its file; DICOM labels cannot do without.

    Returns:
        Header facts, with the number of voxels that are not finite; and the volume.

    Raises:
        FileFormatError: What the readers raise (`read_nifti` and its like); F05 for a format that
            is not supported; F06 for a label with several volumes; G07 for an affine that does not
            place voxels in space.
    """
    if file.is_dir() or _is_dicom(file):
        return _load_dicom(file, root=root, role=role, context=context)
    name = file.name.lower()
    reader = next((reader for suffixes, reader in _READERS if name.endswith(suffixes)), None)
    if reader is None:
        file_size(file)  # a wrong path is no wrong format
        raise FileFormatError(
            "this file format is not supported",
            check_id="F05",
            where=str(file),
            fix="convert it to .nii.gz",
        )
    raw = reader(file, root=root)
    affine = np.array(raw.facts.affine)
    try:
        check_affine(affine)
    except GeometryError as error:
        raise FileFormatError(error.what, check_id="G07", where=str(file), fix=error.fix) from None
    if role == "label" and raw.segments:
        table = context.class_values if context is not None else None
        array, segments = merge_segments(raw, table, file)
        return raw.facts.model_copy(update={"segments": segments}), Volume(array, affine)
    array = _scaled(_with_role(raw.array, role, file), raw.facts)
    n_nonfinite = _n_nonfinite(array)
    return raw.facts.model_copy(update={"n_nonfinite": n_nonfinite}), Volume(array, affine)


def _load_dicom(
    path: Path, *, root: Path, role: Role, context: LabelContext | None
) -> tuple[FileFacts, Volume]:
    # Imported here: the reader needs the optional extra `dicom`.
    from pipeline.io.dicom.load import load_dicom_label, load_series

    if role == "image":
        return load_series(path, root=root)
    if context is None:
        raise FileFormatError(
            "a DICOM label lies on the grid of its image, and no image is known",
            check_id="F01",
            where=str(path),
            fix="give the image series of this label, or convert the label to .nii.gz",
        )
    return load_dicom_label(path, root=root, context=context)


def _is_dicom(file: Path) -> bool:
    """Whether a file without a known volume suffix is DICOM, by its suffix or its content."""
    name = file.name.lower()
    if name.endswith(DICOM_SUFFIXES):
        return True
    if name.endswith((*VOLUME_SUFFIXES, *HDR_SUFFIXES)) or not file.is_file():
        return False
    offset, magic = _DICOM_MAGIC
    try:
        with file.open("rb") as stream:
            return stream.read(offset + len(magic))[offset:] == magic
    except OSError:  # reading it as a volume says what is wrong
        return False


def _has_partner(file: Path) -> bool:
    try:
        pair_files(file)
    except FileFormatError:
        return False
    return True


def _n_nonfinite(array: Shaped[np.ndarray, "..."]) -> int:
    if array.dtype.kind != "f":
        return 0
    if array.size <= _SLAB_VOXELS:
        return array.size - int(np.count_nonzero(np.isfinite(array)))
    # Along the axis that files store last, slabs are contiguous.
    n_finite = sum(
        int(np.count_nonzero(np.isfinite(array[..., k]))) for k in range(array.shape[-1])
    )
    return array.size - n_finite


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
