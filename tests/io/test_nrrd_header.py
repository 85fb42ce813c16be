"""NRRD headers line by line; whole files are in test_nrrd.py."""

from pathlib import Path

import numpy as np
import pytest
from format_builders import nrrd_bytes

from pipeline.core.errors import FileFormatError
from pipeline.io.nrrd_header import nrrd_affine, nrrd_axes, nrrd_dtype, parse_nrrd_header

FILE = Path("a.nrrd")


def header_of(changes, extra=""):
    return parse_nrrd_header(nrrd_bytes(changes, extra=extra), FILE)


def test_fields_are_known_by_any_spelling_and_keys_are_kept_apart():
    header = header_of({"Space Units": "mm"}, extra="# a comment\nkey: with := both\na:=b: c\n")
    assert header.fields["spaceunits"] == "mm"
    assert header.fields["key"] == "with := both"
    assert header.keys == {"a": "b: c"}
    assert nrrd_bytes()[header_of({}).n_bytes :][:4] == b"\0\0\1\0"


def test_lines_may_end_as_on_windows():
    raw = nrrd_bytes(data=b"").replace(b"\n", b"\r\n") + b"voxels"
    header = parse_nrrd_header(raw, FILE)
    assert raw[header.n_bytes :] == b"voxels"
    assert header.fields["sizes"] == "4 5 6"


@pytest.mark.parametrize(
    ("changes", "spatial", "other"),
    [
        ({}, (0, 1, 2), None),
        ({"kinds": None}, (0, 1, 2), None),
        (
            {
                "dimension": "4",
                "sizes": "2 4 5 6",
                "kinds": "vector space space space",
                "space directions": None,
            },
            (1, 2, 3),
            0,
        ),
        (
            {"dimension": "4", "sizes": "4 5 6 3", "kinds": None, "space directions": None},
            (0, 1, 2),
            3,
        ),
        (
            {
                "dimension": "5",
                "sizes": "4 1 5 6 3",
                "space directions": "(1,0,0) none (0,1,0) (0,0,1) none",
                "kinds": None,
            },
            (0, 2, 3),
            4,
        ),
    ],
)
def test_axes_of_space_are_told_from_channels(changes, spatial, other):
    axes = nrrd_axes(header_of(changes), FILE)
    assert (axes.spatial, axes.other) == (spatial, other)


@pytest.mark.parametrize("text", ["none none none", "", "(1,0,0) (0,1,0)", "raw"])
def test_directions_that_are_not_three_are_refused(text):
    with pytest.raises(FileFormatError) as caught:
        nrrd_axes(header_of({"space directions": text}), FILE)
    assert caught.value.check_id == "F06"


def test_number_types_have_many_names_and_one_byte_order():
    for name, expected in (("unsigned long long int", ">u8"), ("int8_t", "i1"), ("float", ">f4")):
        assert nrrd_dtype(header_of({"type": name, "endian": "BIG"}), FILE) == np.dtype(expected)


def test_left_and_right_follow_the_named_space():
    for space, sign in (("LPS", -1), ("RAS", 1), ("left-anterior-superior", -1)):
        header = header_of({"space": space, "space directions": "(1,0,0) (0,2,0) (0,0,3)"})
        affine, notes = nrrd_affine(header, nrrd_axes(header, FILE), FILE)
        assert affine[0, 0] == sign
        assert affine[0, 3] == sign * 1
        assert notes == ()
