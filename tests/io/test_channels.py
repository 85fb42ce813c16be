"""Channels of one image end on one grid, or the odd one is named."""

import numpy as np
import phantoms
import pytest

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import orientation_of
from pipeline.io.channels import load_image

SHAPE = (4, 5, 6)


def test_channels_with_other_axis_orders_are_joined_in_ras(tmp_path):
    image, _, affine = phantoms.case(0, (20, 22, 24), (1.0, 2.0, 3.0), "RAS")
    turned, _, turned_affine = phantoms.case(0, (20, 22, 24), (1.0, 2.0, 3.0), "PIL")
    files = (
        phantoms.write_nifti(tmp_path / "a_0000.nii", turned, turned_affine),
        phantoms.write_nifti(tmp_path / "a_0001.nii", image + 1000, affine),
    )
    joined = load_image(files, root=tmp_path)
    assert joined.facts.file == "a_0000.nii"
    assert (joined.native.shape, joined.native.orientation) == (turned.shape, "PIL")
    assert orientation_of(joined.volume.affine) == "RAS"
    np.testing.assert_allclose(joined.volume.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(joined.volume.array, np.stack([image, image + 1000]))
    single = load_image(files[:1], root=tmp_path)
    np.testing.assert_array_equal(single.volume.array, image[np.newaxis])


@pytest.mark.parametrize(("shift_mm", "is_refused"), [(0.4, False), (0.6, True)])
def test_channels_on_different_grids_are_refused_by_name(tmp_path, shift_mm, is_refused):
    array = np.zeros(SHAPE, np.uint8)
    moved = np.eye(4)
    moved[0, 3] = shift_mm
    files = (
        phantoms.write_nifti(tmp_path / "a.nii", array, np.eye(4)),
        phantoms.write_nifti(tmp_path / "b.nii", array, moved),
    )
    if not is_refused:
        assert load_image(files, root=tmp_path).volume.array.shape == (2, *SHAPE)
        return
    with pytest.raises(FileFormatError, match="channel 1") as caught:
        load_image(files, root=tmp_path)
    assert (caught.value.check_id, caught.value.where) == ("G15", "b.nii")


def test_another_shape_is_named(tmp_path):
    files = (
        phantoms.write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8), np.eye(4)),
        phantoms.write_nifti(tmp_path / "b.nii", np.zeros((4, 5, 7), np.uint8), np.eye(4)),
    )
    with pytest.raises(FileFormatError, match=r"shape \(4, 5, 7\)"):
        load_image(files, root=tmp_path)


def test_real_stroke_channels_lie_on_different_grids(shared_data):
    folder = shared_data / "stroke_isles22_sample" / "rawdata"
    files = sorted(folder.rglob("*.nii.gz"))
    with pytest.raises(FileFormatError) as caught:
        load_image(files, root=folder)
    assert caught.value.check_id == "G15"


def test_real_ms_channels_fit_together(shared_data):
    folder = shared_data / "ms_lesion" / "patient07"
    files = sorted(path for path in folder.glob("*.nii.gz") if "GOLD" not in path.name)
    image = load_image(files[:2], root=folder)
    assert image.volume.array.shape == (2, 182, 218, 182)
    assert image.native.orientation == "LAS"


def test_joined_channels_lie_as_the_store_wants_them(tmp_path):
    array = np.arange(120, dtype=np.uint8).reshape(SHAPE)
    files = (
        phantoms.write_nifti(tmp_path / "a.nii", array, np.eye(4)),
        phantoms.write_nifti(tmp_path / "b.nii", array.astype(np.int16) - 500, np.eye(4)),
    )
    joined = load_image(files, root=tmp_path).volume.array
    assert joined.flags.c_contiguous
    assert joined.dtype == np.int16
    np.testing.assert_array_equal(joined, np.stack([array, array - np.int16(500)]))
