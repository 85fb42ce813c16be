import numpy as np
import pytest
from dicom_phantoms import multi_frame, rtstruct, save, series_slices
from phantoms import affine_of

from pipeline.core.errors import FileFormatError
from pipeline.core.volume import Volume
from pipeline.io.dicom.find import (
    find_series,
    is_dicom_folder,
    label_kind,
    referenced_series,
    segment_names,
)
from pipeline.io.dicom.write_seg import write_dicom_seg

SHAPE = (6, 5, 4)
AFFINE = affine_of(SHAPE, (1, 1, 2), "LPS")
ARRAY = np.zeros(SHAPE, np.int16)
TRIANGLE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])


@pytest.fixture
def tree(tmp_path):
    """One patient: CT and PET in folders of their own, labels beside them, and clutter."""
    ct, pet = (series_slices(ARRAY, AFFINE, modality=kind) for kind in ("CT", "PT"))
    save(tmp_path / "p1" / "ct", ct)
    save(tmp_path / "p1" / "pet", pet, "IM{:04d}")
    save(tmp_path / "p2", [multi_frame(ARRAY, AFFINE)])
    dataset = rtstruct(ct, {"GTV": [TRIANGLE], "empty": [], "Säule": [TRIANGLE]})
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.save_as(tmp_path / "p1" / "rs.dcm", enforce_file_format=True)
    label = Volume(np.ones(SHAPE, np.uint8), AFFINE)
    write_dicom_seg(
        tmp_path / "p1" / "pet" / "seg.dcm",
        label,
        source_folder=tmp_path / "p1" / "pet",
        class_names=["liver", "spleen"],
        values=[1, 2],
        model_name="m",
    )
    (tmp_path / "p1" / "notes.txt").write_text("x")
    save(tmp_path / ".hidden", ct)
    (tmp_path / "p1" / "ct" / "broken.dcm").write_bytes(b"x")
    return tmp_path, ct, pet


def test_series_are_found_at_any_depth(tree):
    root, ct, _ = tree
    found = find_series(root)
    summary = [(s.folder.relative_to(root).as_posix(), s.modality, s.n_files) for s in found]
    assert summary == [("p1/ct", "CT", 4), ("p1/pet", "PT", 4), ("p2", "MR", 1)]
    assert found[0].series_uid == ct[0].SeriesInstanceUID
    assert found[1].files == tuple(sorted((root / "p1" / "pet").glob("IM*")))


def test_two_series_in_one_folder_are_two_entries(tmp_path):
    for n in range(2):
        save(tmp_path, series_slices(ARRAY, AFFINE), f"s{n}_{{}}.dcm")
    assert [series.n_files for series in find_series(tmp_path)] == [4, 4]


def test_links_to_folders_are_not_followed(tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "link").symlink_to(tree[0] / "p1", target_is_directory=True)
    assert find_series(other) == []


def test_a_folder_of_images_is_told_from_one_of_folders(tree):
    root = tree[0]
    folders = [root, root / "p1", root / "p1" / "ct", root / "p2", root / "none"]
    assert [is_dicom_folder(folder) for folder in folders] == [False, False, True, True, False]


def test_labels_are_told_by_kind(tree):
    root = tree[0]
    files = ["p1/rs.dcm", "p1/pet/seg.dcm", "p1/ct/000.dcm", "p1/notes.txt", "p1/ct/broken.dcm"]
    kinds = [label_kind(root / file) for file in files]
    assert kinds == ["rtstruct", "seg", None, None, None]


def test_structures_and_their_series_are_named(tree):
    root, ct, pet = tree
    assert segment_names(root / "p1" / "rs.dcm") == ("GTV", "Säule")
    assert segment_names(root / "p1" / "pet" / "seg.dcm") == ("liver", "spleen")
    assert referenced_series(root / "p1" / "rs.dcm") == ct[0].SeriesInstanceUID
    assert referenced_series(root / "p1" / "pet" / "seg.dcm") == pet[0].SeriesInstanceUID


@pytest.mark.parametrize("ask", [segment_names, referenced_series])
def test_an_image_is_no_label(tree, ask):
    with pytest.raises(FileFormatError) as info:
        ask(tree[0] / "p1" / "ct" / "000.dcm")
    assert info.value.check_id == "F05"
