"""Series folders, and the labels that belong to them."""

import shutil

import numpy as np
import phantoms
import pytest

pytest.importorskip("pydicom")
import dicom_phantoms
from trees import files_of, found

from pipeline.core.errors import DataError
from pipeline.io.discover import discover

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
VOXELS = np.zeros((8, 8, 3), np.int16)
SQUARE = np.array([[-2.0, -2, 2], [-5, -2, 2], [-5, -5, 2], [-2, -5, 2]])


def series(folder):
    """A series, and a function that makes an RTSTRUCT on it."""
    slices = dicom_phantoms.series_slices(VOXELS, AFFINE)
    dicom_phantoms.save(folder, slices)
    return lambda **regions: dicom_phantoms.rtstruct(
        slices, {name: [SQUARE] for name in regions or ("heart",)}
    )


def test_a_label_belongs_to_the_series_it_refers_to(tmp_path):
    first = series(tmp_path / "p1" / "ct")
    series(tmp_path / "p1" / "scout")
    second = series(tmp_path / "p2" / "image")
    dicom_phantoms.save(tmp_path / "p1" / "scout", [first(heart=1, lung=1)], "rt{}.dcm")
    dicom_phantoms.save(tmp_path / "p2" / "mask", [second(heart=1)], "rt{}.dcm")
    folder = found(tmp_path)
    assert folder.layout == "dicom"
    assert files_of(folder) == {
        "p1": (["p1/ct"], "p1/scout/rt0.dcm"),
        "p2": (["p2/image"], "p2/mask/rt0.dcm"),
    }
    assert folder.class_values == {"heart": (1,), "lung": (2,)}
    assert folder.cases[1].label_values == folder.class_values
    assert "1 series beside labelled ones left out" in folder.reason
    (doubt,) = folder.problems
    assert "of 2: lung in 1 cases;" in doubt.message


def test_copies_of_a_series_have_a_label_each(tmp_path):
    """One scan, drawn on by two readers, in a folder of each."""
    label = series(tmp_path / "a" / "ct")
    dicom_phantoms.save(tmp_path / "a" / "ct" / "extra", [label()], "rt{}.dcm")
    for name in ("b", "c"):
        shutil.copytree(tmp_path / "a", tmp_path / name)
    assert files_of(found(tmp_path)) == {
        name: ([f"{name}/ct"], f"{name}/ct/extra/rt0.dcm") for name in ("a", "b", "c")
    }
    (tmp_path / "c" / "ct" / "extra" / "rt0.dcm").rename(tmp_path / "rt.dcm")
    folder = found(tmp_path)
    assert [problem.file for problem in folder.problems] == ["rt.dcm", "c/ct"]


def test_several_labelled_series_of_a_patient_are_several_cases(tmp_path):
    for name in ("ct", "mr"):
        label = series(tmp_path / "p1" / name / "image")
        dicom_phantoms.save(tmp_path / "p1" / name / "mask", [label()], "rt{}.dcm")
    assert list(files_of(found(tmp_path))) == ["p1_ct", "p1_mr"]


def test_a_volume_file_beside_the_only_series_is_its_label(tmp_path):
    series(tmp_path / "p1" / "dicom")
    phantoms.write_nifti(tmp_path / "p1" / "label.nii.gz", VOXELS, AFFINE)
    series(tmp_path / "p2")
    folder = found(tmp_path)
    assert files_of(folder) == {"p1": (["p1/dicom"], "p1/label.nii.gz"), "p2": (["p2"], None)}
    assert [problem.file for problem in folder.problems] == ["p2"]


def test_what_cannot_be_decided_is_named(tmp_path):
    label = series(tmp_path / "p1")
    dicom_phantoms.save(tmp_path / "p1", [label(), label()], "rt{}.dcm")
    stray = series(tmp_path / "elsewhere")
    (tmp_path / "p2").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "p2" / "a")
    series(tmp_path / "p2" / "b")
    lost = stray()
    lost.ReferencedFrameOfReferenceSequence = []
    dicom_phantoms.save(tmp_path / "p2", [lost], "rt{}.dcm")
    messages = [problem.message for problem in found(tmp_path, layout="dicom").problems]
    assert any("several labels for one series: rt0.dcm, rt1.dcm" in m for m in messages)
    assert any("belongs to none of the series" in m for m in messages)


def test_a_series_alone_and_series_as_images_of_other_layouts(tmp_path):
    label = series(tmp_path / "images" / "a")
    assert files_of(found(tmp_path / "images" / "a")) == {"a": (["."], None)}
    dicom_phantoms.save(tmp_path / "labels" / "a", [label()], "rt{}.dcm")
    folder = found(tmp_path)
    assert folder.layout == "two_folders"
    assert files_of(folder) == {"a": (["images/a"], "labels/a/rt0.dcm")}
    assert folder.class_values == {"heart": (1,)}


def test_damaged_files_do_not_stop_the_others(tmp_path):
    series(tmp_path / "p1")
    (tmp_path / "p1" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICMjunk")
    (tmp_path / "x.dcm").touch()
    assert list(files_of(found(tmp_path, layout="dicom"))) == ["p1"]
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "x.dcm").touch()
    with pytest.raises(DataError, match="no images among them"):
        discover(tmp_path / "only", layout="dicom")


def test_real_series(shared_data):
    folder = found(shared_data / "dicom_sts_rtstruct")
    assert len(folder.cases) == 6
    assert all(case.label for case in folder.cases)
    assert set(folder.class_values or ()) == {"GTV_Mass_CT", "GTV_Mass_MR_T1", "GTV_Mass_PET"}
    totalseg = found(shared_data / "dicom_totalseg_ct")
    assert files_of(totalseg) == {
        "dicom_totalseg_ct": (["example_ct_dicom"], "example_seg_dicom.nii.gz")
    }
