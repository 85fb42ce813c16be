"""NRRD: equal to SimpleITK wherever SimpleITK is right; refused by name elsewhere."""

import gzip

import numpy as np
import pytest
from format_builders import VOXELS, nrrd_bytes, simpleitk_view, write_volume

from pipeline.core.errors import FileFormatError
from pipeline.io.load import LabelContext, load_volume
from pipeline.io.nrrd import nrrd_data_file, read_nrrd

FOUR_AXES = {"dimension": "4", "space directions": "none (0,1,0) (0,0,-2) (3,0,0)"}
EQUAL = {
    "plain": ({}, VOXELS),
    "short name": ({"space": "LPS"}, VOXELS),
    "RAS": ({"space": "right-anterior-superior"}, VOXELS),
    "LAS": ({"space": "LAS"}, VOXELS),
    "no patient space": ({"space": "scanner-xyz"}, VOXELS),
    "no space at all": (
        {"space": None, "space directions": None, "space origin": None, "spacings": "1 2 3"},
        VOXELS,
    ),
    "no origin": ({"space origin": None}, VOXELS),
    "sheared": ({"space directions": "(1,0,0) (0.2,1,0) (0,0,2)"}, VOXELS),
    "other units": ({"space units": '"cm" "cm" "cm"'}, VOXELS),
    "gzip": ({"encoding": "gzip"}, gzip.compress(VOXELS)),
    "line and byte skip": ({"line skip": "1", "byte skip": "2"}, b"text\nab" + VOXELS),
    "all but the voxels": ({"byte skip": "-1"}, b"some text" + VOXELS),
    "byte skip in gzip": ({"encoding": "gz", "byte skip": "4"}, gzip.compress(b"1234" + VOXELS)),
    "big-endian": ({"endian": "big"}, VOXELS),
    "unsigned": ({"type": "unsigned short"}, VOXELS),
    "64 bits": ({"type": "int64", "sizes": "2 3 5"}, VOXELS),
    "float": ({"type": "float", "sizes": "4 5 3"}, np.arange(60, dtype="<f4").tobytes()),
    "channels first": (
        {**FOUR_AXES, "sizes": "2 3 4 5", "kinds": "list domain domain domain"},
        VOXELS,
    ),
    "channels last": (
        {
            "dimension": "4",
            "sizes": "3 4 5 2",
            "kinds": "domain domain domain list",
            "space directions": "(0,1,0) (0,0,-2) (3,0,0) none",
        },
        VOXELS,
    ),
    "vectors": (
        {**FOUR_AXES, "sizes": "2 3 4 5", "kinds": "vector domain domain domain"},
        VOXELS,
    ),
}
REFUSED = {
    "other magic": (nrrd_bytes().replace(b"NRRD0005", b"NRRD1004"), "F05"),
    "nothing": (b"", "F05"),
    "no end of header": (b"NRRD0005\n" + b"# comment\n" * 200_000, "F05"),
    "a field twice": (nrrd_bytes({"Type": "short"}), "F05"),
    "a line that is none": (nrrd_bytes(extra="no field\n"), "F05"),
    "block type": (nrrd_bytes({"type": "block"}), "F05"),
    "no type": (nrrd_bytes({"type": None}), "F05"),
    "no byte order": (nrrd_bytes({"endian": None}), "F05"),
    "text encoding": (nrrd_bytes({"encoding": "ascii"}), "F05"),
    "colours": (
        nrrd_bytes({**FOUR_AXES, "sizes": "2 3 4 5", "kinds": "RGB-color domain domain domain"}),
        "F05",
    ),
    "space with time": (nrrd_bytes({"space": "left-posterior-superior-time"}), "F05"),
    "directions of two axes": (
        nrrd_bytes({"space directions": "(1,0) (0,1) (1,1)"}),
        "F05",
    ),
    "two axes": (nrrd_bytes({"dimension": "2", "sizes": "4 30"}), "F06"),
    "five axes": (
        nrrd_bytes(
            {
                "dimension": "5",
                "sizes": "2 3 2 2 5",
                "kinds": None,
                "space directions": "none none (0,1,0) (0,0,-2) (3,0,0)",
            }
        ),
        "F06",
    ),
    "dimension is not the number of sizes": (nrrd_bytes({"dimension": "4"}), "F06"),
    "negative size": (nrrd_bytes({"sizes": "4 -5 6"}), "F06"),
    "size of nothing": (nrrd_bytes({"sizes": "4 0 6"}), "F06"),
    "too few voxels": (nrrd_bytes(data=VOXELS[:-1]), "F04"),
    "more voxels than memory": (nrrd_bytes({"sizes": "40000 50000 60000"}), "F04"),
    "truncated gzip": (nrrd_bytes({"encoding": "gzip"}, gzip.compress(VOXELS)[:-9]), "F03"),
    "damaged gzip": (
        nrrd_bytes({"encoding": "gzip"}, gzip.compress(VOXELS)[:-6] + b"123456"),
        "F03",
    ),
    "bomb": (nrrd_bytes({"encoding": "gzip"}, gzip.compress(bytes(40 << 20))), "F04"),
    "no spacing": (
        nrrd_bytes({"space": None, "space directions": None, "space origin": None}),
        "G07",
    ),
    "spacing of NaN": (nrrd_bytes({"space directions": "(nan,1,0) (0,0,-2) (3,0,0)"}), "G07"),
    "axes in one plane": (nrrd_bytes({"space directions": "(1,0,0) (1,0,0) (0,0,1)"}), "G07"),
    "axis mins": (
        nrrd_bytes({"space directions": None, "spacings": "1 2 3", "axis mins": "1 2 3"}),
        "G07",
    ),
    "several data files": (nrrd_bytes({"data file": "LIST"}), "F05"),
    "numbered data files": (nrrd_bytes({"data file": "a%03d.raw 1 6 1"}), "F05"),
    "data in another folder": (nrrd_bytes({"data file": "../a.raw"}), "F05"),
    "data of the system": (nrrd_bytes({"data file": "/etc/passwd"}), "F05"),
    "data that are not there": (nrrd_bytes({"data file": "gone.raw"}), "F01"),
}


def refusal(file, **options) -> FileFormatError:
    with pytest.raises(FileFormatError) as caught:
        load_volume(file, root=file.parent, **{"role": "image", **options})
    assert caught.value.where
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(("changes", "data"), EQUAL.values(), ids=EQUAL.keys())
def test_equals_simpleitk(tmp_path, changes, data):
    file = tmp_path / "a.nrrd"
    file.write_bytes(nrrd_bytes(changes, data))
    facts, volume = load_volume(file, root=tmp_path, role="image")
    array, affine = simpleitk_view(file)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-12)
    assert facts.format == "nrrd"
    assert facts.affine_source == "direction"


@pytest.mark.parametrize(("content", "check_id"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name(tmp_path, content, check_id):
    file = tmp_path / "a.nrrd"
    file.write_bytes(content)
    assert refusal(file).check_id == check_id


def test_what_was_resolved_by_rule_is_noted(tmp_path):
    file = tmp_path / "a.nrrd"
    for changes, word in (
        ({"space": "scanner-xyz"}, "taken as LPS"),
        ({"space origin": None}, "no origin"),
        ({"space directions": None, "spacings": "1 2 3"}, "no directions"),
        ({"space units": '"um" "um" "um"'}, "units other than mm"),
        ({"space directions": "(1,0,0) (0.2,1,0) (0,0,2)"}, "off the right angle"),
    ):
        file.write_bytes(nrrd_bytes(changes))
        assert word in " ".join(read_nrrd(file, root=tmp_path).facts.notes)
    file.write_bytes(nrrd_bytes({"space units": '"mm" "mm" "mm"'}))
    assert read_nrrd(file, root=tmp_path).facts.notes == ()


def test_a_detached_header_finds_its_data_beside_it(tmp_path):
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    for name, packed in (("plain.nhdr", False), ("packed.nhdr", True)):
        file = write_volume(tmp_path / name, array, np.diag([1.0, 2, 3, 1]), packed=packed)
        facts, volume = load_volume(file, root=tmp_path, role="label")
        np.testing.assert_array_equal(volume.array, array)
        data_file = nrrd_data_file(file)
        assert data_file is not None
        assert facts.n_bytes == file.stat().st_size + data_file.stat().st_size
    assert nrrd_data_file(tmp_path / "gone.nhdr") is None


def test_free_text_of_the_header_goes_nowhere(tmp_path):
    file = tmp_path / "a.nrrd"
    text = "content: Jane Doe\nPatientName:=Jane Doe\n# Jane Doe\n"
    file.write_bytes(nrrd_bytes(extra=text))
    facts, _ = load_volume(file, root=tmp_path, role="label")
    assert "Jane" not in facts.model_dump_json()


# --- segments that 3D Slicer writes -------------------------------------------------------------

NAMED = "Segment0_Name:=liver\nSegment0_LabelValue:=1\nSegment0_Layer:=0\n"
LAYERED = (
    NAMED + "Segment1_ID:=tumor\nSegment1_Name:=tumor\nSegment1_LabelValue:=1\nSegment1_Layer:=1\n"
)


def segmentation(file, layers, extra):
    """Layers are the fastest axis, as 3D Slicer stores them."""
    stack = np.stack(layers).astype(np.uint8)
    fields = {
        **FOUR_AXES,
        "type": "uint8",
        "endian": None,
        "encoding": "gzip",
        "kinds": "list domain domain domain",
        "sizes": f"{len(layers)} 4 5 6",
    }
    file.write_bytes(nrrd_bytes(fields, gzip.compress(stack.tobytes(order="F")), extra=extra))
    return file


@pytest.fixture
def masks():
    liver, tumor = np.zeros((2, 4, 5, 6), bool)
    liver[:2], tumor[3] = True, True
    return liver, tumor


def test_one_layer_keeps_its_values_and_gives_their_names(tmp_path, masks):
    file = segmentation(tmp_path / "a.seg.nrrd", [masks[0]], NAMED)
    facts, volume = load_volume(file, root=tmp_path, role="label")
    assert facts.segments == {"liver": 1}
    np.testing.assert_array_equal(volume.array, masks[0])


def test_layers_are_merged_and_numbered_by_name(tmp_path, masks):
    file = segmentation(tmp_path / "a.seg.nrrd", masks, LAYERED)
    facts, volume = load_volume(file, root=tmp_path, role="label")
    assert facts.segments == {"liver": 1, "tumor": 2}
    np.testing.assert_array_equal(volume.array, masks[0] + 2 * masks[1])
    context = LabelContext(file, {"tumor": (7, 8), "liver": (300,), "other": (1,)})
    facts, volume = load_volume(file, root=tmp_path, role="label", context=context)
    assert facts.segments == {"liver": 300, "tumor": 7}
    np.testing.assert_array_equal(volume.array, 300 * masks[0] + 7 * masks[1])


def test_segments_that_overlap_are_named(tmp_path, masks):
    masks[1][1, 0, :4] = True
    error = refusal(segmentation(tmp_path / "a.seg.nrrd", masks, LAYERED), role="label")
    assert error.check_id == "E10"
    assert "4 voxels: liver and tumor" in error.what


@pytest.mark.parametrize(
    ("extra", "table", "check_id"),
    [
        (LAYERED.replace("Name:=tumor", "Name:=liver"), None, "F05"),
        (LAYERED, {"liver": (1,)}, "F05"),
        (LAYERED.replace("LabelValue:=1", "LabelValue:=2"), None, "F05"),
        (LAYERED.replace("Layer:=1", "Layer:=5"), None, "F06"),
        (LAYERED.replace("Layer:=1", "Layer:=x"), None, "F05"),
    ],
    ids=["a name twice", "a name of no class", "voxels of no segment", "no such layer", "no layer"],
)
def test_segments_that_cannot_be_trusted_are_refused(tmp_path, masks, extra, table, check_id):
    file = segmentation(tmp_path / "a.seg.nrrd", masks, extra)
    context = LabelContext(file, table)
    assert refusal(file, role="label", context=context).check_id == check_id


@pytest.mark.parametrize("number", ["nan", "inf", "1e200", "1e-200"])
@pytest.mark.parametrize("field", ["space directions", "space origin"])
def test_impossible_numbers_are_refused_without_warnings(tmp_path, field, number):
    fields = {
        "space directions": f"(0,{number},0) (0,0,-2) (3,0,0)",
        "space origin": f"({number},0,0)",
    }
    file = tmp_path / "a.nrrd"
    file.write_bytes(nrrd_bytes({field: fields[field]}, VOXELS))
    if field == "space origin" and "e" in number:
        assert load_volume(file, root=tmp_path, role="image")[1].affine[0, 3] == -float(number)
        return
    with pytest.raises(FileFormatError) as caught:
        load_volume(file, root=tmp_path, role="image")
    assert caught.value.check_id == "G07"
