"""The demo data set: equal bytes for equal seeds, varied like a clinic's export, without faults."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import make_demo_dataset as demo

N_CASES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "dataset"
    assert demo.make_dataset(folder, n_cases=N_CASES, seed=3)
    return folder


@pytest.fixture(scope="module")
def cases():
    """One case per scanner protocol."""
    return [demo.make_case(3, number) for number in range(len(demo.PROTOCOLS))]


def test_the_same_seed_gives_the_same_bytes(folder, tmp_path):
    image, label, affine = demo.make_case(3, 1)
    demo.write_nifti(tmp_path / "image.nii.gz", image, affine)
    demo.write_nifti(tmp_path / "label.nii.gz", label, affine)
    for name, part in (("image", "imagesTr"), ("label", "labelsTr")):
        expected = (folder / part / "demo_002.nii.gz").read_bytes()
        assert (tmp_path / f"{name}.nii.gz").read_bytes() == expected


def test_another_seed_gives_another_patient():
    one, other = demo.make_case(3, 0), demo.make_case(4, 0)
    assert one[0].shape != other[0].shape or not np.array_equal(one[0], other[0])


def test_the_folder_is_what_dataset_json_says(folder):
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"0": "background", "1": "liver", "2": "kidney", "3": "tumor"}
    assert description["modality"] == {"0": "CT"}
    assert description["numTraining"] == len(description["training"]) == N_CASES
    assert description["numTest"] == len(description["test"]) == demo.N_HELD_OUT
    listed = {name for pair in description["training"] for name in pair.values()}
    listed |= set(description["test"])
    listed |= {name.replace("images", "labels") for name in description["test"]}
    present = {f"./{file.relative_to(folder)}" for file in folder.rglob("*.nii.gz")}
    assert present == listed


def test_scanners_differ(cases):
    affines = [affine for _, _, affine in cases]
    assert len({"".join(nib.aff2axcodes(affine)) for affine in affines}) >= 4
    spacings = [tuple(np.round(nib.affines.voxel_sizes(affine), 3)) for affine in affines]
    assert len(set(spacings)) >= 5
    assert max(max(s) / min(s) for s in spacings) > 1.4
    tilts_degrees = [np.degrees(nib.affines.obliquity(affine)).max() for affine in affines]
    assert sum(10 <= tilt <= 20 for tilt in tilts_degrees) == 1


@pytest.mark.parametrize("number", range(len(demo.PROTOCOLS)))
def test_a_case_is_a_plausible_ct(cases, number):
    image, label, affine = cases[number]
    protocol = demo.PROTOCOLS[number]
    assert image.dtype == np.int16
    assert label.dtype == np.uint8
    assert image.shape == label.shape
    assert "".join(nib.aff2axcodes(affine)) == protocol.orientation
    assert image.min() == demo.HU_LIMITS[0]
    assert 250 < image.max() < 1500
    assert (image < -900).mean() > 0.1
    n_voxels = np.bincount(label.ravel())
    assert len(n_voxels) == 4
    assert 100 <= n_voxels[3] <= 600
    liver_hu, kidney_hu, tumor_hu = (np.median(image[label == c]) for c in (1, 2, 3))
    assert kidney_hu > liver_hu + 25
    assert 20 < liver_hu - tumor_hu < 80


@pytest.mark.parametrize("number", range(len(demo.PROTOCOLS)))
def test_the_liver_is_on_the_right_and_kidneys_are_two(cases, number):
    _, label, affine = cases[number]
    middle_mm = nib.affines.apply_affine(affine, (np.array(label.shape) - 1) / 2)
    liver_mm = nib.affines.apply_affine(affine, np.argwhere(label == demo.LIVER).mean(axis=0))
    assert liver_mm[0] > middle_mm[0] + 20
    parts, n_parts = ndimage.label(label == demo.KIDNEY, np.ones((3, 3, 3)))
    assert n_parts == 2
    sides = [
        nib.affines.apply_affine(affine, np.argwhere(parts == p).mean(axis=0))[0] for p in (1, 2)
    ]
    assert min(sides) < middle_mm[0] < max(sides)


def test_no_threshold_finds_the_organs(cases):
    image, label, _ = cases[0]
    liver = label == demo.LIVER
    low, high = np.percentile(image[liver], (2, 98))
    guess = (image >= low) & (image <= high)
    dice = 2 * (guess & liver).sum() / (guess.sum() + liver.sum())
    assert dice < 0.75


def test_no_crumbs_are_left(cases):
    for _, label, _ in cases:
        for class_index in (1, 2, 3):
            parts, _ = ndimage.label(label == class_index, np.ones((3, 3, 3)))
            assert np.bincount(parts.ravel())[1:].min() >= 8


def test_headers_are_proper(folder):
    image = nib.load(folder / "imagesTr" / "demo_001.nii.gz")
    label = nib.load(folder / "labelsTr" / "demo_001.nii.gz")
    for volume in (image, label):
        sform, sform_code = volume.get_sform(coded=True)
        qform, qform_code = volume.get_qform(coded=True)
        assert sform_code == qform_code == 1
        np.testing.assert_allclose(sform, qform, atol=1e-3)
        assert volume.header.get_xyzt_units()[0] == "mm"
        assert volume.header["scl_slope"] in (1.0,) or np.isnan(volume.header["scl_slope"])
    np.testing.assert_array_equal(image.affine, label.affine)


def test_a_complete_folder_is_left_alone(folder, capsys, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert not demo.make_dataset(folder, n_cases=N_CASES, seed=3)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    arguments = ["make_demo_dataset.py", str(folder), "--n-cases", str(N_CASES), "--seed", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert demo.main() == 0
    assert "nothing to do" in capsys.readouterr().out


def test_files_of_somebody_else_are_never_replaced(tmp_path, capsys, monkeypatch):
    precious = tmp_path / "thesis.txt"
    precious.write_text("precious")
    monkeypatch.setattr(sys, "argv", ["make_demo_dataset.py", str(tmp_path)])
    assert demo.main() == 3
    assert "holds other files" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("fault", ["other seed", "file missing", "file added"])
def test_the_state_of_a_folder_is_told(tmp_path, fault):
    for file in (
        "dataset.json",
        *(
            f"{r}{p}/{demo.case_name(n)}.nii.gz"
            for r in ("images", "labels")
            for n, p in enumerate(["Tr"] + ["Ts"] * demo.N_HELD_OUT)
        ),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    (tmp_path / demo.MARKER).write_text(json.dumps(demo.marker(1, 0)))
    assert demo.folder_state(tmp_path, demo.marker(1, 0)) == "complete"
    if fault == "other seed":
        assert demo.folder_state(tmp_path, demo.marker(1, 5)) == "outdated"
    elif fault == "file missing":
        (tmp_path / "imagesTr" / "demo_001.nii.gz").unlink()
        assert demo.folder_state(tmp_path, demo.marker(1, 0)) == "outdated"
    else:
        (tmp_path / "notes.txt").write_text("mine")
        assert demo.folder_state(tmp_path, demo.marker(1, 0)) == "foreign"


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "make_case", interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.make_dataset(tmp_path / "dataset", n_cases=1)
    assert list(tmp_path.iterdir()) == []
