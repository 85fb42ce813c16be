"""dataset.json is read in both dialects; nonsense in it is named."""

import json

import pytest

from pipeline.core.errors import DataError
from pipeline.io.description import Description, read_description


def described(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))
    return read_description(folder)


def test_no_file_says_nothing(tmp_path):
    assert read_description(tmp_path) == Description()


def test_decathlon_and_nnunet_say_the_same(tmp_path):
    decathlon = described(
        tmp_path,
        modality={"1": "T2", "0": "T1w"},
        labels={"0": "background", "1": "liver", "7": "tumor"},
    )
    nnunet = described(
        tmp_path,
        channel_names={"0": "T1w", "1": "T2"},
        labels={"background": 0, "liver": 1, "tumor": [7]},
        file_ending=".nii.gz",
    )
    for description in (decathlon, nnunet):
        assert description.channel_names == ("T1w", "T2")
        assert description.class_values == {"liver": (1,), "tumor": (7,)}
        assert description.problems == ()
    assert nnunet.declares_channels
    assert not decathlon.declares_channels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"background": 0, "whole": [1, 2], "core": [2]}, "overlap"),
        ({"background": 0, "liver": [0, 1]}, "background"),
        ({"background": 0, "liver": [1, 2], "ignore": 2}, "ignore"),
        ({"0": "background", "1": "liver", "2": "liver"}, "twice"),
        ({"background": 0, "liver": "one"}, "no integer"),
        ({"background": 0, "liver": True}, "no integer"),
        ({"background": 0, "liver": None}, "no integer"),
    ],
)
def test_labels_that_cannot_be_used_are_a_problem(tmp_path, labels, words):
    description = described(tmp_path, labels=labels)
    assert description.class_values is None
    (problem,) = description.problems
    assert problem.check_id == "E12"
    assert words in problem.message


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "liver": 1, "ignore": 2}, {"0": "background", "1": "liver", "2": "ignore"}],
)
def test_ignore_is_no_class(tmp_path, labels):
    description = described(tmp_path, labels=labels)
    assert description.class_values == {"liver": (1,)}
    assert description.ignore_values == (2,)
    assert description.problems == ()


def test_overlapping_regions_become_classes_and_regions(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    description = described(tmp_path, labels=labels, regions_class_order=[1, 2, 3])
    assert description.class_values == {"whole_only": (1,), "core_only": (2,), "enhancing": (3,)}
    assert description.ignore_values == (4,)
    assert [(r.name, r.classes, r.paints) for r in description.regions] == [
        ("whole", ("whole_only", "core_only", "enhancing"), "whole_only"),
        ("core", ("core_only", "enhancing"), "core_only"),
        ("enhancing", ("enhancing",), "enhancing"),
    ]


def test_values_in_the_same_regions_are_one_class(tmp_path):
    labels = {"background": 0, "kidney": [1, 2, 3, 5], "masses": [2, 3, 5], "tumor": 2}
    description = described(tmp_path, labels=labels, regions_class_order=[1, 3, 2])
    assert description.class_values == {"kidney_only": (1,), "tumor": (2,), "masses_only": (3, 5)}
    assert [r.paints for r in description.regions] == ["kidney_only", "masses_only", "tumor"]


@pytest.mark.parametrize("order", [None, [1], [1, 1], [3, 1], [2, 2], "first", [2, 1]])
def test_regions_without_a_usable_order_are_a_problem(tmp_path, order):
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    description = described(tmp_path, labels=labels, regions_class_order=order)
    assert (description.class_values, description.regions) == (None, ())
    assert "regions_class_order" in description.problems[0].message


def test_lists_that_do_not_overlap_are_classes_of_several_values(tmp_path):
    description = described(tmp_path, labels={"background": 0, "a": [1, 2], "b": 3})
    assert description.class_values == {"a": (1, 2), "b": (3,)}
    assert description.regions == ()


@pytest.mark.parametrize("labels", [None, [], {}, ""])
def test_labels_may_be_missing(tmp_path, labels):
    description = described(tmp_path, labels=labels, modality=None, training=3)
    assert description == Description()


@pytest.mark.parametrize("content", ["{", "", "[1]", "\x00", "[" * 100_000])
def test_broken_files_are_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json") as caught:
        read_description(tmp_path)
    assert caught.value.where == str(tmp_path / "dataset.json")
    assert caught.value.fix


def test_listed_pairs_are_absolute(tmp_path):
    description = described(
        tmp_path,
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/b.nii.gz"}, "junk", {}],
    )
    assert description.listed == ((tmp_path / "imagesTr/a.nii.gz", tmp_path / "labelsTr/b.nii.gz"),)


@pytest.mark.parametrize("path", ["../a.nii.gz", "/etc/passwd", "x/../../a.nii.gz", "a\x00b"])
def test_paths_do_not_leave_the_folder(tmp_path, path):
    with pytest.raises(DataError, match="outside"):
        described(tmp_path, training=[{"image": path, "label": "a.nii.gz"}])


def test_other_ways_to_write_labels_and_modality(tmp_path):
    content = {"labels": ["background", "liver"], "modality": "CT"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = read_description(tmp_path)
    assert found.channel_names == ("CT",)
    assert found.class_values is None
    assert "no object" in found.problems[0].message
