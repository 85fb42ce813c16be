"""A folder per case, with channels or with one mask file per class."""

import pytest
from trees import files_of, found, touch

from pipeline.core.errors import ConfigError, DataError

BRATS = ("t1", "t1ce", "t2", "flair", "seg")


def brats(folder, *cases, suffix=".nii.gz"):
    return touch(folder, *(f"{c}/{c}_{part}{suffix}" for c in cases for part in BRATS))


def test_brats(tmp_path):
    folder = found(brats(tmp_path, "BraTS_001", "BraTS_002"))
    assert (folder.layout, folder.problems) == ("case_folders", ())
    assert folder.channel_names == ("flair", "t1", "t1ce", "t2")
    images, label = files_of(folder)["BraTS_001"]
    assert images == [f"BraTS_001/BraTS_001_{c}.nii.gz" for c in ("flair", "t1", "t1ce", "t2")]
    assert label == "BraTS_001/BraTS_001_seg.nii.gz"
    assert "flair, t1, t1ce, t2" in folder.reason


def test_cases_a_few_levels_down_and_twice_the_same_name(tmp_path):
    brats(tmp_path, "HGG/p1", "LGG/p2")
    for file in sorted(tmp_path.glob("*/p*/*/*")):
        file.rename(file.parent.parent / file.name)
    assert list(files_of(found(tmp_path))) == ["p1", "p2"]
    touch(tmp_path, *(f"LGG/p1/p1_{part}.nii.gz" for part in BRATS))
    assert list(files_of(found(tmp_path))) == ["HGG_p1", "LGG_p1", "p2"]


def test_a_missing_channel_and_a_missing_label_are_named(tmp_path):
    brats(tmp_path, "a", "b", "c", "d")
    (tmp_path / "b" / "b_t2.nii.gz").unlink()
    (tmp_path / "c" / "c_seg.nii.gz").unlink()
    folder = found(tmp_path)
    assert list(files_of(folder)) == ["a", "c", "d"]
    assert {(p.check_id, "t2" in p.message) for p in folder.problems} == {
        ("F01", True),
        ("F01", False),
    }


def test_channels_and_label_can_be_chosen(tmp_path):
    brats(tmp_path, "a", "b")
    touch(tmp_path, "a/a_brain_mask.nii.gz", "b/b_brain_mask.nii.gz")
    folder = found(tmp_path, channels=("t2", "t1"))
    assert files_of(folder)["a"] == (["a/a_t2.nii.gz", "a/a_t1.nii.gz"], "a/a_seg.nii.gz")
    assert folder.channel_names == ("t2", "t1")
    assert files_of(found(tmp_path, label="brain_mask"))["a"][1] == "a/a_brain_mask.nii.gz"
    assert files_of(found(tmp_path, expected=("t2", "t1")))["a"][0][0] == "a/a_t2.nii.gz"
    assert len(found(tmp_path, expected=("t2", "pet")).channel_names) == 4
    for wrong in ({"channels": ("flare",)}, {"label": "segm"}):
        with pytest.raises(ConfigError) as caught:
            found(tmp_path, **wrong)
        assert "did you mean" in caught.value.fix


def test_several_labels_without_a_choice_are_not_guessed(tmp_path):
    touch(tmp_path, "a/ct.nii", "a/reader1_mask.nii", "a/reader2_mask.nii")
    with pytest.raises(DataError, match=r"reader1_mask.*ingest\.label"):
        found(tmp_path)


def test_one_image_of_any_name_and_parts_in_folders(tmp_path):
    touch(tmp_path, "p1/image/scan7.nii", "p1/label/drawn.nii", "p2/image/x.nii", "p2/label/y.nii")
    assert files_of(found(tmp_path)) == {
        "p1": (["p1/image/scan7.nii"], "p1/label/drawn.nii"),
        "p2": (["p2/image/x.nii"], "p2/label/y.nii"),
    }


def test_masks_are_merged_by_name(tmp_path):
    touch(tmp_path, "s1/ct.nii.gz", "s2/ct.nii.gz")
    touch(tmp_path, *(f"s1/segmentations/{c}.nii.gz" for c in ("liver", "aorta")))
    touch(tmp_path, *(f"s2/segmentations/{c}.nii.gz" for c in ("liver", "spleen")))
    folder = found(tmp_path)
    assert folder.layout == "class_masks"
    assert folder.class_values == {"aorta": (1,), "liver": (2,), "spleen": (3,)}
    assert [case.label for case in folder.cases] == [
        tmp_path / case / "segmentations" for case in ("s1", "s2")
    ]
    (problem,) = folder.problems
    assert problem.severity == "warning"
    assert "aorta in 1 cases, spleen in 1 cases" in problem.message


def test_one_case_given_to_a_model(tmp_path):
    case = brats(tmp_path, "a") / "a"
    (case / "a_seg.nii.gz").unlink()
    assert files_of(found(case, n_channels=4)).keys() == {"a"}
    assert len(found(case, n_channels=1).cases) == 4
    # Two volumes and two channels: they may well be two volumes of two channels.
    two = touch(tmp_path / "two", "p1.nii", "p2.nii")
    assert len(found(two, n_channels=2).cases) == 2
    assert len(found(two, n_channels=2, expected=("p1", "p2")).cases) == 1


def test_real_cases(shared_data):
    folder = found(shared_data / "ms_lesion")
    assert folder.layout == "case_folders"
    assert folder.channel_names == ("FLAIR", "T1", "T1POST", "T2")
    assert [case.case_id for case in folder.cases] == ["patient07", "patient19"]
    assert all("GOLD_STANDARD" in str(case.label) for case in folder.cases)
    spine = found(shared_data / "spine_tptbox", label="seg-vert")
    assert [len(case.images) for case in spine.cases] == [1, 1]
    assert all("seg-vert" in str(case.label) for case in spine.cases)
