import numpy as np
import phantoms
import pytest

from pipeline.core.errors import UsageError, VoxlineError
from pipeline.evaluate.inputs import input_from_folders


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "two_folders"])
def test_a_dataset_folder_or_its_labels_mean_the_same(tmp_path, layout):
    dataset = phantoms.write_dataset(tmp_path / "livers", 2, layout=layout)
    labels = dataset / ("labels" if layout == "two_folders" else "labelsTr")
    given = input_from_folders(tmp_path / "p", dataset), input_from_folders(tmp_path / "p", labels)
    for source in given:
        assert source.dataset_name == "livers"
        assert {c: f.parent for c, f in source.references.items()} == {
            "case_000": labels,
            "case_001": labels,
        }
        assert set(source.images) == {"case_000", "case_001"}
        assert all("images" in str(file) for file in source.images.values())


def test_a_plain_folder_of_labels_needs_no_images(tmp_path):
    file = phantoms.write_nifti(tmp_path / "raters" / "a.nii.gz", np.zeros((3, 3, 3)), np.eye(4))
    source = input_from_folders(tmp_path, file.parent)
    assert (source.dataset_name, source.images) == ("raters", {})


def test_images_without_labels_are_no_reference(tmp_path):
    dataset = phantoms.write_dataset(tmp_path / "d", 1)
    for file in (dataset / "labelsTr").iterdir():
        file.unlink()
    (dataset / "labelsTr").rmdir()
    with pytest.raises(VoxlineError):
        input_from_folders(tmp_path, dataset)


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        input_from_folders(tmp_path, tmp_path / "nowhere")
