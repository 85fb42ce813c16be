import json

import numpy as np
import phantoms
import pytest

from pipeline.core.errors import DataError
from pipeline.evaluate.task import MAX_FOUND_VALUES, find_task
from pipeline.io.discover import list_volumes


def references(folder, *arrays):
    for number, array in enumerate(arrays):
        phantoms.write_nifti(folder / f"case_{number}.nii.gz", array, np.eye(4))
    return list_volumes(folder)


def label(*values):
    array = np.zeros((4, 4, 4), dtype=np.int16)
    array.flat[: len(values)] = values
    return array


@pytest.mark.parametrize(
    "labels",
    [{"0": "background", "2": "liver", "5": "tumour"}, {"background": 0, "liver": 2, "tumour": 5}],
)
@pytest.mark.parametrize("place", [".", ".."])
def test_names_come_from_dataset_json_in_or_beside_the_folder(tmp_path, labels, place):
    folder = tmp_path / "labelsTr"
    found = references(folder, label(2))
    (folder / place / "dataset.json").write_text(json.dumps({"labels": labels}))
    classes = find_task(found).classes
    assert [(c.name, c.index, c.source_values) for c in classes] == [
        ("liver", 1, (2,)),
        ("tumour", 2, (5,)),
    ]


def test_without_a_description_every_value_is_a_class(tmp_path):
    task = find_task(references(tmp_path / "ref", label(2), label(9, 2), label()))
    assert [(c.name, c.source_values) for c in task.classes] == [
        ("class_2", (2,)),
        ("class_9", (9,)),
    ]


def test_a_damaged_reference_does_not_hide_the_classes(tmp_path):
    found = references(tmp_path / "ref", label(1), label(2))
    found["case_1"].write_bytes(b"not a volume")
    assert find_task(found).class_names == ("class_1",)


def test_images_are_not_taken_for_labels(tmp_path):
    image = np.arange(12**3, dtype=np.int16).reshape(12, 12, 12)
    assert image.size > MAX_FOUND_VALUES
    with pytest.raises(DataError, match="different values"):
        find_task(references(tmp_path / "ref", image))


def test_empty_references_are_refused(tmp_path):
    with pytest.raises(DataError, match="no structure"):
        find_task(references(tmp_path / "ref", label()))


def test_the_ignore_label_and_regions_of_nnunet_are_understood(tmp_path):
    found = references(tmp_path / "labelsTr", label(1, 2, 3))
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    description = {"labels": labels, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    task = find_task(found)
    assert task.ignore_values == (3,)
    assert [region.name for region in task.regions] == ["whole", "core"]
