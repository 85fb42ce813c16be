"""NRRD headers: fields by name, and what they say about number type, axes and place.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.core.geometry import Affine, affine_from_directions
from pipeline.io.raw import bad_dimensions, bad_header, bad_placement

_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
# Slicer writes some hundred bytes per segment; no header of a volume is longer.
_MAX_HEADER_BYTES = 1 << 20
_MAX_AXES = 16
_DTYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), "i8"),
    **dict.fromkeys(("signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "u8"),
    **dict.fromkeys(("uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
_UNNAMED_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed", "")
_SPATIAL_KINDS = ("domain", "space")
_COLOR_KINDS = ("rgb-color", "rgba-color", "hsv-color", "xyz-color", "complex", "quaternion")
_VECTOR = re.compile(r"none|\([^()]*\)", re.IGNORECASE)
# Fields that the standard also writes without the space.
_ALIASES = {"centers": "centerings"}


@dataclass(frozen=True)
class NrrdHeader:
    """An NRRD header, split into its lines.

    Args:
        fields: Field name without spaces, lower case, to its text.
        keys: Free key/value pairs; may name people, so only segment names are ever taken.
        n_bytes: Where the voxels begin, if they are in the same file.
    """

    fields: Mapping[str, str]
    keys: Mapping[str, str]
    n_bytes: int


@dataclass(frozen=True)
class NrrdAxes:
    """What the axes of the stored array are.

    Args:
        sizes: Their lengths as stored, the fastest first.
        spatial: The three that are i, j, k.
        other: The one that is channels, if there is one.
    """

    sizes: tuple[int, ...]
    spatial: tuple[int, int, int]
    other: int | None


def parse_nrrd_header(raw: bytes, file: Path) -> NrrdHeader:
    """Split an NRRD header into fields and keys.

    Raises:
        FileFormatError: F05 if the file is no NRRD, its header has no end, or a field stands twice.
    """
    if not _MAGIC.match(raw):
        raise bad_header("the file is not NRRD of version 1 to 5: its first line is another", file)
    text, n_bytes = _header_text(raw, file)
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        key, is_key, value = line.partition(":=")
        name, is_field, content = line.partition(":")
        if is_key and len(key) <= len(name):
            keys[key.strip()] = value.strip()
            continue
        plain = name.replace(" ", "").lower()
        plain = _ALIASES.get(plain, plain)
        if not is_field:
            raise bad_header("the NRRD header has a line that is no field", file)
        if plain in fields:
            raise bad_header(f"the NRRD header has two fields '{name.strip()[:40]}'", file)
        fields[plain] = content.strip()
    return NrrdHeader(fields, keys, n_bytes)


def nrrd_dtype(header: NrrdHeader, file: Path) -> np.dtype[np.generic]:
    """Stored number type with its byte order.

    Raises:
        FileFormatError: F05 if there is none, or numbers of several bytes have no byte order.
    """
    name = header.fields.get("type", "").lower()
    if name not in _DTYPES:
        raise bad_header(f"the voxels are of type '{name[:40]}', not plain numbers", file)
    dtype = np.dtype(_DTYPES[name])
    if dtype.itemsize == 1:
        return dtype
    endian = header.fields.get("endian", "").lower()
    if endian not in ("little", "big"):
        raise bad_header("the header does not say the byte order of its numbers ('endian')", file)
    return dtype.newbyteorder("<" if endian == "little" else ">")


def nrrd_axes(header: NrrdHeader, file: Path) -> NrrdAxes:
    """Find the three axes of space and the one of channels.

    Space is where 'space directions' is a vector; without them, where 'kinds' is domain or space;
    without both, the first three axes.

    Raises:
        FileFormatError: F05 for colour or complex numbers; F06 if the axes are no volume.
    """
    sizes = _integers(header.fields.get("sizes", ""))
    dimension = _integers(header.fields.get("dimension", ""))
    if not sizes or dimension != (len(sizes),) or min(sizes) < 1 or len(sizes) > _MAX_AXES:
        raise bad_dimensions("the header describes no volume: see its 'dimension', 'sizes'", file)
    kinds = [kind.lower() for kind in header.fields.get("kinds", "").split()]
    if any(kind in _COLOR_KINDS and n > 1 for kind, n in zip(kinds, sizes, strict=False)):
        raise bad_header("the voxels are colours or complex numbers, not plain numbers", file)
    is_spatial = _spatial_axes(header, kinds, len(sizes))
    spatial = [axis for axis, is_one in enumerate(is_spatial) if is_one]
    if len(spatial) != 3 or len(is_spatial) != len(sizes):
        raise bad_dimensions(f"{len(spatial)} of {len(sizes)} axes are in space, not three", file)
    long = [axis for axis, size in enumerate(sizes) if axis not in spatial and size > 1]
    if len(long) > 1:
        raise bad_dimensions(f"the file has {len(sizes)} axes: {sizes}", file)
    other = long[0] if long else None
    return NrrdAxes(sizes, (spatial[0], spatial[1], spatial[2]), other)


def _spatial_axes(header: NrrdHeader, kinds: list[str], n_axes: int) -> list[bool]:
    """Which axes are in space, one entry per axis that the header describes."""
    if "spacedirections" in header.fields:
        vectors = _VECTOR.findall(header.fields["spacedirections"])
        return [vector.lower() != "none" for vector in vectors]
    if kinds:
        return [kind in _SPATIAL_KINDS for kind in kinds]
    return [axis < 3 for axis in range(n_axes)]


def nrrd_affine(header: NrrdHeader, axes: NrrdAxes, file: Path) -> tuple[Affine, tuple[str, ...]]:
    """Voxel index to world mm (RAS+), and what had to be resolved by rule.

    Raises:
        FileFormatError: F05 for a space that is not three-dimensional; G07 if there is no spacing.
    """
    space = header.fields.get("space", "").lower()
    if space not in _SPACES and space not in _UNNAMED_SPACES:
        raise bad_header(f"the header names a space '{space[:40]}' that is not supported", file)
    notes = list(_unit_notes(header))
    if space not in _SPACES:
        notes.append("the header names no patient space; taken as LPS, as SimpleITK does")
    signs = np.array(_SPACES.get(space, (1.0, 1.0, 1.0)))
    columns = _columns(header, axes, file)
    if "spacedirections" not in header.fields:
        notes.append("the header has no directions; i, j, k taken to run to L, P, S")
    if "axismins" in header.fields:
        raise bad_placement("the header places its voxels by 'axis mins': not supported", file)
    origin = (0.0, 0.0, 0.0)
    if "spaceorigin" in header.fields:
        origin = _vector(header.fields["spaceorigin"], file)
    else:
        notes.append("the header has no origin; taken as 0, 0, 0")
    x, y, z = (float(value) for value in signs * origin)
    directions = signs[:, np.newaxis] * columns
    return affine_from_directions((1.0, 1.0, 1.0), (x, y, z), directions), tuple(notes)


def _columns(header: NrrdHeader, axes: NrrdAxes, file: Path) -> Float[np.ndarray, "3 3"]:
    """Steps of one voxel along i, j, k in the file's own space, as columns, in mm."""
    if "spacedirections" in header.fields:
        vectors = _VECTOR.findall(header.fields["spacedirections"])
        return np.array([_vector(vectors[axis], file) for axis in axes.spatial]).T
    spacings = _floats(header.fields.get("spacings", ""))
    if len(spacings) != len(axes.sizes):
        raise bad_placement("the header does not say how far voxels lie apart", file)
    return np.diag([spacings[axis] for axis in axes.spatial])


def _unit_notes(header: NrrdHeader) -> tuple[str, ...]:
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', _units(header))}
    if units <= {"mm", "millimeter", "millimeters", "", "???"}:
        return ()
    return ("the header counts in units other than mm; taken as mm, as SimpleITK does",)


def _units(header: NrrdHeader) -> str:
    return header.fields.get("spaceunits", "")


def _vector(text: str, file: Path) -> tuple[float, float, float]:
    values = _floats(text.strip().removeprefix("(").removesuffix(")").replace(",", " "))
    if len(values) != 3:
        raise bad_header("the header places its voxels in a space without three axes", file)
    return values[0], values[1], values[2]


def _floats(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split())
    except ValueError:
        return ()


def _integers(text: str) -> tuple[int, ...]:
    words = text.split()
    if all(word.isascii() and word.isdigit() and len(word) <= 18 for word in words):
        return tuple(int(word) for word in words)
    return ()


def _header_text(raw: bytes, file: Path) -> tuple[str, int]:
    """Header text, and where the data begins: after the first empty line."""
    head = raw[:_MAX_HEADER_BYTES]
    match = re.search(rb"\r?\n\r?\n", head)
    if match is None and len(raw) > _MAX_HEADER_BYTES:
        raise bad_header("the NRRD header has no end", file)
    end, n_bytes = (match.start(), match.end()) if match else (len(head), len(head))
    return head[:end].decode("utf-8", errors="replace"), n_bytes
