"""Subjects, sessions and derivatives."""

import pytest
from trees import files_of, found, touch

from pipeline.core.errors import DataError

T1 = "sub-{0}/anat/sub-{0}_T1w.nii.gz"
DSEG = "derivatives/manual/sub-{0}/anat/sub-{0}_dseg.nii.gz"


def test_one_image_per_subject(tmp_path):
    for subject in ("01", "02"):
        touch(tmp_path, T1.format(subject), DSEG.format(subject))
    touch(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz", "dataset_description.json")
    folder = found(tmp_path)
    assert (folder.layout, folder.problems) == ("bids", ())
    assert files_of(folder) == {f"sub-{s}": ([T1.format(s)], DSEG.format(s)) for s in ("01", "02")}


def test_sessions_channels_and_masks(tmp_path):
    start = "sub-1/ses-{0}/anat/sub-1_ses-{0}_"
    for session in "ab":
        for part in ("T1w", "FLAIR"):
            touch(tmp_path, start.format(session) + part + ".nii.gz")
        touch(tmp_path, "derivatives/x/v2/" + start.format(session) + "desc-lesion_mask.nii.gz")
    folder = found(tmp_path)
    assert folder.channel_names == ("FLAIR", "T1w")
    assert list(files_of(folder)) == ["sub-1_ses-a", "sub-1_ses-b"]
    assert all(case.label for case in folder.cases)
    assert found(tmp_path, channels=("T1w",)).cases[0].images[0].name.endswith("_T1w.nii.gz")


def test_a_label_of_the_subject_holds_for_its_session(tmp_path):
    touch(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii", "derivatives/sub-1/sub-1_dseg.nii")
    assert files_of(found(tmp_path))["sub-1_ses-a"][1] == "derivatives/sub-1/sub-1_dseg.nii"


def test_the_map_wins_over_masks_and_a_label_can_be_chosen(tmp_path):
    touch(tmp_path, T1.format("1"), DSEG.format("1"))
    touch(tmp_path, "derivatives/bet/sub-1/anat/sub-1_desc-brain_mask.nii.gz")
    assert files_of(found(tmp_path))["sub-1"][1] == DSEG.format("1")
    chosen = files_of(found(tmp_path, label="desc-brain"))["sub-1"][1]
    assert chosen is not None
    assert chosen.endswith("brain_mask.nii.gz")


def test_without_labels_and_without_images(tmp_path):
    touch(tmp_path, T1.format("1"))
    assert files_of(found(tmp_path)) == {"sub-1": ([T1.format("1")], None)}
    with pytest.raises(DataError, match="bids: subjects without images"):
        found(touch(tmp_path / "x", DSEG.format("1"), "sub-1/notes.txt"))


def test_real_case(shared_data):
    folder = found(shared_data / "stroke_isles22_sample", channels=("dwi", "adc"))
    assert (folder.layout, folder.channel_names) == ("bids", ("dwi", "adc"))
    assert [case.case_id for case in folder.cases] == ["sub-strokecase0009_ses-0001"]
    assert folder.cases[0].label is not None
