"""Pictures for the report: findings where they are, and cases as they look."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Real
from scipy import ndimage

from pipeline.artifacts import CaseRecord, Finding, StoredArray, Task
from pipeline.audit.catalog import title_of
from pipeline.core.geometry import Shape3, spacing_of
from pipeline.io.store import open_array
from pipeline.reporting.pictures import as_data_uri, overlay_figure

# Undeclared values drawn in their own color; a label with more is shown without the rest.
_MAX_UNDECLARED = 6
_KINDS = {"error": "bad", "warning": "warn", "info": "info"}


@dataclass(frozen=True)
class Picture:
    """One picture with its text.

    Args:
        heading: Case and check.
        kind: Badge color name, as in macros.html.j2.
        badge: Badge text.
        message: What is seen.
        fix: What to do, may be empty.
        uri: The PNG as a data address.
    """

    heading: str
    kind: str
    badge: str
    message: str
    fix: str
    uri: str


def picture_finding(finding: Finding, record: CaseRecord, task: Task, work_root: Path) -> Picture:
    """Show a finding where it is, or the middle of the label if it has no place.

    Args:
        finding: A finding of this case.
        record: The case; its image must be stored.
        task: Declared classes.
        work_root: Folder the stored paths are relative to.

    Returns:
        The picture.
    """
    place = finding.evidence.get("voxel_ras")
    point = (place[0], place[1], place[2]) if isinstance(place, tuple) else None
    return Picture(
        heading=f"{finding.check_id} {title_of(finding.check_id)}: {record.case_id}",
        kind=_KINDS[finding.severity] if finding.waived is None else "plain",
        badge=finding.severity if finding.waived is None else "waived",
        message=finding.message,
        fix=finding.fix if finding.waived is None else f"Waived: {finding.waived}",
        uri=_overlay(record, task, work_root, point),
    )


def picture_case(record: CaseRecord, task: Task, work_root: Path, note: str) -> Picture:
    """Show a case through the middle of its label.

    Args:
        record: The case; its image must be stored.
        task: Declared classes.
        work_root: Folder the stored paths are relative to.
        note: Why this case is shown.

    Returns:
        The picture.
    """
    uri = _overlay(record, task, work_root, None)
    return Picture(record.case_id, "plain", note, "", "", uri)


def _overlay(record: CaseRecord, task: Task, work_root: Path, point: Shape3 | None) -> str:
    stored = record.image
    if stored is None:
        raise ValueError(f"case {record.case_id} has no stored image")
    image = open_array(work_root, stored)[0]
    label, names = np.zeros(image.shape, dtype=np.uint16), task.class_names
    if record.label is not None:
        indices, names = _class_indices(open_array(work_root, record.label), task)
        label = place_on_grid(indices, record.label, stored)
    png = overlay_figure(
        image,
        label=label,
        reference=None,
        spacing_mm=spacing_of(np.array(stored.affine, dtype=np.float64)),
        class_names=names,
        point=point,
    )
    return as_data_uri(png)


def _class_indices(
    label: Real[np.ndarray, "i j k"], task: Task
) -> tuple[Integer[np.ndarray, "i j k"], tuple[str, ...]]:
    """Class indices of a label that may be faulty; undeclared values get indices of their own."""
    integers = np.rint(np.nan_to_num(label)) if label.dtype.kind == "f" else label
    found = [int(v) for v in np.unique(integers)]
    strange = [v for v in found if v not in task.declared_values][:_MAX_UNDECLARED]
    names = (*task.class_names, *(f"undeclared {value}" for value in strange))
    groups = [*(c.source_values for c in task.classes), *((value,) for value in strange)]
    indices = np.zeros(label.shape, dtype=np.uint16)
    for index, values in enumerate(groups, start=1):
        indices[np.isin(integers, values)] = index
    return indices, names


def place_on_grid(
    label: Integer[np.ndarray, "i j k"], stored: StoredArray, target: StoredArray
) -> Integer[np.ndarray, "i2 j2 k2"]:
    """Show a label where its own header puts it on the grid of an image.

    A label whose header disagrees with the image must look shifted in a picture, not aligned.

    Args:
        label: Class indices, shape (i, j, k).
        stored: The record of the label, for its affine.
        target: The record of the image.

    Returns:
        Nearest label values at the voxels of the image; 0 outside the label.
    """
    label_affine = np.array(stored.affine, dtype=np.float64)
    image_affine = np.array(target.affine, dtype=np.float64)
    shape = target.shape[-3:]
    if label.shape == shape and np.allclose(label_affine, image_affine, atol=1e-3):
        return label
    to_label = np.linalg.inv(label_affine) @ image_affine
    return ndimage.affine_transform(
        label, to_label[:3, :3], to_label[:3, 3], output_shape=shape, order=0, mode="constant"
    )
