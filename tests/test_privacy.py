"""Identifiers planted in headers, free text and names must not reach anything that is written."""

import gzip
import json
import re
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its usual name
from phantoms import affine_of, ball, write_dataset

# Spelled like nothing else; each in a place of its own, so that a leak says where it comes from.
NIFTI = ("Descrip1937", "Auxfile1937", "Intent1937", "Dbname1937", "Comment1937")
NRRD = ("Nrrdkey1937", "Nrrdcontent1937", "Nrrdremark1937")
TEXT = ("Setname1937", "Setremark1937", "Settitle1937")
NAMES = ("Musterfrau", "Musterkind")

QUICK = [
    *("--set", "train.steps=4", "--set", "train.device=cpu", "--set", "train.n_validations=2"),
    *("--set", "train.patch_size=[16,16,16]", "--set", "train.network.base_features=4"),
    *("--set", "train.network.max_features=8", "--set", "audit.max_pictures=2"),
]


def planted_nifti(file: Path) -> None:
    volume = nib.load(file)
    header = volume.header.copy()
    for field, text in zip(("descrip", "aux_file", "intent_name", "db_name"), NIFTI, strict=False):
        header[field] = text.encode()
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", NIFTI[4].encode()))
    content = nib.Nifti1Image(np.asarray(volume.dataobj), volume.affine, header).to_bytes()
    assert all(text.encode() in content for text in NIFTI)
    file.write_bytes(gzip.compress(content))


def as_nrrd(file: Path) -> None:
    """Replace a NIfTI image by the same voxels as NRRD, with text in every place that takes it."""
    volume = nib.load(file)
    image = sitk.ReadImage(file)
    target = file.with_name(file.name.replace(".nii.gz", ".nrrd"))
    image.SetMetaData("Patient", NRRD[0])
    for key in image.GetMetaDataKeys():
        if key != "Patient":
            image.EraseMetaData(key)
    sitk.WriteImage(image, target)
    raw = target.read_bytes()
    magic, rest = raw.split(b"\n", 1)
    target.write_bytes(
        b"\n".join((magic, f"# {NRRD[2]}".encode(), f"content: {NRRD[1]}".encode(), rest))
    )
    assert volume.shape == image.GetSize()
    file.unlink()


def planted_dataset(folder: Path, n_cases: int, seed: int, *, names: bool = False) -> Path:
    """A phantom dataset whose every header, description and, if asked for, name says who it is."""
    write_dataset(folder, n_cases, seed)
    files = sorted(folder.rglob("*.nii.gz"))
    for file in files:
        planted_nifti(file)
    as_nrrd(folder / "imagesTr" / "case_000.nii.gz")
    description = folder / "dataset.json"
    content = json.loads(description.read_text())
    content |= dict(zip(("name", "description", "reference"), TEXT, strict=True))
    if names:
        for file in sorted(folder.glob("*Tr/*")):
            file.rename(file.with_name(file.name.replace("case", NAMES[0])))
        content["training"] = json.loads(json.dumps(content["training"]).replace("case", NAMES[0]))
    description.write_text(json.dumps(content))
    return folder


def leaks(folder: Path, texts: tuple[str, ...], *, but: str = "$^") -> list[str]:
    """Which of the texts stand in the name or the (unpacked) content of which file."""
    pattern = re.compile("|".join(texts).encode(), re.IGNORECASE)
    found = []
    for file in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = file.relative_to(folder).as_posix()
        if re.search(but, name):
            continue
        content = name.encode() + b"\n" + b"\n".join(contents(file))
        found += sorted({f"{name}: {match.decode()}" for match in pattern.findall(content)})
    return found


def contents(file: Path) -> list[bytes]:
    raw = file.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        return [gzip.decompress(raw)]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return [raw, *(archive.read(name) for name in archive.namelist())]
    # What a data base or a table escapes must be found as well.
    return [raw, raw.replace(b"\x00", b"")]


def damage(folder: Path) -> None:
    """A file that cannot be read, an image without a label and a label without an image."""
    label = next(iter(sorted((folder / "labelsTr").iterdir())))
    (folder / "imagesTr" / f"{NAMES[1]}_1.nii.gz").write_bytes(b"no volume")
    (folder / "labelsTr" / f"{NAMES[1]}_1.nii.gz").write_bytes(label.read_bytes())
    (folder / "imagesTr" / f"{NAMES[1]}_2.nii.gz").write_bytes(b"no volume")
    (folder / "labelsTr" / f"{NAMES[1]}_3.nii.gz").write_bytes(label.read_bytes())


def test_a_leak_would_be_found(tmp_path):
    data = planted_dataset(tmp_path / "set", 2, 0, names=True)
    found = " ".join(leaks(data, (*NIFTI, *NRRD, *TEXT, *NAMES)))
    assert all(text in found for text in (*NIFTI, *NRRD, *TEXT, NAMES[0]))


@pytest.mark.slow
def test_what_headers_say_about_people_reaches_no_file(voxline, tmp_path):
    data = planted_dataset(tmp_path / "set", 5, 0)
    others = planted_dataset(tmp_path / "others", 2, 9)
    output = ""
    for command in (
        ("audit", "--data", data, "--work", "runs/w"),
        ("train", "--work", "runs/w", "--verbose", *QUICK),
        ("infer", "--data", others, "--work", "runs/w"),
        ("evaluate", "--data", others, "--work", "runs/w"),
    ):
        status, out, err = voxline(*command)
        assert status in {0, 1}, err
        output += out + err
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert leaks(tmp_path / "runs", (*NIFTI, *NRRD, *TEXT)) == []
    assert not re.search("|".join((*NIFTI, *NRRD, *TEXT)), output)


@pytest.mark.slow
def test_pseudonyms_replace_names_in_every_file(voxline, tmp_path):
    data = planted_dataset(tmp_path / "set", 5, 0, names=True)
    others = planted_dataset(tmp_path / "others", 2, 9, names=True)
    damage(data)
    damage(others)
    output = ""
    for expected, command in (
        # Names of damaged files must not be shown either.
        ({2}, ("ingest", "--data", data, "--work", "runs/w", "--pseudonymize")),
        ({2}, ("audit", "--work", "runs/w")),
        ({0, 1}, ("train", "--work", "runs/w", "--verbose", *QUICK)),
        ({2}, ("infer", "--data", others, "--work", "runs/w")),
        ({2}, ("evaluate", "--data", others, "--work", "runs/w")),
    ):
        if command[0] == "train":
            for file in data.glob(f"*Tr/{NAMES[1]}*"):
                file.unlink()
        status, out, err = voxline(*command)
        assert status in expected, err
        output += out + err
    work = tmp_path / "runs" / "w"
    assert leaks(tmp_path / "runs", NAMES, but="^w/pseudonyms(/|.csv$)") == []
    assert not re.search("|".join(NAMES), output)
    predicted = sorted(file.name for file in (work / "infer/others/predictions").iterdir())
    assert len(predicted) == 2
    assert all(re.fullmatch(r"case_00(0[7-9]|1[0-9])\.nii\.gz", name) for name in predicted)
    assert (work / "pseudonyms.csv").stat().st_mode & 0o777 == 0o600
    assert (work / "pseudonyms").stat().st_mode & 0o777 == 0o700
    table = (work / "pseudonyms.csv").read_text()
    assert "Musterfrau_003,set" in table
    assert "Musterfrau_001,others" in table
    scores = (work / "evaluate/others/scores.csv").read_text()
    assert all(name.removesuffix(".nii.gz") in scores for name in predicted)


def test_dicom_tags_and_names_reach_no_file(voxline, tmp_path):
    dicom = pytest.importorskip("dicom_phantoms", exc_type=ImportError)
    rng = np.random.default_rng(0)
    shape = (12, 14, 8)
    affine = affine_of(shape, (2.0, 2.0, 2.5), "LPS")
    texts = (dicom.PLANTED_TEXT, dicom.PLANTED_DATE, dicom.PLANTED_UID, *NAMES)
    for number in range(3):
        image = rng.integers(0, 900, shape).astype(np.int16)
        slices = dicom.series_slices(image, affine)
        for one in slices:
            dicom.plant_identifiers(one)
        dicom.replace_uids(slices)
        dicom.save(tmp_path / f"set/images/{NAMES[0]}_{number}", slices, NAMES[0] + "_{:03d}.dcm")
        label = ball(shape, (6, 7, 4), 2 + number).astype(np.uint8)
        file = tmp_path / f"set/labels/{NAMES[0]}_{number}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(gzip.compress(nib.Nifti1Image(label, affine).to_bytes()))
    off = ("--set", "tracking.enabled=false")
    status, out, err = voxline("ingest", "--data", "set", "--pseudonymize", *off)
    assert status == 0, err
    assert voxline("audit", "--work", "runs/set", *off)[0] in {0, 1, 2}
    manifest = json.loads((tmp_path / "runs/set/ingest/dataset.json").read_text())
    facts = manifest["cases"][0]["image_files"][0]
    assert facts["format"] == "dicom"
    assert facts["file"] == "case_0001/image"
    assert leaks(tmp_path / "runs", texts, but="^set/pseudonyms(/|.csv$)") == []
    assert not re.search("|".join(texts), out + err)
