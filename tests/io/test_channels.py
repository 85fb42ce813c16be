"""Channels in several files make one image, or are refused with the reason."""

import numpy as np
import pytest
from phantoms import affine_of, write_nifti

from pipeline.core.errors import FileFormatError
from pipeline.io.channels import load_image

SHAPE = (8, 9, 10)


def test_channels_in_different_orientations_are_joined_in_ras(tmp_path):
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    affine = affine_of(SHAPE, (1.0, 2.0, 3.0))
    flipped = affine.copy()
    flipped[:3, 0] *= -1
    flipped[:3, 3] = affine[:3, 3] + affine[:3, 0] * (SHAPE[0] - 1)
    write_nifti(tmp_path / "a.nii.gz", array, affine)
    write_nifti(tmp_path / "b.nii.gz", array[::-1], flipped)
    image = load_image([tmp_path / "b.nii.gz", tmp_path / "a.nii.gz"], root=tmp_path)
    assert image.volume.array.shape == (2, *SHAPE)
    assert np.array_equal(image.volume.array[0], array)
    assert np.array_equal(image.volume.array[1], array)
    assert image.native.orientation == "LAS"
    assert image.facts.file == "b.nii.gz"


@pytest.mark.parametrize("shift_voxels", [0.0, 0.4, 0.6])
def test_channels_elsewhere_are_refused(tmp_path, shift_voxels):
    affine = affine_of(SHAPE, (1.0, 1.0, 1.0))
    moved = affine.copy()
    moved[0, 3] += shift_voxels
    write_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.int16), affine)
    write_nifti(tmp_path / "b.nii.gz", np.zeros(SHAPE, np.int16), moved)
    files = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    if shift_voxels <= 0.5:
        assert load_image(files, root=tmp_path).volume.array.shape == (2, *SHAPE)
        return
    with pytest.raises(FileFormatError, match=r"another grid than a.nii.gz.*0.60 voxels") as raised:
        load_image(files, root=tmp_path)
    assert raised.value.check_id == "G15"


def test_channels_of_another_shape_are_refused(tmp_path):
    affine = affine_of(SHAPE, (1.0, 1.0, 1.0))
    write_nifti(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.int16), affine)
    write_nifti(tmp_path / "b.nii.gz", np.zeros((8, 9, 9), np.int16), affine)
    with pytest.raises(FileFormatError, match="shape"):
        load_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"], root=tmp_path)
