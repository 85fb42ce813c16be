import nibabel as nib
import numpy as np
import pytest
from export_builders import info_with, untrained
from phantoms import case, write_dataset

from pipeline.core.errors import UsageError
from pipeline.core.volume import Volume
from pipeline.infer.predict import predict_case
from pipeline.infer.served import segment_array, segment_folder


@pytest.fixture(scope="module")
def model():
    return untrained(info_with(spacing_mm=(2.0, 2.0, 2.5), source_values=((5,), (6,))))


def test_lists_give_what_arrays_give(model):
    image, _, affine = case(0, (16, 18, 16), (2.0, 2.0, 2.0), "LPS")
    expected = predict_case(model, Volume(image[np.newaxis], affine)).array
    for given in (image, image[np.newaxis], image.tolist()):
        found = segment_array(model, given, affine.tolist())
        assert np.array_equal(found, expected)
    assert set(np.unique(expected)) <= {0, 5, 6}


@pytest.mark.parametrize(
    ("image", "affine"),
    [
        (np.zeros((4, 4)), np.eye(4)),
        (np.zeros((4, 4, 4)), np.eye(3)),
        ([[[1.0, 2.0], [3.0]]], np.eye(4)),
        ("text", np.eye(4)),
    ],
)
def test_what_is_no_image_with_an_affine_is_refused(model, image, affine):
    with pytest.raises(UsageError) as caught:
        segment_array(model, image, affine)
    assert "affine" in caught.value.fix


def test_a_folder_is_segmented_and_a_broken_file_named(model, tmp_path):
    images = write_dataset(tmp_path / "data", 3, shape=(16, 18, 16)) / "imagesTr"
    (images / "case_001.nii.gz").write_bytes(b"no image")
    rows = segment_folder(model, images, tmp_path / "out")
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["file"] == ""
    assert rows[1]["message"]
    for row in (rows[0], rows[2]):
        source, found = nib.load(images / f"{row['case_id']}.nii.gz"), nib.load(row["file"])
        expected = predict_case(model, Volume(np.asarray(source.dataobj)[None], source.affine))
        assert np.array_equal(np.asarray(found.dataobj), expected.array)
        assert np.allclose(found.affine, source.affine)


def test_images_are_never_overwritten(model, tmp_path):
    images = write_dataset(tmp_path / "data", 1) / "imagesTr"
    with pytest.raises(UsageError, match="not empty"):
        segment_folder(model, images, images)
    with pytest.raises(UsageError, match="no such image folder"):
        segment_folder(model, tmp_path / "nowhere", tmp_path / "out")
