"""Cases as the audit sees them, built in memory with chosen facts and voxels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import (
    CaseFingerprint,
    CaseRecord,
    Channel,
    ChannelStatistics,
    DatasetManifest,
    FileFacts,
    LabelClass,
    Matrix4,
    StoredArray,
    Task,
)
from pipeline.audit.config import AuditConfig
from pipeline.audit.facts import DatasetFacts
from pipeline.audit.hits import PatchHits
from pipeline.audit.measure.case import measure_case
from pipeline.audit.view import CaseRow, CaseView, DatasetView, count_label_values
from pipeline.core.geometry import Geometry as Grid
from pipeline.core.geometry import orientation_of, reorient_geometry, reorientation_to_ras

# A dataset that calls for nothing but the usual settings.
USUAL_FACTS = DatasetFacts(
    names=("liver", "tumor"),
    shares=(0.02, 0.004),
    presence=(1.0, 1.0),
    mean_n_present=2.0,
    spacing_mm=(1.0, 1.0, 2.0),
    fine_spacing_mm=(0.8, 0.8, 1.0),
    is_anisotropic=False,
    median_shape=(200.0, 200.0, 100.0),
    class_voxels=(80_000.0, 9_000.0),
    channels=(("CT", "ct", -150.0, 250.0),),
    fewest_validation=("tumor", 20, 20),
    hits=(PatchHits((60, 60, 30), (0.9, 0.5), 8), PatchHits((128, 128, 64), (1.0, 0.9), 8)),
)

TASK = Task(
    channels=(Channel(name="T1", modality="mr"),),
    classes=(
        LabelClass(name="liver", index=1, source_values=(1,)),
        LabelClass(name="tumor", index=2, source_values=(2,)),
    ),
)
SPACING_MM = (1.0, 2.0, 3.0)


def task_of(*names: str) -> Task:
    classes = tuple(
        LabelClass(name=name, index=n, source_values=(n,)) for n, name in enumerate(names, 1)
    )
    return Task(channels=TASK.channels, classes=classes)


def matrix(affine: NDArray[np.floating]) -> Matrix4:
    a, b, c, d = (tuple(float(x) for x in row) for row in affine)
    return (a, b, c, d)  # type: ignore[return-value]  # four rows of four


def affine(spacing_mm: tuple[float, float, float] = SPACING_MM) -> NDArray[np.float64]:
    return np.diag([*spacing_mm, 1.0])


def facts(
    file: str, shape: tuple[int, ...], at: NDArray[np.float64] | None = None, **changes: Any
) -> FileFacts:
    placed = affine() if at is None else at
    known: dict[str, Any] = {
        "file": file,
        "n_bytes": 1000,
        "format": "nifti1",
        "dtype": "uint8",
        "shape": shape,
        "affine": matrix(placed),
        "affine_source": "sform",
        "pixdim_mm": tuple(float(s) for s in np.linalg.norm(placed[:3, :3], axis=0)),
        "sform_code": 1,
        "qform_code": 0,
        "sform": matrix(placed),
        "qform": None,
        "scl_slope": None,
        "scl_inter": None,
    }
    return FileFacts(**(known | changes))


def stored(name: str, array: NDArray[Any], at: NDArray[np.float64], content: str) -> StoredArray:
    i, j, k = array.shape[-3:]
    grid = Grid((i, j, k), at)
    turned = reorient_geometry(grid, reorientation_to_ras(at))
    return StoredArray(
        file=f"{name}.npy",
        dtype=array.dtype.name,
        shape=(*array.shape[:-3], *turned.shape),
        affine=matrix(turned.affine),
        source_orientation=orientation_of(at),
        content_hash=content,
    )


def record(
    label: NDArray[Any],
    case_id: str = "case_000",
    *,
    image: NDArray[Any] | None = None,
    label_at: NDArray[np.float64] | None = None,
    image_changes: dict[str, Any] | None = None,
    label_changes: dict[str, Any] | None = None,
) -> CaseRecord:
    """A case on a RAS grid; `label_at` puts only the label elsewhere."""
    picture = image_of(label.shape) if image is None else image
    at = affine() if label_at is None else label_at
    return CaseRecord(
        case_id=case_id,
        status="ready",
        image_files=(facts("image.nii", picture.shape[-3:], **(image_changes or {})),),
        label_file=facts("label.nii", label.shape, at, **(label_changes or {})),
        image=stored("image", picture, affine(), f"image {picture.tobytes()!r}"),
        label=stored("label", label, at, f"label {label.tobytes()!r}"),
    )


def image_of(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(100.0, 10.0, (1, *shape))
    return noise.astype(np.float32)


def label_of(shape: tuple[int, int, int] = (10, 12, 14)) -> NDArray[np.uint8]:
    label = np.zeros(shape, dtype=np.uint8)
    label[2:5, 2:6, 3:8] = 1
    label[6:8, 7:9, 4:9] = 2
    return label


def view(
    label: NDArray[Any], image: NDArray[Any] | None = None, *, task: Task = TASK, **changes: Any
) -> CaseView:
    picture = image_of(label.shape) if image is None else image
    return CaseView(
        record(label, image=picture, **changes), task, picture, label, count_label_values(label)
    )


def row(case_id: str, counts: tuple[int, ...], n_voxels: int = 1000) -> CaseRow:
    """A row without findings and fingerprint."""
    values = (0, *(n for n, count in enumerate(counts, 1) if count))
    return CaseRow(
        case_id=case_id,
        findings=(),
        fingerprint=None,
        n_voxels=n_voxels,
        n_class_voxels=counts,
        label_values=values,
    )


def usable_row(
    case_id: str,
    counts: tuple[int, ...] = (100, 50),
    *,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    shape: tuple[int, int, int] = (100, 100, 100),
    mean: float = 50.0,
) -> CaseRow:
    """A row of a case that can be trained on."""
    statistics = ChannelStatistics(n_voxels=10, mean=mean, std=5.0, quantiles=())
    fingerprint = CaseFingerprint(
        case_id=case_id,
        shape=shape,
        spacing_mm=spacing_mm,
        foreground=(statistics,),
        nonzero_fraction=1.0,
        n_class_voxels=counts,
    )
    return row(case_id, counts).model_copy(update={"fingerprint": fingerprint})


def dataset(rows: list[CaseRow], cases: list[CaseRecord], task: Task = TASK) -> DatasetView:
    manifest = DatasetManifest(
        name="Set",
        root=Path("/data/Set"),
        layout="decathlon",
        layout_reason="images in imagesTr/",
        task=task,
        cases=tuple(cases),
        digest="0" * 16,
    )
    return DatasetView(manifest, tuple(rows))


def measured_dataset(
    labels: list[NDArray[Any]],
    task: Task = TASK,
    *,
    images: list[NDArray[Any]] | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> DatasetView:
    """Cases case_000, case_001, ... with these labels, measured as the audit does it."""
    at = affine(spacing_mm)
    pictures = images or [np.zeros((1, *label.shape), np.int16) for label in labels]
    records, rows = [], []
    for n, (label, picture) in enumerate(zip(labels, pictures, strict=True)):
        known = record(label, f"case_{n:03d}", image=picture, label_at=at)
        seen = CaseView(known, task, picture, label, count_label_values(label))
        measures = measure_case(seen, AuditConfig())
        counts = tuple(int((label == c.index).sum()) for c in task.classes)
        plain = row(known.case_id, counts, label.size)
        records.append(known)
        rows.append(plain.model_copy(update={"measures": measures}))
    return dataset(rows, records, task)
