"""Every DICOM series and label of the shared data: read as the reference does, or refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.artifacts import FileFacts
from pipeline.core.errors import FileFormatError
from pipeline.core.geometry import corner_displacement_voxels
from pipeline.core.volume import Volume, to_ras
from pipeline.io.dicom.find import find_series, label_kind
from pipeline.io.dicom.load import load_dicom_label, load_series
from pipeline.io.dicom.write_seg import write_dicom_seg
from pipeline.io.load import LabelContext

DCMQI = "dicom_dcmqi_seg"
STS = "dicom_sts_rtstruct"
MOCK = "dicom_rt_utils/mock_data"
PROSTATE = "prostatex_0000/07-07-2011"
T2 = f"{PROSTATE}/4.000000-t2tsetra-00702"
TOTALSEG = "dicom_totalseg_ct/example_ct_dicom"

# Folder (or multi-frame file) to what becomes of it.
SERIES = {
    f"{DCMQI}/23x38x3/image": "ok",
    f"{DCMQI}/23x38x3/multiframe": "ok",
    f"{DCMQI}/24x38x3/image": "ok",
    f"{DCMQI}/24x38x3/multiframe": "ok",
    f"{DCMQI}/ct-3slice": "ok",
    "dicom_highdicom": "F06",  # a single slice
    MOCK: "ok",
    "dicom_rt_utils/one_slice_data": "F06",
    "dicom_rt_utils/oriented_data": "ok",
    **{f"{STS}/STS_00{n}/{kind}/image": "ok" for n in (2, 3) for kind in ("CT", "MR_T1", "PET")},
    TOTALSEG: "ok",
    T2: "ok",
    f"{PROSTATE}/7.000000-ep2ddifftraDYNDISTADC-48780": "ok",
    f"{PROSTATE}/8.000000-ep2ddifftraDYNDISTCALCBVAL-83202": "ok",
    # Two slices moved 0.3 degrees off their normal: read as sheared, SimpleITK drops the shear.
    "weird_nifti/nibabel": "sheared",
    "weird_nifti/niivue_tests": "ok",
}

# Label file, the image it is read with, and the number of voxels per value, or the check id.
CT3 = f"{DCMQI}/ct-3slice"
TOY = f"{DCMQI}/24x38x3/image"
LABELS = {
    (f"{DCMQI}/liver.dcm", CT3): {1: 107_098},
    (f"{DCMQI}/partial_overlaps.dcm", CT3): "E10",
    (f"{DCMQI}/sparse-labelmap-noppv.dcm", TOY): {1: 630},
    (f"{DCMQI}/sparse-labelmap-ppv5.dcm", TOY): {1: 630},
    (f"{DCMQI}/23x38x3/seg/label.seg", f"{DCMQI}/23x38x3/image"): {1: 322},
    (f"{DCMQI}/23x38x3/seg/label.seg", TOY): "G02",
    (f"{DCMQI}/24x38x3/seg/label.seg", TOY): {1: 315},
    (f"{DCMQI}/24x38x3/seg/label.seg", f"{DCMQI}/24x38x3/multiframe"): {1: 315},
    **{
        (f"{STS}/STS_00{n}/{kind}/mask/RS.dcm", f"{STS}/STS_00{n}/{kind}/image"): {1: n_voxels}
        for n, kind, n_voxels in (
            *((2, "CT", 17_090), (2, "MR_T1", 17_090), (2, "PET", 555)),
            *((3, "CT", 25_693), (3, "MR_T1", 25_693), (3, "PET", 817)),
        )
    },
    (f"{STS}/STS_002/CT/mask/RS.dcm", f"{STS}/STS_003/CT/image"): "G02",
    # Right series, but a frame of reference of its own: an old fault of rt-utils.
    (f"{MOCK}/rt.dcm", MOCK): {1: 1_443},
    # One of three slices with contours is not there.
    (f"{MOCK}/invalid_reference_rt.dcm", MOCK): {1: 4_976, 2: 3_697, 3: 4_519, 4: 6_954},
    (f"{MOCK}/non_existent_reference_rt.dcm", MOCK): {1: 4_976, 2: 3_697, 3: 4_519, 4: 6_954},
    ("dicom_rt_utils/empty/dummy_rt.dcm", "dicom_rt_utils/empty"): "F01",
    # Their source series is not there; the one slice beside them is no volume.
    ("dicom_highdicom/seg_image_ct_binary.dcm", CT3): "G02",
    ("dicom_highdicom/seg_image_ct_binary_fractional.dcm", CT3): "G02",
    ("dicom_highdicom/seg_image_ct_binary_overlap.dcm", CT3): "G02",
    ("dicom_highdicom/seg_image_ct_binary_single_frame.dcm", "dicom_highdicom"): "F06",
    ("dicom_highdicom/seg_image_ct_true_fractional.dcm", CT3): "G02",
}


def image_of(path: Path) -> Path:
    """The one multi-frame file of a folder that holds it among others, else the folder."""
    named = {"multiframe": "mf.dcm", "niivue_tests": "enh.dcm"}
    return path / named[path.name] if path.name in named else path


def by_simpleitk(path: Path) -> Volume:
    if path.is_dir():
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        image = SimpleITK.ReadImage(names)
    else:
        image = SimpleITK.ReadImage(str(path))
    return as_volume(image)


def as_volume(image: SimpleITK.Image) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def test_the_tables_name_every_file(shared_data):
    folders = {s.folder.relative_to(shared_data).as_posix() for s in find_series(shared_data)}
    assert folders == set(SERIES)
    labels = {
        file.relative_to(shared_data).as_posix()
        for folder in shared_data.glob("dicom_*")
        for file in folder.rglob("*")
        if file.is_file() and label_kind(file) is not None
    }
    assert labels == {label for label, _ in LABELS}


@pytest.mark.parametrize("folder", SERIES)
def test_a_series_is_read_as_simpleitk_does_or_refused(shared_data, folder):
    path, expected = image_of(shared_data / folder), SERIES[folder]
    if expected.startswith("F"):
        with pytest.raises(FileFormatError) as info:
            load_series(path, root=shared_data)
        assert info.value.check_id == expected
        return
    facts, volume = load_series(path, root=shared_data)
    reference = by_simpleitk(path)
    tolerance_mm = 0.02 if expected == "sheared" else 1e-4
    np.testing.assert_allclose(volume.affine, reference.affine, atol=tolerance_mm)
    np.testing.assert_allclose(volume.array[0], reference.array, rtol=1e-6)
    assert (facts.shear_degrees > 0.1) == (expected == "sheared")


@pytest.mark.parametrize(("label", "image"), LABELS)
def test_a_label_has_its_voxels_or_is_refused(shared_data, label, image):
    expected = LABELS[(label, image)]
    context = LabelContext(image_of(shared_data / image), None)
    if isinstance(expected, str):
        with pytest.raises(FileFormatError) as info:
            load_dicom_label(shared_data / label, root=shared_data, context=context)
        assert info.value.check_id == expected
        return
    facts, volume = load_dicom_label(shared_data / label, root=shared_data, context=context)
    values, counts = np.unique(volume.array[volume.array > 0], return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == expected
    assert sorted(facts.segments.values()) == sorted(expected)


@pytest.mark.parametrize(
    ("label", "image", "nrrd"),
    [
        ("liver.dcm", "ct-3slice", "liver_seg.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/image", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/image", "24x38x3/nrrd/label.nrrd"),
    ],
)
def test_a_segmentation_equals_the_volume_it_was_made_of(shared_data, label, image, nrrd):
    folder = shared_data / DCMQI
    context = LabelContext(folder / image, None)
    _, found = load_dicom_label(folder / label, root=folder, context=context)
    reference = as_volume(SimpleITK.ReadImage(str(folder / nrrd)))
    np.testing.assert_array_equal(to_ras(found).array > 0, to_ras(reference).array > 0)
    np.testing.assert_allclose(to_ras(found).affine, to_ras(reference).affine, atol=1e-3)


@pytest.mark.parametrize(("name", "value"), [("GREEN", 1), ("ORANGE", 2), ("PURPLE", 3)])
def test_one_of_several_overlapping_segments_can_be_chosen(shared_data, name, value):
    context = LabelContext(shared_data / CT3, {name: (value,)})
    file = shared_data / DCMQI / "partial_overlaps.dcm"
    facts, volume = load_dicom_label(file, root=shared_data, context=context)
    assert facts.segments == {name: value}
    assert np.unique(volume.array).tolist() == [0, value]


def test_dicom_and_nifti_of_one_case_are_voxel_identical(shared_data):
    _, series = load_series(shared_data / T2, root=shared_data)
    image = nib.load(shared_data / "prostatex_0000" / "Prostatex_0000.nii.gz")
    nifti = to_ras(Volume(np.asanyarray(image.dataobj), image.affine))
    found = to_ras(Volume(series.array[0], series.affine))
    np.testing.assert_array_equal(found.array, nifti.array)
    # The converter straightened the axes a little: 0.06 mm at the far corners.
    assert corner_displacement_voxels(found.geometry, nifti.geometry) < 0.15


def test_spacing_comes_from_positions_and_the_label_fits(shared_data):
    facts, series = load_series(shared_data / TOTALSEG, root=shared_data)
    assert facts.pixdim_mm[2] == pytest.approx(2.0)  # SliceThickness says 3
    image = nib.load(shared_data / "dicom_totalseg_ct" / "example_seg_dicom.nii.gz")
    label = to_ras(Volume(np.asanyarray(image.dataobj), image.affine))
    found = to_ras(series)
    assert label.shape == found.shape
    np.testing.assert_allclose(label.affine, found.affine, atol=1e-3)
    assert len(np.unique(label.array)) == 1 + 31
    # Lungs are dark, bones bright: the label lies where it belongs, not mirrored.
    outside = found.array[0][label.array == 0].mean()
    assert found.array[0][np.isin(label.array, range(69, 117))].mean() > outside + 200


def test_contours_cover_what_their_polygons_enclose(shared_data):
    """Area by the shoelace formula times the slice distance, against voxels times voxel volume."""
    from pydicom import dcmread

    file = shared_data / STS / "STS_003" / "CT" / "mask" / "RS.dcm"
    context = LabelContext(shared_data / STS / "STS_003" / "CT" / "image", None)
    _, volume = load_dicom_label(file, root=shared_data, context=context)
    enclosed_mm3 = 0.0
    for contour in dcmread(file).ROIContourSequence[0].ContourSequence:
        x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
        enclosed_mm3 += 3.27 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    voxel_mm3 = abs(np.linalg.det(volume.affine[:3, :3]))
    assert np.count_nonzero(volume.array) * voxel_mm3 == pytest.approx(enclosed_mm3, rel=2e-3)


@pytest.mark.parametrize("folder", [CT3, T2, TOTALSEG, "dicom_rt_utils/oriented_data"])
def test_a_written_segmentation_comes_back_identical(shared_data, tmp_path, folder):
    source = shared_data / folder
    _, image = load_series(source, root=shared_data)
    low, high = np.quantile(image.array[0], (0.6, 0.9))
    label = ((image.array[0] > low).astype(np.uint8) + (image.array[0] > high)).astype(np.uint8)
    write_dicom_seg(
        tmp_path / "seg.dcm",
        Volume(label, image.affine),
        source_folder=source,
        class_names=("gray", "bright"),
        values=(1, 2),
        model_name="threshold",
    )
    context = LabelContext(source, None)
    facts, found = load_dicom_label(tmp_path / "seg.dcm", root=tmp_path, context=context)
    np.testing.assert_array_equal(found.array, label)
    np.testing.assert_array_equal(found.affine, image.affine)
    assert isinstance(facts, FileFacts)
    assert facts.segments == {"gray": 1, "bright": 2}
