"""Small NRRD, MetaImage and pair files, by header field or through SimpleITK, and SimpleITK's view.

SimpleITK counts to L, P, S and indexes arrays (k, j, i[, channel]).
"""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])

META_FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "0 1 0 0 0 -1 1 0 0",
    "Offset": "1 2 3",
    "ElementSpacing": "1 2 3",
    "DimSize": "4 5 6",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NRRD_FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 5 6",
    "space directions": "(0,1,0) (0,0,-2) (3,0,0)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}
VOXELS = np.arange(120, dtype="<i2").tobytes()


def meta_bytes(
    changes: Mapping[str, str | None] | None = None, data: bytes = VOXELS, *, extra: str = ""
) -> bytes:
    """A MetaImage file of 4 x 5 x 6 int16; a field set to None is left out."""
    fields = {**META_FIELDS, **(changes or {})}
    last = fields.pop("ElementDataFile")
    lines = [f"{key} = {value}\n" for key, value in fields.items() if value is not None]
    return ("".join(lines) + extra + f"ElementDataFile = {last}\n").encode() + data


def nrrd_bytes(
    changes: Mapping[str, str | None] | None = None, data: bytes = VOXELS, *, extra: str = ""
) -> bytes:
    """An NRRD file of 4 x 5 x 6 int16; a field set to None is left out."""
    fields = {**NRRD_FIELDS, **(changes or {})}
    lines = [f"{key}: {value}\n" for key, value in fields.items() if value is not None]
    return ("NRRD0005\n" + "".join(lines) + extra + "\n").encode() + data


def write_volume(
    file: Path, array: NDArray[np.generic], affine: NDArray[np.floating], *, packed: bool = True
) -> Path:
    """Write (i, j, k) or (i, j, k, channel) with its RAS affine, as the suffix says.

    NIfTI, also pairs, by nibabel; the rest by SimpleITK.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    name = file.name
    if name.endswith((".nii", ".nii.gz", ".img", ".img.gz")):
        kind = nib.Nifti1Pair if ".img" in name else nib.Nifti1Image
        image = kind(array, affine)
        image.header.set_data_dtype(array.dtype)
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        nib.save(image, file)
        return file
    is_vector = array.ndim == 4
    order = (2, 1, 0, 3) if is_vector else (2, 1, 0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), is_vector)
    lps = _FLIP @ affine
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(file), packed)
    return file


def simpleitk_view(file: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """What SimpleITK reads: (channel, i, j, k) and the affine in RAS."""
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    image = SimpleITK.ReadImage(str(file))
    array = SimpleITK.GetArrayFromImage(image)
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif n == 3:
        array = array[np.newaxis]
    return array.transpose(0, 3, 2, 1), _FLIP @ lps
