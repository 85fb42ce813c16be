from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from dicom_phantoms import save, series_slices
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from phantoms import affine_of
from pydicom.sr.codedict import codes

from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import Geometry
from pipeline.io.dicom.elements import read_dataset
from pipeline.io.dicom.grid import Grid, grid_of
from pipeline.io.dicom.seg import seg_structures, segment_table

SHAPE = (7, 5, 4)  # 35 voxels per frame: frames of single bits do not end at byte borders
AFFINE = affine_of(SHAPE, (0.7, 0.9, 2.5), "LPS", oblique_degrees=20)
HERE = Path("seg.dcm")


@pytest.fixture
def slices():
    return series_slices(np.zeros(SHAPE, np.int16), AFFINE)


def written(file, slices, masks, kind="BINARY", **options):
    """A DICOM-SEG by highdicom; masks have the shape (slice, row, column, segment)."""
    names = ["liver", "left kidney"][: masks.shape[-1] if masks.ndim == 4 else int(masks.max())]
    for dataset in slices:
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(dataset, keyword, "")
        dataset.StudyID = dataset.AccessionNumber = dataset.StudyDate = dataset.StudyTime = ""
    segmentation = Segmentation(
        source_images=slices,
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=[
            SegmentDescription(
                n, name, codes.SCT.Organ, codes.SCT.Liver, SegmentAlgorithmTypeValues.MANUAL
            )
            for n, name in enumerate(names, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    segmentation.save_as(file)
    return file


def some_masks(n_segments=2):
    label = np.random.default_rng(0).integers(0, n_segments + 1, SHAPE[::-1])
    return np.stack([label == n for n in range(1, n_segments + 1)], axis=-1)


def structures_of(file, slices, tmp_path, wanted=None):
    grid = grid_of(save(tmp_path / "series", slices))
    return seg_structures(read_dataset(file, with_pixels=True), grid, file, wanted)


def mask_of(structure):
    mask = np.zeros(SHAPE, bool)
    mask.ravel()[structure.voxels] = True
    return mask


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_come_back_voxel_by_voxel(tmp_path, slices, kind):
    masks = some_masks()
    file = written(tmp_path / "seg.dcm", slices, masks, kind)
    found = structures_of(file, slices, tmp_path)
    assert [(s.name, s.number) for s in found] == [("liver", 1), ("left kidney", 2)]
    for n, structure in enumerate(found):
        np.testing.assert_array_equal(mask_of(structure), masks[..., n].transpose(2, 1, 0))


def test_overlapping_segments_keep_all_their_voxels(tmp_path, slices):
    masks = np.random.default_rng(1).random((*SHAPE[::-1], 2)) > 0.4
    found = structures_of(written(tmp_path / "s.dcm", slices, masks), slices, tmp_path)
    for n, structure in enumerate(found):
        np.testing.assert_array_equal(mask_of(structure), masks[..., n].transpose(2, 1, 0))


def test_only_wanted_segments_are_read(tmp_path, slices):
    file = written(tmp_path / "s.dcm", slices, some_masks())
    found = structures_of(file, slices, tmp_path, wanted={"left kidney"})
    assert [s.voxels.size > 0 for s in found] == [False, True]


def test_true_fractions_are_refused(tmp_path, slices):
    fractions = np.random.default_rng(0).random(SHAPE[::-1])
    file = written(tmp_path / "s.dcm", slices, fractions[..., None], "FRACTIONAL")
    with pytest.raises(FileFormatError, match="fractions") as info:
        structures_of(file, slices, tmp_path)
    assert info.value.check_id == "E03"


def test_frames_of_some_slices_find_their_place(tmp_path, slices):
    masks = some_masks(1)
    masks[1] = False
    file = written(tmp_path / "s.dcm", slices, masks)
    dataset = read_dataset(file, with_pixels=False)
    assert int(dataset.NumberOfFrames) == 3
    (liver,) = structures_of(file, slices, tmp_path)
    np.testing.assert_array_equal(mask_of(liver), masks[..., 0].transpose(2, 1, 0))


@pytest.mark.parametrize("axes", ["LAS", "PLS", "RPI", "SAL"])
def test_planes_in_another_order_or_direction_are_placed(tmp_path, slices, axes):
    """The same grid, cut along other axes: the label is placed by geometry, not by index."""
    masks = some_masks(1)
    file = written(tmp_path / "s.dcm", slices, masks)
    grid = grid_of(save(tmp_path / "series", slices))
    expected = _world_of(masks[..., 0].transpose(2, 1, 0), AFFINE)
    turned, shape = _turned(axes)
    other = Grid(Geometry(shape, turned), grid.series_uid, grid.frame_uid)
    (liver,) = seg_structures(read_dataset(file, with_pixels=True), other, file, None)
    mask = np.zeros(shape, bool)
    mask.ravel()[liver.voxels] = True
    np.testing.assert_allclose(_world_of(mask, turned), expected, atol=1e-6)


def _turned(axes):
    import nibabel as nib

    move = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(axes)
    )
    shape = nib.orientations.apply_orientation(np.zeros(SHAPE), move).shape
    return AFFINE @ nib.orientations.inv_ornt_aff(move, SHAPE), shape


def _world_of(mask, affine):
    points = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return points[np.lexsort(points.round(4).T)]


@pytest.mark.parametrize(
    ("shift_voxels", "scale"), [((0.4, 0, 0), 1.0), ((0, 0, 0.5), 1.0), ((0, 0, 0), 1.3)]
)
def test_planes_on_another_grid_are_refused(tmp_path, slices, shift_voxels, scale):
    file = written(tmp_path / "s.dcm", slices, some_masks())
    grid = grid_of(save(tmp_path / "series", slices))
    affine = AFFINE.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] += AFFINE[:3, :3] @ shift_voxels
    other = Grid(Geometry(SHAPE, affine), grid.series_uid, grid.frame_uid)
    with pytest.raises(FileFormatError, match="planes") as info:
        seg_structures(read_dataset(file, with_pixels=True), other, file, None)
    assert info.value.check_id == "G02"


def test_voxels_outside_the_image_are_counted(tmp_path, slices):
    masks = np.ones((*SHAPE[::-1], 1), bool)
    file = written(tmp_path / "s.dcm", slices, masks)
    grid = grid_of(save(tmp_path / "series", slices))
    cropped = Grid(Geometry((7, 5, 3), grid.geometry.affine), grid.series_uid, grid.frame_uid)
    with pytest.raises(FileFormatError, match="35 voxels of segment 'liver' lie outside") as info:
        seg_structures(read_dataset(file, with_pixels=True), cropped, file, None)
    assert info.value.check_id == "G02"


@pytest.mark.parametrize(
    ("change", "check_id"),
    [
        (lambda d: setattr(d, "PixelData", d.PixelData[:2]), "F04"),
        (lambda d: setattr(d, "SegmentationType", "SOFT"), "F05"),
        (lambda d: setattr(d, "BitsAllocated", 8), "F05"),
        (lambda d: setattr(d, "NumberOfFrames", 99), "F05"),
        (lambda d: d.SegmentSequence.pop(), "F05"),
        (lambda d: d.pop("SegmentSequence"), "F05"),
        (lambda d: d.pop("PerFrameFunctionalGroupsSequence"), "F05"),
        (lambda d: setattr(d, "Rows", 60000), "G02"),
        (lambda d: d.pop("PixelData"), "F05"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, slices, change, check_id):
    file = written(tmp_path / "s.dcm", slices, some_masks())
    dataset = read_dataset(file, with_pixels=True)
    change(dataset)
    grid = grid_of(save(tmp_path / "series", slices))
    with pytest.raises(FileFormatError) as info:
        seg_structures(dataset, grid, file, None)
    assert info.value.check_id in (check_id, "F04")


def test_background_of_a_label_map_is_no_segment(tmp_path, slices):
    file = written(tmp_path / "s.dcm", slices, some_masks(), "LABELMAP")
    dataset = read_dataset(file, with_pixels=False)
    assert segment_table(dataset, file) == {1: "liver", 2: "left kidney"}
