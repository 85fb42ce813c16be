"""NRRD volumes (.nrrd, .nhdr, .seg.nrrd), decoded from their bytes like NIfTI."""

import math
import re
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from pipeline.core.errors import FileFormatError
from pipeline.io.files import beside, gunzip, read_bytes
from pipeline.io.nrrd_header import (
    NrrdAxes,
    NrrdHeader,
    nrrd_affine,
    nrrd_axes,
    nrrd_dtype,
    parse_nrrd_header,
)
from pipeline.io.raw import RawVolume, Segment, Voxels, bad_header, direction_facts, voxels_of

_RAW = ("raw",)
_GZIP = ("gzip", "gz")
# Keys that 3D Slicer writes into .seg.nrrd, one set per segment.
_SEGMENT_KEY = re.compile(r"Segment(\d{1,6})_(ID|Name|LabelValue|Layer)")


def read_nrrd(file: Path, *, root: Path) -> RawVolume:
    """Read an NRRD volume of three axes in space and at most one of channels.

    Args:
        file: A .nrrd file, or a .nhdr header with its data file in the same folder.
        root: Folder that `facts.file` is relative to.

    Returns:
        Header facts, voxels as (i, j, k) or (i, j, k, channel), and the segments 3D Slicer names.

    Raises:
        FileFormatError: F01 no such file; F03 truncated or a wrong checksum; F04 fewer or far more
            bytes than the header says; F05 header or encoding not understood, no plain numbers, or
            a data file elsewhere; F06 axes that are no volume; G07 no voxel size.
    """
    raw = read_bytes(file)
    header = parse_nrrd_header(raw, file)
    axes = nrrd_axes(header, file)
    affine, notes = nrrd_affine(header, axes, file)
    voxels = _read_voxels(header, axes, raw, file)
    facts = direction_facts(file, voxels, affine, root=root, file_format="nrrd", notes=notes)
    return RawVolume(facts, voxels.array, nrrd_segments(header, file))


def nrrd_data_file(file: Path) -> Path | None:
    """The separate data file of an NRRD header, if it names one that can be used."""
    try:
        name = parse_nrrd_header(read_bytes(file), file).fields.get("datafile")
        return beside(file, name) if name else None
    except FileFormatError:
        return None


def _read_voxels(header: NrrdHeader, axes: NrrdAxes, raw: bytes, file: Path) -> Voxels:
    dtype = nrrd_dtype(header, file)
    n_bytes = len(raw)
    data: memoryview = memoryview(raw)[header.n_bytes :]
    name = header.fields.get("datafile")
    if name is not None:
        if name.upper().startswith("LIST") or "%" in name:
            raise bad_header("the voxels are spread over several files: not supported", file)
        data_file = beside(file, name)
        data = memoryview(read_bytes(data_file))
        n_bytes += len(data)
    n_voxel_bytes = math.prod(axes.sizes) * dtype.itemsize
    content, offset = _decode(header, data, n_voxel_bytes, file)
    array, n_trailing = voxels_of(content, dtype, axes.sizes, offset, file)
    return Voxels(_space_first(array, axes), n_bytes, n_trailing)


def _decode(
    header: NrrdHeader, data: memoryview, n_voxel_bytes: int, file: Path
) -> tuple[bytes | bytearray | memoryview, int]:
    """Decoded bytes, and where in them the voxels begin."""
    encoding = header.fields.get("encoding", "").lower()
    data = _without_lines(data, _count(header, "lineskip", file), file)
    n_skip = _count(header, "byteskip", file)
    if encoding in _RAW:
        return data, max(0, len(data) - n_voxel_bytes) if n_skip < 0 else n_skip
    if encoding in _GZIP and n_skip >= 0:
        return gunzip(data, n_voxel_bytes + n_skip, file), n_skip
    raise bad_header(f"the voxels are encoded as '{encoding[:40]}': not supported", file)


def _without_lines(data: memoryview, n_lines: int, file: Path) -> memoryview:
    start = 0
    for _ in range(n_lines):
        piece = bytes(data[start : start + (1 << 16)])
        if b"\n" not in piece:
            raise bad_header("the header tells to skip lines that are not there", file)
        start += piece.index(b"\n") + 1
    return data[start:]


def _count(header: NrrdHeader, field: str, file: Path) -> int:
    """A number of lines or bytes to skip; -1 is "all but the voxels" and only for bytes."""
    text = header.fields.get(field, "0")
    if field == "byteskip" and text == "-1":
        return -1
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise bad_header(f"the header has a '{field}' that is no number", file)
    return int(text)


def _space_first(array: Shaped[np.ndarray, "..."], axes: NrrdAxes) -> Shaped[np.ndarray, "..."]:
    kept = (*axes.spatial, *((axes.other,) if axes.other is not None else ()))
    dropped = tuple(axis for axis in range(array.ndim) if axis not in kept)
    return array.transpose(*kept, *dropped).reshape([axes.sizes[axis] for axis in kept])


def nrrd_segments(header: NrrdHeader, file: Path) -> tuple[Segment, ...]:
    """Structures that 3D Slicer names; files before Slicer 4.11 have one layer per segment.

    Args:
        header: Header of the file.
        file: For the error message.

    Returns:
        In the order of their numbers; one without a name has its ID or its place for a name.

    Raises:
        FileFormatError: F05 for a label value or layer that is no number.
    """
    found: dict[int, dict[str, str]] = {}
    for key, value in header.keys.items():
        if match := _SEGMENT_KEY.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    segments: list[Segment] = []
    for position, (_, keys) in enumerate(sorted(found.items())):
        name = keys.get("Name") or keys.get("ID") or f"segment {position + 1}"
        number = _segment_number(keys.get("LabelValue", "1"), file)
        layer = _segment_number(keys.get("Layer", str(position)), file)
        segments.append(Segment(name, number, layer))
    return tuple(segments)


def _segment_number(text: str, file: Path) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise bad_header("a segment has a label value or layer that is no number", file)
