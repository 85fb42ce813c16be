"""MetaImage volumes (.mha, .mhd), decoded from their bytes like NIfTI.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Affine, affine_from_directions
from pipeline.io.files import beside, inflate, read_bytes
from pipeline.io.raw import (
    RawVolume,
    Voxels,
    bad_dimensions,
    bad_header,
    bad_placement,
    direction_facts,
    voxels_of,
)

_MAX_HEADER_BYTES = 1 << 16
_DATA_FILE = "ElementDataFile"
# MetaIO: LONG has 4 bytes on every machine.
_DTYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2"},
    **{"MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4"},
    **{"MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_BYTE_ORDER_KEYS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_DIRECTION_KEYS = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN_KEYS = ("Offset", "Position", "Origin")


@dataclass(frozen=True)
class MetaHeader:
    """A MetaImage header, split into its lines.

    Args:
        fields: Key to text, both as written.
        n_bytes: Where the voxels begin, if they are in the same file.
    """

    fields: Mapping[str, str]
    n_bytes: int


def read_metaimage(file: Path, *, root: Path) -> RawVolume:
    """Read a MetaImage volume of three axes, or four of which the last one is channels.

    Args:
        file: A .mha file, or a .mhd header with its data file in the same folder.
        root: Folder that `facts.file` is relative to.

    Returns:
        Header facts, and voxels as (i, j, k) or (i, j, k, channel).

    Raises:
        FileFormatError: F01 no such file; F03 truncated or a wrong checksum; F04 fewer or far more
            bytes than the header says; F05 header or encoding not understood, no plain numbers, or
            a data file elsewhere; F06 axes that are no volume; G07 no voxel size.
    """
    raw = read_bytes(file)
    header = parse_metaimage_header(raw, file)
    sizes = _sizes(header, file)
    affine, notes = _affine(header, len(sizes), file)
    voxels = _read_voxels(header, sizes, raw, file)
    facts = direction_facts(file, voxels, affine, root=root, file_format="metaimage", notes=notes)
    return RawVolume(facts, voxels.array)


def metaimage_data_file(file: Path) -> Path | None:
    """The separate data file of a MetaImage header, if it names one that can be used."""
    try:
        name = parse_metaimage_header(read_bytes(file), file).fields[_DATA_FILE]
        return None if name.upper() == "LOCAL" else beside(file, name)
    except FileFormatError:
        return None


def parse_metaimage_header(raw: bytes, file: Path) -> MetaHeader:
    """Split a MetaImage header into its fields, up to ElementDataFile, which is the last one.

    Raises:
        FileFormatError: F05 if the file is no MetaImage, or a field stands twice.
    """
    fields: dict[str, str] = {}
    start = 0
    while _DATA_FILE not in fields:
        end = raw.find(b"\n", start, _MAX_HEADER_BYTES)
        is_last = end < 0
        line = raw[start : min(len(raw), _MAX_HEADER_BYTES) if is_last else end]
        start += len(line) + 1
        # MetaIO takes either sign and passes over what it does not know.
        text = line.decode("utf-8", errors="replace")
        key, _, value = text.partition("=" if "=" in text else ":")
        if not key.isascii():
            raise bad_header("the MetaImage header has a field name that is damaged", file)
        if key.strip() in fields:
            raise bad_header(f"the MetaImage header has two fields '{key.strip()[:40]}'", file)
        fields[key.strip()] = value.strip()
        fields.pop("", None)
        if is_last and _DATA_FILE not in fields:
            raise bad_header("the file is not MetaImage: its header has no ElementDataFile", file)
    if fields.get("ObjectType", "Image") != "Image":
        raise bad_header("the MetaImage file holds no image (see its ObjectType)", file)
    return MetaHeader(fields, start)


def _sizes(header: MetaHeader, file: Path) -> tuple[int, ...]:
    words = header.fields.get("DimSize", "").split()
    is_plain = all(word.isascii() and word.isdigit() and len(word) <= 18 for word in words)
    sizes = tuple(int(word) for word in words) if is_plain else ()
    if header.fields.get("NDims") != str(len(sizes)) or not sizes or min(sizes) < 1:
        raise bad_dimensions("the header describes no volume: see its NDims, DimSize", file)
    if len(sizes) < 3 or math.prod(sizes[4:]) > 1:
        raise bad_dimensions(f"the file has {len(sizes)} axes: {sizes}", file)
    return sizes


def _affine(header: MetaHeader, n_axes: int, file: Path) -> tuple[Affine, tuple[str, ...]]:
    """Voxel index to world mm (RAS+), and what had to be resolved by rule."""
    notes: list[str] = []
    spacing = _numbers(header, ("ElementSpacing", "ElementSize"), n_axes, file)
    if spacing is None:
        raise bad_placement("the header does not say how far voxels lie apart", file)
    if "ElementSpacing" not in header.fields:
        notes.append("the header has no ElementSpacing; its ElementSize counts, as in SimpleITK")
    rows = _numbers(header, _DIRECTION_KEYS, n_axes * n_axes, file)
    if rows is None:
        notes.append("the header has no directions; i, j, k taken to run to L, P, S")
    origin = _numbers(header, _ORIGIN_KEYS, n_axes, file)
    if origin is None:
        notes.append("the header has no origin; taken as 0, 0, 0")
    slope = header.fields.get("ElementToIntensityFunctionSlope", "1")
    shift = header.fields.get("ElementToIntensityFunctionOffset", "0")
    if (_float(slope), _float(shift)) != (1.0, 0.0):
        notes.append("the header wants values rescaled; they are not, as in SimpleITK")
    x, y, z = origin[:3] if origin is not None else (0.0, 0.0, 0.0)
    i_mm, j_mm, k_mm = spacing[:3]
    directions = _directions(rows, n_axes)
    return affine_from_directions((i_mm, j_mm, k_mm), (x, y, z), directions), tuple(notes)


def _directions(rows: tuple[float, ...] | None, n_axes: int) -> Float[np.ndarray, "3 3"]:
    """The direction of each voxel axis as a column; the file writes them one after the other."""
    if rows is None:
        return np.eye(3)
    return np.array(rows).reshape(n_axes, n_axes)[:3, :3].T


def _numbers(
    header: MetaHeader, keys: tuple[str, ...], n: int, file: Path
) -> tuple[float, ...] | None:
    key = next((key for key in keys if key in header.fields), None)
    if key is None:
        return None
    values = tuple(_float(word) for word in header.fields[key].split())
    if len(values) != n:
        raise bad_placement(f"the header's {key} has {len(values)} numbers, not {n}", file)
    return values


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _read_voxels(header: MetaHeader, sizes: tuple[int, ...], raw: bytes, file: Path) -> Voxels:
    fields = header.fields
    dtype = _dtype(header, file)
    n_channels = fields.get("ElementNumberOfChannels", "1")
    if not (n_channels.isascii() and n_channels.isdigit() and 1 <= int(n_channels[:9]) < 2**31):
        raise bad_dimensions("the header describes no volume: see ElementNumberOfChannels", file)
    data, n_bytes = _data(header, raw, file)
    shape = (int(n_channels), *sizes)
    n_voxel_bytes = math.prod(shape) * dtype.itemsize
    content: bytes | bytearray | memoryview = data
    offset = _header_size(header, file)
    if fields.get("CompressedData", "False").lower() == "true":
        content, offset = inflate(data[max(0, offset) :], n_voxel_bytes, file), 0
    elif offset < 0:
        offset = max(0, len(data) - n_voxel_bytes)
    array, n_trailing = voxels_of(content, dtype, shape, offset, file)
    return Voxels(_channels_last(array, file), n_bytes, n_trailing)


def _dtype(header: MetaHeader, file: Path) -> np.dtype[np.generic]:
    fields = header.fields
    name = fields.get("ElementType", "")
    if name not in _DTYPES:
        raise bad_header(f"the voxels are of type '{name[:40]}', not plain numbers", file)
    if fields.get("BinaryData", "True").lower() != "true":
        raise bad_header("the voxels are written as text: not supported", file)
    is_big = next((fields[key] for key in _BYTE_ORDER_KEYS if key in fields), "False")
    return np.dtype(_DTYPES[name]).newbyteorder(">" if is_big.lower() == "true" else "<")


def _data(header: MetaHeader, raw: bytes, file: Path) -> tuple[memoryview, int]:
    """Bytes with the voxels, and the size of all files."""
    name = header.fields[_DATA_FILE]
    if name.upper() == "LOCAL":
        return memoryview(raw)[header.n_bytes :], len(raw)
    if name.upper().startswith("LIST") or "%" in name:
        raise bad_header("the voxels are spread over several files: not supported", file)
    data = read_bytes(beside(file, name))
    return memoryview(data), len(raw) + len(data)


def _header_size(header: MetaHeader, file: Path) -> int:
    """Bytes of the data file before its voxels; -1 for "all but the voxels"."""
    text = header.fields.get("HeaderSize", "0")
    is_local = header.fields[_DATA_FILE].upper() == "LOCAL"
    is_number = text == "-1" or (text.isascii() and text.isdigit() and len(text) <= 12)
    # SimpleITK returns other bytes of the file as voxels for a number of bytes in the same file.
    if not is_number or (is_local and int(text) > 0):
        raise bad_header("the header has a HeaderSize that makes no sense", file)
    return int(text)


def _channels_last(array: Shaped[np.ndarray, "..."], file: Path) -> Shaped[np.ndarray, "..."]:
    """From (channel, i, j, k) or (channel, i, j, k, t) to (i, j, k) or (i, j, k, channel)."""
    n_channels, *spatial = (int(n) for n in array.shape)
    n_volumes = math.prod(spatial[3:])
    if n_channels > 1 and n_volumes > 1:
        raise bad_dimensions("the file has channels and a fourth axis", file)
    if n_channels == 1:
        return array.reshape(spatial[:4], order="F")
    return np.moveaxis(array.reshape((n_channels, *spatial[:3]), order="F"), 0, 3)
