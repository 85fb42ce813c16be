"""Lists of paths, found in a folder or given themselves."""

import json

import pytest
from trees import files_of, found, touch

from pipeline.core.errors import ConfigError, DataError
from pipeline.io.discover import discover

FILES = ("s/a.nii", "s/b.nii", "m/a.nii", "m/b.nii")


def listed(folder, text, name="list.csv"):
    (folder / name).write_text(text)
    return folder / name


def test_image_and_label(tmp_path):
    touch(tmp_path, *FILES)
    file = listed(tmp_path, "image,label\ns/a.nii,m/a.nii\ns/b.nii,\n")
    for given in (file, tmp_path):
        folder = discover(given)
        assert folder.layout == "path_list"
        assert files_of(folder) == {"a": (["s/a.nii"], "m/a.nii"), "b": (["s/b.nii"], None)}
        assert (folder.root, folder.source) == (tmp_path, given)
    assert discover(file).name == "list"


def test_a_column_per_channel_and_other_columns(tmp_path):
    touch(tmp_path, *FILES)
    text = "Case_ID;age;t1;flair;Label\np1;70;s/a.nii;s/b.nii;m/a.nii\n"
    folder = discover(listed(tmp_path, text))
    assert folder.channel_names == ("t1", "flair")
    assert files_of(folder) == {"p1": (["s/a.nii", "s/b.nii"], "m/a.nii")}
    assert found(tmp_path, channels=("flair",)).cases[0].images == (tmp_path / "s/b.nii",)
    with pytest.raises(ConfigError, match="'pet'"):
        found(tmp_path, channels=("pet",))


def test_json_lists(tmp_path):
    touch(tmp_path, *FILES)
    rows = [
        {"image": ["s/a.nii", "s/b.nii"], "label": "m/a.nii", "case_id": "x"},
        {"image": ["s/b.nii", "s/a.nii"], "label": "m/b.nii", "case_id": 7},
    ]
    monai = {"training": rows, "testing": ["s/a.nii"], "labels": {"0": "bg", "1": "liver"}}
    for content in (rows, monai):
        folder = discover(listed(tmp_path, json.dumps(content), "list.json"))
        assert list(files_of(folder)) == ["7", "x"]
        assert [len(case.images) for case in folder.cases] == [2, 2]
    assert folder.class_values == {"liver": (1,)}
    named = [{"image": {"t1": "s/a.nii", "t2": "s/b.nii"}, "label": "m/a.nii"}]
    assert discover(listed(tmp_path, json.dumps(named), "n.json")).channel_names == ("t1", "t2")


def test_names_come_from_files_folders_or_paths(tmp_path):
    touch(tmp_path, "p1/ct.nii", "p2/ct.nii", "p1/x/ct.nii", "p2/x/ct.nii")
    two = listed(tmp_path, "image\np1/ct.nii\np2/ct.nii\n")
    assert list(files_of(discover(two))) == ["p1", "p2"]
    paths = listed(tmp_path, "image\np1/x/ct.nii\np2/x/ct.nii\n")
    assert list(files_of(discover(paths))) == ["p1_x_ct", "p2_x_ct"]


def test_rows_that_cannot_be_used_are_named(tmp_path):
    touch(tmp_path, *FILES)
    text = "image,label\ns/a.nii,m/a.nii\ns/gone.nii,m/a.nii\ns/b.nii,m/gone.nii\n,m/b.nii\n"
    folder = discover(listed(tmp_path, text))
    assert list(files_of(folder)) == ["a"]
    assert [problem.message.split(":")[0] for problem in folder.problems] == [
        f"row {number} of the list cannot be used" for number in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "image,image\nx,y\n", "\0", "image\n", "image\ngone.nii\n", "{"]
)
@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_what_is_no_list_is_refused(tmp_path, text, name):
    touch(tmp_path, *FILES)
    with pytest.raises(DataError) as caught:
        discover(listed(tmp_path, text, name))
    assert caught.value.fix
    with pytest.raises(DataError, match="no layout fits"):
        discover(tmp_path, layout="path_list")


@pytest.mark.parametrize("case_id", ["../x", "a/b", ".hidden", "x" * 200])
def test_names_that_no_file_can_have(tmp_path, case_id):
    touch(tmp_path, *FILES)
    with pytest.raises(DataError, match="cannot be called"):
        discover(listed(tmp_path, f"case_id,image\n{case_id},s/a.nii\n"))


def test_two_lists_and_paths_that_lead_out(tmp_path):
    outside = touch(tmp_path / "outside", "a.nii") / "a.nii"
    root = touch(tmp_path / "set", *FILES)
    listed(root, "image\ns/a.nii\n", "one.csv")
    listed(root, "image\ns/b.nii\n", "two.csv")
    with pytest.raises(DataError, match=r"several: one\.csv, two\.csv"):
        discover(root, layout="path_list")
    (root / "two.csv").unlink()
    listed(root, f"image\ns/b.nii\n{outside}\n../outside/a.nii\n", "one.csv")
    with pytest.raises(DataError, match="two cases"):
        discover(root)
    listed(root, f"image\ns/b.nii\n{outside}\n", "one.csv")
    folder = discover(root)
    assert list(files_of(folder)) == ["b"]
    assert "leads out" in folder.problems[0].message
    # Whoever names a list knows where its paths lead.
    assert len(discover(root / "one.csv").cases) == 2
