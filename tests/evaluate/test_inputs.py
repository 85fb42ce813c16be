import numpy as np
import phantoms
import pytest

from pipeline.core.errors import UsageError, VoxlineError
from pipeline.evaluate.inputs import input_from_folders
from pipeline.io.load import load_volume


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "two_folders"])
def test_a_dataset_folder_or_its_labels_mean_the_same(tmp_path, layout):
    dataset = phantoms.write_dataset(tmp_path / "livers", 2, layout=layout)
    labels = dataset / ("labels" if layout == "two_folders" else "labelsTr")
    given = (
        input_from_folders(tmp_path / "p", folder, out_root=tmp_path / "out")
        for folder in (dataset, labels)
    )
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
    source = input_from_folders(tmp_path, file.parent, out_root=tmp_path)
    assert (source.dataset_name, source.images) == ("raters", {})


def test_images_without_labels_are_no_reference(tmp_path):
    dataset = phantoms.write_dataset(tmp_path / "d", 1)
    for file in (dataset / "labelsTr").iterdir():
        file.unlink()
    (dataset / "labelsTr").rmdir()
    with pytest.raises(VoxlineError):
        input_from_folders(tmp_path, dataset, out_root=tmp_path)


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        input_from_folders(tmp_path, tmp_path / "nowhere", out_root=tmp_path)


@pytest.mark.parametrize("has_images", [True, False])
@pytest.mark.parametrize("place", ["", "labels"])
def test_folders_of_masks_are_merged(tmp_path, has_images, place):
    """With the images of the cases in each folder, beside all of them, or nowhere."""
    _, label, affine = phantoms.case(0, (16, 16, 16), (1, 1, 2))
    for case_id in ("a", "b"):
        folder = tmp_path / "set" / place / case_id
        masks = folder / "masks" if has_images and not place else folder
        for value, name in enumerate(("liver", "kidney"), start=1):
            mask = (label == value).astype(np.uint8)
            phantoms.write_nifti(masks / f"{name}.nii.gz", mask, affine)
        if has_images:
            file = f"../images/{case_id}.nii.gz" if place else "ct.nii.gz"
            phantoms.write_nifti(
                folder / file if not place else folder.parent / file, label, affine
            )
    source = input_from_folders(tmp_path, tmp_path / "set" / place, out_root=tmp_path / "out")
    assert source.dataset_name == "set"
    assert set(source.images) == ({"a", "b"} if has_images else set())
    assert source.task is not None
    assert [(c.name, c.source_values) for c in source.task.classes] == [
        ("kidney", (1,)),
        ("liver", (2,)),
    ]
    _, merged = load_volume(source.references["b"], root=tmp_path, role="label")
    assert np.array_equal(merged.array, np.array([0, 2, 1])[label])
    assert source.references["b"] == tmp_path / "out" / "set" / "references" / "b.nii.gz"
