"""Planted faults through the real ingest and audit: each must be named, and nothing else."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from phantoms import write_dataset, write_nifti
from scipy import ndimage

from pipeline.artifacts import Findings
from pipeline.audit.config import AuditConfig
from pipeline.audit.stage import audit
from pipeline.core.task import TaskConfig
from pipeline.core.tracker import NullTracker
from pipeline.core.workspace import Workspace
from pipeline.ingest.config import IngestConfig
from pipeline.ingest.stage import ingest

Found = set[tuple[str, str]]
Array = NDArray[np.generic]

N_CASES = 6
QUICK = AuditConfig(max_pictures=0)  # pictures have their own tests
# Byte offsets in the NIfTI-1 header.
PIXDIM, SCL_SLOPE, QFORM_CODE, SFORM_CODE, QOFFSET_X, SROW_X = 76, 112, 252, 254, 268, 280


def run_audit(data_dir: Path, work_dir: Path, config: AuditConfig | None = None) -> Findings:
    workspace = Workspace(work_dir)
    ingest(IngestConfig(), TaskConfig(), data_dir, workspace, NullTracker())
    return audit(config or QUICK, workspace, NullTracker())


def loud(findings: Findings) -> Found:
    """Errors and warnings; information is not a fault."""
    return {(f.check_id, f.severity) for f in findings.findings if f.severity != "info"}


def image_file(folder: Path, number: int = 1) -> Path:
    return folder / "imagesTr" / f"case_{number:03d}.nii.gz"


def label_file(folder: Path, number: int = 1) -> Path:
    return folder / "labelsTr" / f"case_{number:03d}.nii.gz"


def read(file: Path) -> tuple[Array, NDArray[np.float64]]:
    image = nib.load(file)
    return np.asanyarray(image.dataobj).copy(), np.array(image.affine)


def rewrite(file: Path, change: Callable[[Array], Array]) -> None:
    """Change the voxels of a file and keep its affine."""
    array, affine = read(file)
    write_nifti(file, change(array), affine)


def move(file: Path, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
    """Change the affine of a file and keep its voxels."""
    array, affine = read(file)
    write_nifti(file, array, change(affine))


def patch(file: Path, offset: int, form: str, *values: float) -> None:
    """Change single header fields, leaving everything else as it is."""
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into("<" + form, content, offset, *values)
    file.write_bytes(gzip.compress(bytes(content), mtime=0))


def with_patch_of(value: int, n: int) -> Callable[[Array], Array]:
    def change(label: Array) -> Array:
        changed = label.copy()
        changed[2 : 2 + n, 2, 2] = value
        return changed

    return change


def shifted(mm: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    return lambda affine: affine + np.array([[0, 0, 0, mm]] + [[0.0] * 4] * 3)


def mirrored_header(file: Path) -> None:
    """Let the header claim that i runs the other way over the same box."""
    array, affine = read(file)
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, array.shape[0] - 1
    write_nifti(file, array, affine @ flip)


def reordered(file: Path) -> None:
    """Store voxels and header in another orientation, both right."""
    array, affine = read(file)
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, array.shape[0] - 1
    write_nifti(file, array[::-1], affine @ flip)


def drop_codes(file: Path) -> None:
    patch(file, QFORM_CODE, "hh", 0, 0)


def truncate(file: Path) -> None:
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])


def flip_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1  # in the CRC, so that the voxels still decode
    file.write_bytes(bytes(raw))


def change_payload(file: Path, n_bytes: int) -> None:
    content = gzip.decompress(file.read_bytes())
    content = content + b"\0" * n_bytes if n_bytes > 0 else content[:n_bytes]
    file.write_bytes(gzip.compress(content, mtime=0))


def rescale(file: Path, slope: float) -> None:
    """Store values divided by a slope, so that readers see the same values as before."""
    rewrite(file, lambda a: np.round(a / slope).astype(a.dtype))
    patch(file, SCL_SLOPE, "ff", slope, 0.0)


def break_slope(file: Path, intercept: float) -> None:
    patch(file, SCL_SLOPE, "ff", 0.0, intercept)


def put(value: float, *, inside: bool, role: str) -> Callable[[Path], None]:
    def inject(folder: Path) -> None:
        label, _ = read(label_file(folder))
        places = np.argwhere(label > 0 if inside else label == 0)
        place = tuple(places[len(places) // 2])

        def change(array: Array) -> Array:
            changed = array.astype(np.float32)
            changed[place] = value
            return changed

        rewrite(image_file(folder) if role == "image" else label_file(folder), change)

    return inject


def one_class(folder: Path) -> None:
    """Turn the dataset into one with a single class, coded 0 and 1."""
    for number in range(N_CASES):
        rewrite(label_file(folder, number), lambda a: (a > 0).astype(np.uint8))
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] = {"0": "background", "1": "organ"}
    (folder / "dataset.json").write_text(json.dumps(description))


def recode(folder: Path, off: int, on: int) -> None:
    one_class(folder)
    rewrite(label_file(folder), lambda a: np.where(a > 0, on, off).astype(np.uint8))


def declare_ghost(folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"]["3"] = "ghost"
    (folder / "dataset.json").write_text(json.dumps(description))


def copy_case(folder: Path, source: int, target: int) -> None:
    shutil.copy(image_file(folder, source), image_file(folder, target))
    shutil.copy(label_file(folder, source), label_file(folder, target))


def shrink_class(folder: Path) -> None:
    """Leave one voxel of class 2 in every case."""

    def change(label: Array) -> Array:
        changed = label.copy()
        places = np.argwhere(label == 2)
        changed[label == 2] = 0
        changed[tuple(places[0])] = 2
        return changed

    for number in range(N_CASES):
        rewrite(label_file(folder, number), change)


def mixed_coding(folder: Path) -> None:
    """Without a description: three masks say 1, three say 255."""
    one_class(folder)
    for number in range(3):
        rewrite(label_file(folder, number), lambda a: (a * 255).astype(np.uint8))
    (folder / "dataset.json").unlink()


@dataclass(frozen=True)
class Fault:
    name: str
    inject: Callable[[Path], object]
    expected: Found
    also: frozenset[str] = frozenset()  # check ids that may speak up as well


FAULTS = [
    Fault(
        "image without label",
        lambda d: label_file(d).unlink(),
        {("F01", "error")},
        also=frozenset({"E12"}),
    ),
    Fault("text as gz", lambda d: label_file(d).write_text("hello " * 99), {("F02", "error")}),
    Fault("empty file", lambda d: image_file(d).write_bytes(b""), {("F02", "error")}),
    Fault("truncated gz", lambda d: truncate(image_file(d)), {("F03", "error")}),
    Fault("wrong CRC", lambda d: flip_bit(label_file(d)), {("F03", "error")}),
    Fault("voxels missing", lambda d: change_payload(label_file(d), -500), {("F04", "error")}),
    Fault("bytes too many", lambda d: change_payload(label_file(d), 64), {("F04", "warning")}),
    Fault(
        "complex numbers",
        lambda d: rewrite(image_file(d), lambda a: a.astype(np.complex64)),
        {("F05", "error")},
    ),
    Fault(
        "label with a fourth axis of one",
        lambda d: rewrite(label_file(d), lambda a: a[..., None]),
        {("F06", "warning")},
    ),
    Fault(
        "label with two volumes",
        lambda d: rewrite(label_file(d), lambda a: np.stack([a == 1, a == 2], -1).astype("u1")),
        {("F06", "error")},
    ),
    Fault("label scaled", lambda d: rescale(label_file(d), 0.5), {("F07", "error")}),
    Fault("NaN outside", put(np.nan, inside=False, role="image"), {("F09", "error")}),
    Fault("NaN inside", put(np.nan, inside=True, role="image"), {("F09", "error")}),
    Fault("infinity inside", put(np.inf, inside=True, role="image"), {("F09", "error")}),
    Fault("NaN in label", put(np.nan, inside=False, role="label"), {("F09", "error")}),
    Fault(
        "constant image",
        lambda d: rewrite(image_file(d), lambda a: np.full_like(a, 40)),
        {("F10", "error")},
    ),
    Fault(
        "label two slices short",
        lambda d: rewrite(label_file(d), lambda a: a[:, :, 2:]),
        {("G01", "error")},
        also=frozenset({"G02"}),
    ),
    Fault(
        "label transposed",
        lambda d: rewrite(label_file(d), lambda a: a.transpose(1, 0, 2)),
        {("G01", "error")},
    ),
    Fault("label 15 mm away", lambda d: move(label_file(d), shifted(15.0)), {("G02", "error")}),
    Fault("label 0.1 mm away", lambda d: move(label_file(d), shifted(0.1)), {("G02", "warning")}),
    Fault(
        "pixdim against sform",
        lambda d: (
            patch(image_file(d), PIXDIM + 12, "f", 3.0),
            patch(image_file(d), QFORM_CODE, "h", 0),
        ),
        {("G03", "error")},
    ),
    Fault(
        "sform against qform",
        lambda d: patch(image_file(d), QOFFSET_X, "f", 99.0),
        {("G04", "warning")},
    ),
    Fault(
        "label without position",
        lambda d: drop_codes(label_file(d)),
        {("G05", "error")},
        also=frozenset({"G02", "G08"}),
    ),
    Fault(
        "pair without position",
        lambda d: (drop_codes(label_file(d)), drop_codes(image_file(d))),
        {("G05", "warning")},
    ),
    Fault(
        "affine of zeros",
        lambda d: (
            patch(label_file(d), SROW_X, "12f", *[0.0] * 12),
            patch(label_file(d), QFORM_CODE, "h", 0),
        ),
        {("G07", "error")},
    ),
    Fault(
        "label stored in another order",
        lambda d: reordered(label_file(d)),
        {("G08", "warning")},
    ),
    Fault("label header mirrored", lambda d: mirrored_header(label_file(d)), {("G08", "error")}),
    Fault(
        "unknown class",
        lambda d: rewrite(label_file(d), with_patch_of(7, 9)),
        {("E01", "error")},
    ),
    Fault(
        "one stray voxel",
        lambda d: rewrite(label_file(d), with_patch_of(9, 1)),
        {("E01", "error")},
    ),
    Fault("0 and 255", lambda d: recode(d, 0, 255), {("E02", "error")}),
    Fault("0 and 128", lambda d: recode(d, 0, 128), {("E02", "error")}),
    Fault("1 and 2", lambda d: recode(d, 1, 2), {("E02", "error")}, also=frozenset({"E09"})),
    Fault("1 here, 255 there", mixed_coding, {("E02", "error")}, also=frozenset({"E05"})),
    Fault(
        "interpolated label",
        lambda d: rewrite(
            label_file(d), lambda a: ndimage.gaussian_filter(a.astype(np.float32), 0.7)
        ),
        {("E03", "error")},
    ),
    Fault("class nowhere", declare_ghost, {("E05", "error")}),
    Fault(
        "image in the label folder",
        lambda d: shutil.copy(image_file(d), label_file(d)),
        {("E07", "error")},
    ),
    Fault(
        "empty label",
        lambda d: rewrite(label_file(d), np.zeros_like),
        {("E08", "warning")},
    ),
    Fault(
        "many empty labels",
        lambda d: [rewrite(label_file(d, n), np.zeros_like) for n in range(3)],
        {("E08", "warning"), ("E08", "error")},
        also=frozenset({"D02"}),
    ),
    Fault(
        "inverted mask",
        lambda d: (
            one_class(d),
            rewrite(label_file(d), lambda a: with_patch_of(0, 9)(np.ones_like(a))),
        ),
        {("E09", "error")},
    ),
    Fault("one voxel of a class", shrink_class, {("S02", "warning")}),
    Fault("one image twice", lambda d: copy_case(d, 0, 3), {("D01", "error")}),
    Fault(
        "one label for two images",
        lambda d: shutil.copy(label_file(d, 0), label_file(d, 2)),
        {("D02", "error")},
    ),
]


def bgzip(file: Path) -> None:
    """Several gzip members in one file, as bgzip and some cameras write."""
    content = gzip.decompress(file.read_bytes())
    pieces = [content[n : n + 4000] for n in range(0, len(content), 4000)]
    file.write_bytes(b"".join(gzip.compress(piece, mtime=0) for piece in pieces))


def uncompress_case(folder: Path) -> None:
    for file in (image_file(folder), label_file(folder)):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    description = folder / "dataset.json"
    description.write_text(description.read_text().replace("case_001.nii.gz", "case_001.nii"))


def strip_skull(folder: Path) -> None:
    """Nothing but the labelled structures is left: more than nine tenths zeros."""
    for number in range(N_CASES):
        label, _ = read(label_file(folder, number))
        rewrite(image_file(folder, number), lambda a, keep=label > 0: (a * keep).astype(np.int16))


HARMLESS: list[tuple[str, Callable[[Path], object]]] = [
    ("nothing", lambda d: None),
    ("bgzip", lambda d: bgzip(label_file(d))),
    ("uncompressed", uncompress_case),
    (
        "float noise in label",
        lambda d: rewrite(label_file(d), lambda a: a.astype(np.float32) + np.float32(1e-6)),
    ),
    ("64-bit label", lambda d: rewrite(label_file(d), lambda a: a.astype(np.float64))),
    ("slope on image", lambda d: rescale(image_file(d), 0.5)),
    ("slope of zero on label", lambda d: break_slope(label_file(d), 3.0)),
    (
        "affine noise",
        lambda d: move(label_file(d), lambda a: a + 1e-7 * np.ones((4, 4)) * (a != 0)),
    ),
    ("skull-stripped", strip_skull),
    (
        "class absent in a case",
        lambda d: rewrite(label_file(d), lambda a: np.where(a == 2, 0, a).astype(np.uint8)),
    ),
    ("no qform", lambda d: [patch(f(d), QFORM_CODE, "h", 0) for f in (image_file, label_file)]),
    ("no sform", lambda d: [patch(f(d), SFORM_CODE, "h", 0) for f in (image_file, label_file)]),
]


@pytest.fixture(scope="module")
def clean_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean") / "Phantoms", N_CASES, seed=1)


@pytest.fixture
def dataset_dir(clean_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_dataset, tmp_path / "Phantoms"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted_fault_is_named_and_nothing_else(
    fault: Fault, dataset_dir: Path, tmp_path: Path
) -> None:
    fault.inject(dataset_dir)
    findings = run_audit(dataset_dir, tmp_path / "work")
    found = loud(findings)
    assert fault.expected <= found
    assert {i for i, _ in found - fault.expected} <= fault.also
    assert all(f.message and f.fix for f in findings.findings)
    is_error = any(severity == "error" for _, severity in fault.expected)
    assert findings.verdict == ("errors" if is_error else "warnings")


@pytest.mark.parametrize("inject", [h[1] for h in HARMLESS], ids=[h[0] for h in HARMLESS])
def test_harmless_peculiarity_is_not_reported(
    inject: Callable[[Path], object], dataset_dir: Path, tmp_path: Path
) -> None:
    inject(dataset_dir)
    findings = run_audit(dataset_dir, tmp_path / "work")
    assert loud(findings) == set()
    assert findings.verdict == "clean"


def test_unreadable_case_is_listed_and_left_out_of_the_folds(
    dataset_dir: Path, tmp_path: Path
) -> None:
    truncate(image_file(dataset_dir))
    findings = run_audit(dataset_dir, tmp_path / "work")
    assert [f.case_id for f in findings.findings if f.check_id == "F03"] == ["case_001"]
    splits = json.loads((tmp_path / "work" / "audit" / "splits.json").read_text())
    ids = {i for fold in splits["folds"] for i in fold["validation"]}
    assert ids == {f"case_{n:03d}" for n in range(N_CASES)} - {"case_001"}


def test_clean_hippocampus_subset_has_no_errors(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "Task04_Hippocampus"
    findings = run_audit(copy_subset(source, tmp_path / "Hippocampus", 20), tmp_path / "work")
    assert findings.verdict == "clean"


def test_partial_labels_are_no_errors(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "OpenKBP_HeadNeck"
    findings = run_audit(copy_subset(source, tmp_path / "Neck", 8), tmp_path / "work")
    assert not {i for i, severity in loud(findings) if severity == "error"}
    assert ("E05", "warning") in loud(findings)


def copy_subset(source: Path, target: Path, n_cases: int) -> Path:
    """The first cases of a real dataset, with a description that lists only them."""
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = description["training"][:n_cases]
    description["numTraining"] = n_cases
    for pair in description["training"]:
        for name in pair.values():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    (target / "dataset.json").write_text(json.dumps(description))
    return target
