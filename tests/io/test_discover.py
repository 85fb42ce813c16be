"""Every layout is recognized; a folder that is none is told what was looked for."""

import json
import shutil

import phantoms
import pytest
from trees import touch

from pipeline.core.errors import DataError, UsageError, VoxlineError
from pipeline.io.discover import LAYOUTS, Choice, discover, list_volumes


def ids(folder):
    return [c.case_id for c in folder.cases]


@pytest.mark.parametrize(
    ("layout", "n_channels"), [("decathlon", 1), ("decathlon", 2), ("nnunet", 1), ("nnunet", 2)]
)
def test_known_layouts(tmp_path, layout, n_channels):
    root = phantoms.write_dataset(tmp_path / "set", 3, layout=layout, n_channels=n_channels)
    folder = discover(root)
    assert (folder.layout, folder.name, folder.root) == (layout, "set", root)
    assert ids(folder) == ["case_000", "case_001", "case_002"]
    assert folder.problems == ()
    assert len(folder.channel_names) == n_channels
    assert folder.class_values == {
        name: (index + 1,) for index, name in enumerate(phantoms.CLASS_NAMES[:2])
    }
    n_files = n_channels if layout == "nnunet" else 1
    assert all(len(c.images) == n_files and c.label for c in folder.cases)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("images", "labels"), ("IMG", "Masks"), ("ct_scans", "liver-segs"), ("volumes", "annotation")],
)
def test_two_folders(tmp_path, images, labels):
    touch(tmp_path, f"{images}/a.nii.gz", f"{images}/b.nii", f"{labels}/a_seg.nii.gz")
    touch(tmp_path, f"{labels}/b_seg.nii.gz", "notes.txt", "other/x.nii.gz")
    folder = discover(tmp_path)
    assert folder.layout == "two_folders"
    assert ids(folder) == ["a", "b"]
    assert folder.problems == ()
    assert folder.class_values is None
    assert images in folder.reason


@pytest.mark.parametrize("part", ["", "images/", "imagesTs/", "imagesTr/"])
def test_images_only(tmp_path, part):
    folder = discover(touch(tmp_path, f"{part}a.nii.gz", f"{part}b.nii.gz"))
    assert ids(folder) == ["a", "b"]
    assert all(case.label is None for case in folder.cases)
    assert folder.problems == ()
    assert "no labels" in folder.reason


def test_training_part_wins_and_the_test_part_can_be_named(tmp_path):
    root = touch(
        tmp_path / "task",
        *("imagesTr/a.nii", "labelsTr/a.nii", "imagesTs/t.nii", "labelsTs/t.nii"),
    )
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))
    assert ids(discover(root)) == ["a"]
    test_part = discover(root / "imagesTs")
    assert ids(test_part) == ["t"]
    assert test_part.cases[0].label == root / "labelsTs" / "t.nii"
    assert (test_part.root, test_part.name) == (root, "task_imagesTs")
    assert test_part.channel_names == ("CT",)
    shutil.rmtree(root / "imagesTr")
    assert ids(discover(root)) == ["t"]


def test_hidden_files_are_ignored(tmp_path):
    folder = discover(touch(tmp_path, "images/a.nii", "images/._a.nii", "labels/a.nii", ".x/y.nii"))
    assert ids(folder) == ["a"]
    assert folder.problems == ()


def test_files_without_partner_or_of_other_formats_are_named(tmp_path):
    folder = discover(
        touch(
            tmp_path,
            *("images/a.nii", "images/b.nii", "images/c.mgz", "images/readme.txt"),
            *("labels/a.nii", "labels/d.nii", "labels/c.mnc"),
        )
    )
    assert ids(folder) == ["a", "b"]
    assert {(p.check_id, p.file) for p in folder.problems} == {
        ("F01", "images/b.nii"),
        ("F01", "labels/d.nii"),
        ("F05", "images/c.mgz"),
        ("F05", "labels/c.mnc"),
    }


def test_channels_without_labels(tmp_path):
    both = touch(tmp_path / "x", "a_0000.nii", "a_0001.nii", "b_0000.nii", "b_0001.nii")
    assert ids(discover(both)) == ["a", "b"]
    series = touch(tmp_path / "y", "s_0000.nii", "s_0001.nii", "s_0002.nii")
    assert len(discover(series).cases) == 3
    assert len(discover(series, n_channels=1).cases) == 3
    assert ids(discover(series, n_channels=3)) == ["s"]
    single = touch(tmp_path / "z", "p_0000.nii.gz")
    assert ids(discover(single)) == ["p"]


def test_listed_pairs_with_different_names(tmp_path):
    touch(tmp_path, "imagesTr/scan1.nii", "labelsTr/truth1.nii", "imagesTr/b.nii", "labelsTr/b.nii")
    pairs = [{"image": "imagesTr/scan1.nii", "label": "labelsTr/truth1.nii"}]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": pairs}))
    folder = discover(tmp_path)
    assert ids(folder) == ["b", "scan1"]
    assert folder.problems == ()


@pytest.mark.parametrize(
    ("n_promised", "severities"),
    [(3, []), (None, []), ("many", []), (5, ["warning"]), (2, ["info"])],
)
def test_another_number_of_labelled_cases_than_promised(tmp_path, n_promised, severities):
    root = phantoms.write_dataset(tmp_path, 3, layout="nnunet")
    file = root / "dataset.json"
    content = json.loads(file.read_text()) | {"numTraining": n_promised}
    file.write_text(json.dumps(content))
    problems = discover(root).problems
    assert [(p.check_id, p.severity) for p in problems] == [("E12", s) for s in severities]
    assert all(f"promises {n_promised}" in p.message for p in problems)


def test_a_label_that_is_gone_is_told_once_and_test_cases_are_not_counted(tmp_path):
    root = phantoms.write_dataset(tmp_path, 3, layout="nnunet")
    next((root / "labelsTr").iterdir()).unlink()
    assert "E12" not in [p.check_id for p in discover(root).problems]
    (root / "imagesTr").rename(root / "imagesTs")
    (root / "labelsTr").rename(root / "labelsTs")
    assert "E12" not in [p.check_id for p in discover(root / "imagesTs").problems]


def test_listed_files_that_are_gone_are_a_warning(tmp_path):
    root = phantoms.write_dataset(tmp_path, 3)
    (root / "imagesTr" / "case_001.nii.gz").unlink()
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    folder = discover(root)
    assert ids(folder) == ["case_000", "case_002"]
    (problem,) = folder.problems
    assert (problem.check_id, problem.severity) == ("E12", "warning")
    assert "case_001" in problem.message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no volumes"),
        (["notes.txt"], "no volumes"),
        (["imagesTr/notes.txt"], "no images"),
        (["images/a.mgz", "labels/a.mgz"], "not supported"),
        (["a/x.txt", "b/y.txt"], "no layout"),
        (["images/a.nii", "scans/a.nii", "labels/a.nii"], "several folders"),
        (["images/a.nii", "masks/a.nii", "labels/a.nii"], "several folders"),
    ],
)
def test_folders_that_are_none(tmp_path, files, words):
    with pytest.raises(DataError, match=words) as caught:
        discover(touch(tmp_path, *files))
    assert str(tmp_path) in caught.value.where
    assert caught.value.fix


def test_a_dataset_one_level_down_is_suggested(tmp_path):
    phantoms.write_dataset(tmp_path / "Task01" / "data", 1)
    with pytest.raises(DataError) as caught:
        discover(tmp_path / "Task01")
    assert caught.value.fix == f"did you mean {tmp_path / 'Task01' / 'data'}?"


def test_of_several_readings_the_one_with_labels_is_taken_and_the_others_are_named(tmp_path):
    touch(tmp_path, "images/a.nii", "labels/a.nii", "p1/p1_ct.nii", "p1/p1_seg.nii", "z.nii")
    folder = discover(tmp_path)
    assert (folder.layout, ids(folder)) == ("two_folders", ["a"])
    assert "also fits case_folders" in folder.reason
    assert "1 cases, 1 labelled" in folder.reason
    assert "--layout case_folders" in folder.reason
    # Images without labels are no rival of images with labels.
    assert "images_only" not in folder.reason
    for layout, found in (("case_folders", ["p1"]), ("images_only", ["z"])):
        forced = discover(tmp_path, layout=layout)
        assert (forced.layout, ids(forced)) == (layout, found)
        assert "was asked for" in forced.reason


def test_a_clear_folder_names_no_other_reading(tmp_path):
    root = phantoms.write_dataset(tmp_path / "set", 2)
    assert "also fits" not in discover(root).reason
    assert discover(root, layout="nnunet").layout == "decathlon"


def test_a_layout_that_does_not_fit_or_does_not_exist(tmp_path):
    touch(tmp_path, "images/a.nii", "labels/a.nii")
    with pytest.raises(DataError, match="no layout fits") as caught:
        discover(tmp_path, layout="bids")
    assert "sub-*" in caught.value.fix
    with pytest.raises(UsageError, match="no layout 'bid'") as caught_usage:
        discover(tmp_path, layout="bid")
    assert caught_usage.value.fix == "did you mean 'bids'?"


def test_every_layout_that_was_tried_is_told(tmp_path):
    with pytest.raises(DataError) as caught:
        discover(touch(tmp_path, "a/x.txt"))
    assert all(
        f"{name}: " in caught.value.fix for name in LAYOUTS if name not in ("auto", "nnunet")
    )


def test_a_choice_that_means_nothing_here_is_told(tmp_path):
    touch(tmp_path, "images/a.nii", "labels/a.nii")
    folder = discover(tmp_path, choice=Choice(channels=("t1",), label="seg"))
    assert "ingest.channels and ingest.label not used" in folder.reason


def test_what_was_named_is_remembered(tmp_path):
    root = touch(tmp_path / "t", "imagesTs/a.nii")
    folder = discover(root / "imagesTs")
    assert (folder.root, folder.source) == (root, root / "imagesTs")


def test_no_such_folder(tmp_path):
    touch(tmp_path, "a.nii")
    for path in (tmp_path / "absent", tmp_path / "a.nii"):
        for find in (discover, list_volumes):
            with pytest.raises(UsageError) as caught:
                find(path)
            assert caught.value.where == str(path)


def test_list_volumes(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nii", ".c.nii", "d.txt", "sub/e.nii")
    assert list(list_volumes(tmp_path).items()) == [
        ("a", tmp_path / "a.nii"),
        ("b", tmp_path / "b.nii.gz"),
    ]
    touch(tmp_path, "b.nii")
    with pytest.raises(DataError, match="'b' exists both"):
        list_volumes(tmp_path)


def test_real_folders(shared_data):
    hippocampus = discover(shared_data / "Task04_Hippocampus")
    assert (len(hippocampus.cases), hippocampus.layout) == (208, "decathlon")
    assert hippocampus.class_values == {"Anterior": (1,), "Posterior": (2,)}
    assert hippocampus.modality_names == ("MRI",)
    assert hippocampus.problems == ()
    layouts, errors = [], []
    for folder in sorted(path for path in shared_data.iterdir() if path.is_dir()):
        try:
            layouts.append(discover(folder).layout)
        except VoxlineError as error:
            errors.append(error)
    assert layouts.count("decathlon") == 2
    assert all(error.where and error.fix for error in errors)
