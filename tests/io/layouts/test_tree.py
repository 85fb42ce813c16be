"""What counts as a volume, a series, a label; and what a name says."""

from pathlib import Path

import pytest
from trees import touch

from pipeline.io.layouts.tree import (
    files_in,
    folders_in,
    foreign_in,
    holds_dicom,
    images_in,
    is_dicom_file,
    is_label_name,
    is_role_folder,
    labels_in,
    leads_out,
    volumes_in,
    with_label_files,
)
from pipeline.io.pairing import CaseFiles


def test_hidden_entries_and_shadows_are_never_there(tmp_path):
    touch(tmp_path, ".x.nii", "._a.nii", "a.nii", "__MACOSX/a.nii", ".d/a.nii", "d/a.nii", "t.txt")
    assert [path.name for path in volumes_in(tmp_path)] == ["a.nii"]
    assert [path.name for path in files_in(tmp_path)] == ["a.nii", "t.txt"]
    assert [path.name for path in folders_in(tmp_path)] == ["d"]


def test_slices_are_no_volumes_and_their_folder_is_an_image(tmp_path):
    touch(tmp_path, "p1/0.dcm", "p2/slice", "p3/notes.txt", "a.nii", "b.mgz", "label.dcm")
    (tmp_path / "p2" / "slice").write_bytes(b"\0" * 128 + b"DICM")
    assert [path.name for path in images_in(tmp_path)] == ["a.nii", "p1", "p2"]
    assert [path.name for path in labels_in(tmp_path)] == ["a.nii", "label.dcm", "p1", "p2"]
    assert [path.name for path in foreign_in(tmp_path)] == ["b.mgz"]
    assert holds_dicom(tmp_path / "p2")
    assert not holds_dicom(tmp_path / "p3")
    assert not is_dicom_file(tmp_path / "gone")


def test_label_folders_are_looked_into(tmp_path):
    touch(tmp_path, "masks/a.nii", "masks/b.nii", "one/a.nii", "seg/x.dcm", "none/x.txt")

    def opened(name):
        return with_label_files(CaseFiles("c", (), tmp_path / name))

    assert [mask.name for mask in opened("masks").masks] == ["a.nii", "b.nii"]
    assert opened("masks").label == tmp_path / "masks"
    assert opened("one").label == tmp_path / "one" / "a.nii"
    assert opened("one").masks == ()
    assert opened("seg").label == tmp_path / "seg" / "x.dcm"
    assert opened("none").label == tmp_path / "none"


@pytest.mark.parametrize(
    ("name", "is_label"),
    [
        *[(name, True) for name in ("seg", "GOLD_STANDARD_N4", "brain_mask", "lesionMask", "x.gt")],
        *[(name, True) for name in ("T1_manual", "seg-vert_msk", "tumorseg")],
        *[(name, False) for name in ("t1", "label-22_ct", "flair", "", "image", "segment", "T2w")],
    ],
)
def test_names_of_labels(name, is_label):
    assert is_label_name(name) == is_label


def test_names_of_folders_with_a_role():
    for name in ("imagesTr", "labelsTs", "images", "CT_scans", "segmentations", "structures"):
        assert is_role_folder(name)
    for name in ("patient07", "BraTS_001", "s0001", "controls", "visits"):
        assert not is_role_folder(name)


def test_links(tmp_path):
    root = touch(tmp_path / "root", "a.nii", "d/b.nii")
    touch(tmp_path / "out", "x.nii", "y.dcm")
    (root / "inside.nii").symlink_to(root / "a.nii")
    (root / "outside.nii").symlink_to(tmp_path / "out" / "x.nii")
    (root / "folder").symlink_to(tmp_path / "out")
    touch(root, "series/0.dcm")
    (root / "series" / "1.dcm").symlink_to(tmp_path / "out" / "y.dcm")
    (root / "relative.nii").symlink_to(Path("../out/x.nii"))
    leading = [p.name for p in sorted(root.iterdir()) if leads_out(p, root, {})]
    assert leading == ["folder", "outside.nii", "relative.nii", "series"]
    assert leads_out(root / "folder" / "x.nii", root, {})
    assert leads_out(root / ".." / "out" / "x.nii", root, {})
