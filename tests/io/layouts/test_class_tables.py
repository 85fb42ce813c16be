"""One value per name, over all labels of a data set."""

from pathlib import Path

from pipeline.io.layouts.class_tables import label_names, with_class_table
from pipeline.io.layouts.reading import Choice, Reading
from pipeline.io.pairing import CaseFiles

SEGMENTS = (
    "NRRD0004\ntype: uint8\nSegment0_Name:={0}\nSegment0_LabelValue:=5\nSegment1_Name:={1}\n\n"
)


def seg_nrrd(folder, case_id, *names):
    file = folder / f"{case_id}.seg.nrrd"
    file.write_text(SEGMENTS.format(*names))
    return CaseFiles(case_id, (folder / f"{case_id}.nii",), file)


def read(root, *cases, **known):
    return with_class_table(Reading("x", root, "", tuple(cases), **known))


def test_names_of_all_labels_get_values_in_their_order(tmp_path):
    first, second = (
        seg_nrrd(tmp_path, "a", "spleen", "aorta"),
        seg_nrrd(tmp_path, "b", "x", "aorta"),
    )
    assert label_names(first) == ("spleen", "aorta")
    reading = read(tmp_path, first, second)
    assert reading.class_values == {"aorta": (1,), "spleen": (2,), "x": (3,)}
    assert all(case.label_values == reading.class_values for case in reading.cases)
    (doubt,) = reading.problems
    assert (doubt.severity, doubt.file) == ("warning", "a.seg.nrrd")
    assert "of 2: spleen in 1 cases, x in 1 cases" in doubt.message
    assert read(tmp_path, first).problems == ()


def test_a_segment_without_a_name_is_called_as_when_it_is_read(tmp_path):
    text = "NRRD0004\ntype: uint8\nSegment0_ID:=Segment_1\nSegment1_LabelValue:=2\n\n"
    (tmp_path / "a.seg.nrrd").write_text(text)
    case = CaseFiles("a", (tmp_path / "a.nii",), tmp_path / "a.seg.nrrd")
    assert label_names(case) == ("Segment_1", "segment 2")
    (tmp_path / "a.seg.nrrd").write_text(text.replace("\n\n", "\n#" + "x" * 100_000 + "\n\n"))
    assert label_names(case) == ("Segment_1", "segment 2")


def test_what_no_class_is_made_of_is_left_out(tmp_path):
    case = seg_nrrd(tmp_path, "a", "spleen", "aorta")
    other = seg_nrrd(tmp_path, "b", "liver", "aorta")
    reading = Reading("x", tmp_path, "", (case, other), class_values={"spleen": (9,)})
    for groups, values in (
        ((("spleen",),), {"spleen": 9, "aorta": 0, "liver": 0}),
        ((("liver", "spleen"),), {"spleen": 2, "aorta": 0, "liver": 2}),
        (((9,), (1, "liver")), {"spleen": 9, "aorta": 1, "liver": 1}),
        ((("kidney",),), {"spleen": 0, "aorta": 0, "liver": 0}),
    ):
        found = with_class_table(reading, Choice(selected=groups))
        # What is declared stays: the others are known, and background.
        assert found.class_values == {"spleen": (9,), "aorta": (1,), "liver": (2,)}
        for one in found.cases:
            assert one.label_values == {name: (value,) for name, value in values.items()}
    both = with_class_table(reading, Choice(selected=(("liver", "spleen"),)))
    assert both.problems == ()
    (doubt,) = with_class_table(reading, Choice(selected=(("spleen",),))).problems
    assert "of 2: spleen in 1 cases;" in doubt.message


def test_declared_values_stay(tmp_path):
    case = seg_nrrd(tmp_path, "a", "spleen", "aorta")
    reading = read(tmp_path, case, class_values={"spleen": (2, 7)}, ignore_values=(1,))
    assert reading.class_values == {"spleen": (2, 7), "aorta": (3,)}


def test_the_classes_of_a_model_keep_their_values(tmp_path):
    case = seg_nrrd(tmp_path, "a", "spleen", "aorta")
    reading = Reading("x", tmp_path, "r", (case,), class_values={"spleen": (1,), "aorta": (2,)})
    known = with_class_table(reading, Choice(known_values={"spleen": (4,)}, drops_others=True))
    assert known.class_values == {"spleen": (4,), "aorta": (0,)}
    assert known.reason == "r; structures that the model does not know: aorta"
    # Without a value for the rest, an unknown structure gets one that scoring will refuse.
    strict = with_class_table(reading, Choice(known_values={"spleen": (4,)}))
    assert strict.class_values == {"spleen": (4,), "aorta": (1,)}


def test_plain_and_damaged_labels_keep_their_values(tmp_path):
    plain = CaseFiles("p", (tmp_path / "p.nii",), tmp_path / "p_seg.nii")
    (tmp_path / "d.seg.nrrd").write_bytes(b"junk")
    damaged = CaseFiles("d", (tmp_path / "d.nii",), tmp_path / "d.seg.nrrd")
    assert read(tmp_path, plain, damaged).class_values is None
    mixed = read(tmp_path, plain, seg_nrrd(tmp_path, "a", "spleen", "aorta"))
    assert [case.label_values is None for case in mixed.cases] == [True, False]
    assert [problem.check_id for problem in mixed.problems] == ["E12"]


def test_a_class_of_the_model_without_any_mask_is_told():
    case = CaseFiles("c", (Path("/d/ct"),), Path("/d/m"), (Path("/d/m/a.nii"), Path("/d/m/b.nii")))
    choice = Choice(known_values={"a": (1,), "b": (2,), "kidney": (3,)})
    (problem,) = with_class_table(Reading("x", Path("/d"), "", (case,)), choice).problems
    assert "kidney in 1 cases" in problem.message
    assert problem.severity == "warning"


def test_masks_are_named_by_their_files():
    masks = (Path("/d/c1/seg/c1_liver.nii"), Path("/d/c1/seg/aorta.nii"))
    case = CaseFiles("c1", (Path("/d/c1/ct.nii"),), Path("/d/c1/seg"), masks)
    assert label_names(case) == ("liver", "aorta")
    assert read(Path("/d"), case).class_values == {"aorta": (1,), "liver": (2,)}
