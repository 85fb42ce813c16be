"""Two folders, one folder, and what dataset.json adds."""

import json

import pytest
from trees import files_of, found, touch

from pipeline.core.errors import DataError
from pipeline.io.layouts.paired import (
    read_images_only,
    read_one_folder,
    read_parts,
    read_two_folders,
)
from pipeline.io.layouts.reading import Choice, NoFit


def test_images_and_labels_in_one_folder(tmp_path):
    touch(tmp_path, "b1_image.nrrd", "b1_label.nrrd", "x.nrrd", "x-label.nrrd", "lone_label.nrrd")
    folder = found(tmp_path)
    assert folder.layout == "one_folder"
    assert files_of(folder) == {
        "b1": (["b1_image.nrrd"], "b1_label.nrrd"),
        "x": (["x.nrrd"], "x-label.nrrd"),
    }
    assert [p.file for p in folder.problems] == ["lone_label.nrrd"]


def test_labels_with_one_file_per_class(tmp_path):
    touch(tmp_path, "images/a.nii", "labels/a/liver.nii", "labels/a/spleen.nii")
    folder = found(tmp_path, mask_order=("liver", "spleen"))
    (case,) = folder.cases
    assert case.label == tmp_path / "labels" / "a"
    assert [mask.name for mask in case.masks] == ["liver.nii", "spleen.nii"]
    assert case.mask_order == ("liver", "spleen")
    assert "one file per class" in folder.reason
    assert folder.class_values == {"liver": (1,), "spleen": (2,)}
    assert case.label_values == folder.class_values


def test_nothing_of_the_kind(tmp_path):
    touch(tmp_path, "notes.txt")
    for reader in (read_parts, read_two_folders, read_one_folder, read_images_only):
        assert isinstance(reader(tmp_path, Choice()), NoFit)
    only_labels = touch(tmp_path / "x", "labels/a.nii")
    fit = read_two_folders(only_labels, Choice())
    assert isinstance(fit, NoFit)
    assert "labels/" in fit.found
    several = read_images_only(touch(tmp_path / "y", "scans/a.nii", "images/a.nii"), Choice())
    assert isinstance(several, NoFit)
    assert "several" in several.found


def test_a_part_without_volumes_is_an_error(tmp_path):
    touch(tmp_path, "imagesTr/notes.txt", "labelsTr/a.nii")
    with pytest.raises(DataError, match="no images"):
        read_parts(tmp_path, Choice())


def test_ignore_and_regions_of_dataset_json_come_along(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii", "labelsTr/a.nii")
    content = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    folder = found(tmp_path)
    assert folder.class_values == {"whole_only": (1,), "core": (2,)}
    assert folder.ignore_values == (3,)
    assert [region.paints for region in folder.regions] == ["whole_only", "core"]
