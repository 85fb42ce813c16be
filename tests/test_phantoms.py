"""The builders themselves: what other tests take for granted."""

import json

import nibabel as nib
import numpy as np
import phantoms
import pytest
from scipy import ndimage


def test_ball_has_the_volume_of_a_ball():
    mask = phantoms.ball((41, 41, 41), (20, 20, 20), 15)
    assert mask.sum() == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.01)
    assert mask[20, 20, 5]
    assert not mask[20, 20, 4]


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("n_classes", [1, 3, 5])
def test_a_case_holds_every_class_in_one_piece_off_the_border(orientation, n_classes):
    image, label, affine = phantoms.case(5, (24, 28, 20), (2, 2, 3), orientation, n_classes)
    assert image.dtype == np.float32
    assert image.shape == label.shape
    assert "".join(nib.aff2axcodes(affine)) == orientation
    assert np.unique(label).tolist() == list(range(n_classes + 1))
    assert all(ndimage.label(label == c)[1] == 1 for c in range(1, n_classes + 1))
    assert label[1:-1, 1:-1, 1:-1].sum() == label.sum()
    right_mm = nib.affines.apply_affine(affine, np.argwhere(label == 1).mean(axis=0))
    assert right_mm[0] > 0


def test_the_same_seed_gives_the_same_case():
    one, two = (phantoms.case(9, (20, 20, 20), (1, 1, 1)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("layout", ["decathlon", "nnunet", "two_folders"])
def test_layouts_pair_up(tmp_path, layout):
    n_channels = 1 if layout == "two_folders" else 2
    phantoms.write_dataset(tmp_path, 3, 0, layout=layout, n_channels=n_channels)
    images, labels = sorted(p for p in tmp_path.iterdir() if p.is_dir())
    assert len(list(labels.glob("case_*.nii.gz"))) == 3
    assert len(list(images.iterdir())) == (6 if layout == "nnunet" else 3)
    assert (tmp_path / "dataset.json").is_file() == (layout != "two_folders")
    image = nib.load(min(images.iterdir()))
    label = nib.load(min(labels.iterdir()))
    assert image.shape == ((*label.shape, 2) if layout == "decathlon" else label.shape)
    np.testing.assert_array_equal(image.affine, label.affine)
    if layout == "nnunet":
        labels_said = json.loads((tmp_path / "dataset.json").read_text())["labels"]
        assert labels_said == {"background": 0, "liver": 1, "kidney": 2}
